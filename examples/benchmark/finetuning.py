"""Updates of stage 3: ours beside fairseq's s2t_conformer, and the encoder free, frozen, stored.

    python -m examples.benchmark.finetuning [--pairs 20] [--seconds 8] [--batch 4] [--tokens 40]

An update is forward, loss, backward, clipping and Adam, by fairseq's own ``train_step``, on one
batch over and over. Models have the same sizes and dropout. fairseq's has no CTC head, so the first
comparison is without; the encoder's are with the CTC term, as stage 3 is trained.
"""

import argparse
from argparse import Namespace
from collections.abc import Callable

import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.data import Dictionary
from fairseq.optim.adam import FairseqAdam, FairseqAdamConfig
from fairseq.tasks import FairseqTask
from omegaconf import OmegaConf
from torch import nn

from examples.benchmark.models import FRAMES, build_fairseqs, build_ours, parse, vocabulary
from examples.benchmark.timing import machine, paired
from mmpt_fairseq.criterions.label_smoothed_cross_entropy import ManifestLabelSmoothedCrossEntropy
from mmpt_fairseq.modules.conformer import subsampled

CLIP = 10.0  # largest norm of the gradient, as in fairseq's recipes


def batch_of(args: argparse.Namespace, dictionary: Dictionary, frames: int, width: int) -> dict:
    """A batch in fairseq's form: ``(B, T, F)`` noise and random pieces."""
    generator = torch.Generator().manual_seed(args.seed)
    tokens = torch.randint(
        dictionary.nspecial, len(dictionary), (args.batch, args.tokens), generator=generator
    )
    eos = torch.full((args.batch, 1), dictionary.eos())
    return {
        "ntokens": tokens.numel() + args.batch,
        "target": torch.cat([tokens, eos], 1),
        "ctc_target": tokens,
        "ctc_target_lengths": torch.full((args.batch,), args.tokens),
        "net_input": {
            "src_tokens": torch.randn(args.batch, frames, width, generator=generator),
            "src_lengths": torch.full((args.batch,), frames),
            "prev_output_tokens": torch.cat([eos, tokens], 1),
        },
    }


def update_of(model: nn.Module, criterion: nn.Module, batch: dict) -> Callable[[], None]:
    """One update as fairseq's trainer makes it."""
    settings = FairseqAdamConfig(lr=[1e-4], adam_betas="(0.9, 0.98)", tpu=False)
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimizer = FairseqAdam(OmegaConf.create(vars(settings)), learnt)
    task = FairseqTask(Namespace())

    def update() -> None:
        _, size, _ = task.train_step(batch, model, criterion, optimizer, 1)
        optimizer.multiply_grads(1 / size)
        optimizer.clip_grad_norm(CLIP)
        optimizer.step()
        optimizer.zero_grad()

    return update


def build_updates(args: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """Name -> one update of it."""
    dictionary = vocabulary(args)
    frames = round(args.seconds * FRAMES)
    sound = batch_of(args, dictionary, frames, 80)
    states = batch_of(args, dictionary, subsampled(frames), args.width)
    task = Namespace(target_dictionary=dictionary)
    attention = LabelSmoothedCrossEntropyCriterion(task, False, 0.1, report_accuracy=True)
    both = ManifestLabelSmoothedCrossEntropy(task, False, 0.1, 0, True, 0.3)
    frozen = [build_ours(args, dictionary, freeze_encoder=True) for _ in range(2)]
    frozen[1].encoder.given_states = True
    return {
        "fairseq's": update_of(build_fairseqs(args, dictionary), attention, sound),
        "ours": update_of(build_ours(args, dictionary, ctc=False), attention, sound),
        "free": update_of(build_ours(args, dictionary), both, sound),
        "frozen": update_of(frozen[0], both, sound),
        "stored": update_of(frozen[1], both, states),
    }


def main() -> None:
    """Print a table."""
    args = parse(__doc__.splitlines()[0], batch=4)
    updates = build_updates(args)
    print(f"{machine()}; {args.layers} x {args.width}, {args.batch} x {args.seconds:g} s")
    print(f"seconds an update, medians of {args.pairs} alternating pairs")
    for slow, fast, label in (
        ("fairseq's", "ours", "fairseq's s2t_conformer, ours without CTC"),
        ("free", "frozen", "encoder free, frozen"),
        ("free", "stored", "encoder free, its states stored"),
    ):
        found = paired(updates[slow], updates[fast], args.pairs, label, args.clock)
        print(f"{label}: {found.first:.3f}, {found.second:.3f}: {found.ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
