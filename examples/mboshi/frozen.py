"""Probe frozen encoders on Mboshi: train a small CTC head on the features of each layer.

    python -m examples.mboshi.frozen runs/mboshi/seed1/pretrained/checkpoint_last.pt \
        random:runs/mboshi/seed1/pretrained/checkpoint_last.pt

prints, for every layer (0: the input of the first layer), bits per label and CER on the validation
utterances, and the effective rank of its features. This takes minutes per encoder, a third of a
fine-tuning; it need not rank encoders as stage 3 does, which also trains them.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from examples.probe.pooling import encoded, open_encoder
from manifests.errors import InputError, command_line
from mmpt_fairseq.data.audio import Features, normalise, read_filterbank
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.decoding.ctc import greedy_labels
from mmpt_fairseq.scoring import error_rates

BATCH = 16  # clips per batch of the head's training
WIDTH, KERNEL = 192, 7  # of the head's convolution over encoder frames (40 ms each)
RATE, WARMUP = 2e-3, 0.1


@dataclass
class Split:
    """Clips: log mel energies ``(T, F)`` of zero mean and unit variance, and transcripts."""

    features: list[Features]
    texts: list[str]

    @classmethod
    def read(cls, manifest: Manifest) -> "Split":
        paths = (manifest.resolve("audio", row) for row in range(len(manifest)))
        return cls(
            [normalise(read_filterbank(path)) for path in paths], list(manifest.column("tgt_text"))
        )


def effective_rank(states: Tensor) -> float:
    """Exponential of the entropy of the covariance's spectrum; ``states`` ``(N, D)``."""
    spectrum = torch.linalg.eigvalsh(torch.cov(states.T.double())).clamp(min=1e-12)
    p = spectrum / spectrum.sum()
    return float((-(p * p.log()).sum()).exp())


class Head(nn.Module):
    """A convolution over neighbouring frames and a projection to characters; label 0 is blank."""

    def __init__(self, dim: int, characters: str) -> None:
        super().__init__()
        self.characters = characters
        self.conv = nn.Conv1d(dim, WIDTH, KERNEL, padding=KERNEL // 2)
        self.output = nn.Linear(WIDTH, 1 + len(characters))

    def forward(self, states: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Clips ``(N, D)`` -> log probabilities ``(B, N, characters + 1)`` and lengths ``(B,)``."""
        lengths = torch.tensor([len(clip) for clip in states])
        x = F.dropout(pad_sequence(list(states), batch_first=True), 0.2, self.training)
        x = F.relu(self.conv(x.transpose(1, 2)).transpose(1, 2))
        return self.output(F.dropout(x, 0.3, self.training)).log_softmax(-1), lengths

    def bits(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        """CTC loss in bits per label; characters not seen in training are ignored."""
        labels = [[1 + self.characters.index(c) for c in t if c in self.characters] for t in texts]
        lprobs, lengths = self(states)
        counts = torch.tensor([len(row) for row in labels])
        flat = torch.tensor([label for row in labels for label in row])
        loss = F.ctc_loss(
            lprobs.transpose(0, 1), flat, lengths, counts, reduction="sum", zero_infinity=True
        )
        return loss / counts.sum() / math.log(2)

    def decode(self, states: Sequence[Tensor]) -> list[str]:
        """Greedy CTC hypotheses."""
        lprobs, lengths = self(states)
        hypotheses = greedy_labels(lprobs, lengths, blank=0)
        return ["".join(self.characters[label - 1] for label in labels) for labels in hypotheses]


def train_head(
    states: Sequence[Tensor], texts: Sequence[str], characters: str, epochs: int, seed: int
) -> Head:
    """Train a head on ``states`` ``(N, D)`` of the clips, in batches of clips of similar length."""
    torch.manual_seed(seed)
    head = Head(states[0].size(-1), characters)
    order = sorted(range(len(states)), key=lambda i: len(states[i]))
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, epochs * len(batches), pct_start=WARMUP
    )
    for _ in tqdm(range(epochs), desc="head", unit="epoch", leave=False):
        for i in torch.randperm(len(batches)).tolist():
            optimizer.zero_grad()
            head.bits([states[r] for r in batches[i]], [texts[r] for r in batches[i]]).backward()
            optimizer.step()
            schedule.step()
    return head.eval()


def probe(name: str, train: Split, valid: Split, epochs: int, seed: int) -> list[tuple]:
    """``(bits, CER in percent, effective rank)`` of every layer on ``valid``."""
    torch.manual_seed(seed)  # for an untrained encoder
    upstream = open_encoder(name)
    train_states, valid_states = (
        # Inference tensors cannot be used in autograd; their copies can.
        [
            states.clone()
            for _, states in sorted(encoded(upstream, split.features), key=itemgetter(0))
        ]
        for split in (train, valid)
    )
    characters = "".join(sorted(set("".join(train.texts))))
    rows = []
    for layer in range(upstream.layers):
        frames = torch.cat([clip[layer] for clip in train_states])
        mean, std = frames.mean(0), frames.std(0) + 1e-5
        train_x, valid_x = (
            [(c[layer] - mean) / std for c in clips] for clips in (train_states, valid_states)
        )
        head = train_head(train_x, train.texts, characters, epochs, seed)
        with torch.no_grad():
            bits, texts = float(head.bits(valid_x, valid.texts)), head.decode(valid_x)
        rank = effective_rank(torch.cat([clip[layer] for clip in valid_states]))
        rows.append((bits, error_rates(valid.texts, texts)["cer"], rank))
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Command-line entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.mboshi.frozen", description=__doc__.splitlines()[0]
    )
    parser.add_argument("encoders", nargs="+", help="checkpoints, or random:CHECKPOINT")
    parser.add_argument("--data", type=Path, default=Path("runs/mboshi/manifests/asr_few"))
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    with command_line():
        if args.epochs < 1:
            raise InputError(f"--epochs {args.epochs}: must be at least 1")
        splits = [Manifest(args.data / f"{s}.tsv", needs=["tgt_text"]) for s in ("train", "valid")]
        train, valid = (Split.read(manifest) for manifest in splits)
        print(
            "| encoder | layer | bits per label | CER % | effective rank |\n|---|---|---|---|---|"
        )
        for name in args.encoders:
            for layer, row in enumerate(probe(name, train, valid, args.epochs, args.seed)):
                bits, cer, rank = row
                print(f"| {name} | {layer} | {bits:.2f} | {cer:.1f} | {rank:.0f} |", flush=True)


if __name__ == "__main__":
    main()
