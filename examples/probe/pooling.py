"""One vector per clip, pooled over time from filterbanks or from an encoder's states.

    python -m examples.probe.pooling CHECKPOINT runs/probe/real OUT

Writes ``digits.npz`` and ``words.npz`` into OUT, with an array ``(clips, D)`` for every view of the
clips. A view is a layer and a pooling; classify.py selects one on validation data. CHECKPOINT may
also be ``random:CHECKPOINT``, the same encoder untrained, or ``filterbank``, whose views differ in
normalisation instead of layer.

The encoder's input is filterbanks normalised over the recording, as in training. A word is cut out
of them before the encoder, so that no state depends on its neighbours or its place in the sentence.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from manifests.common import atomic_path
from manifests.errors import InputError, command_line
from mmpt_fairseq.data.audio import FRAMES_PER_SECOND, Features, normalise, read_filterbank
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.segments import parse_segments
from mmpt_fairseq.models.upstreams import open_upstream
from mmpt_fairseq.modules.upstreams import Upstream

SEGMENTS = 4
BATCH = 64  # clips per batch of the encoder
FILTERBANK = "filterbank"

Vectors = NDArray[np.float32]


@dataclass
class Example:
    """A clip to classify: its log mel energies ``(T, F)``, label and group.

    Attributes:
        raw: log mel energies, not normalised.
        normalised: the same with zero mean and unit variance over the recording.
        group: the speaker of a digit, the split of a word.
    """

    raw: Features
    normalised: Features
    label: str
    group: str


def digits(manifests: Path) -> Iterator[Example]:
    """Every spoken digit, grouped by speaker."""
    manifest = Manifest(manifests / "digits" / "all.tsv")
    labels, speakers = manifest.column("tgt_text"), manifest.column("speaker")
    for row in range(len(manifest)):
        raw = read_filterbank(manifest.resolve("audio", row))
        yield Example(raw, normalise(raw), labels[row], speakers[row])


def words(manifests: Path) -> Iterator[Example]:
    """Every word of every sentence, grouped by the split of its sentence."""
    for split in ("train", "valid", "test"):
        manifest = Manifest(manifests / "words" / f"{split}.tsv", needs=["segments"])
        for row in range(len(manifest)):
            raw = read_filterbank(manifest.resolve("audio", row))
            normalised = normalise(raw)
            cell, where = manifest.column("segments")[row], manifest.where(row)
            for word, start, end in parse_segments(cell, where):
                first = min(round(start * FRAMES_PER_SECOND), len(raw) - 1)
                last = max(first + 1, round(end * FRAMES_PER_SECOND))
                yield Example(raw[first:last], normalised[first:last], word, split)


TASKS: dict[str, Callable[[Path], Iterator[Example]]] = {"digits": digits, "words": words}


def mean(x: Vectors) -> Vectors:
    """``(..., T, D)`` -> ``(..., D)``."""
    return x.mean(-2)


def mean_and_deviation(x: Vectors) -> Vectors:
    """``(..., T, D)`` -> ``(..., 2 D)``."""
    return np.concatenate([x.mean(-2), x.std(-2)], -1)


def segment_means(x: Vectors) -> Vectors:
    """``(..., T, D)`` -> ``(..., 4 D)``: means of four consecutive segments of equal length.

    A segment is the mean of the states that it overlaps, weighted by overlap, so that a clip of a
    single state has four equal segments.
    """
    length = x.shape[-2]
    edges = np.linspace(0, length, SEGMENTS + 1)
    starts = np.arange(length)
    overlap = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    weights = overlap.clip(min=0) * SEGMENTS / length  # (segments, T), rows sum to 1
    means = weights.astype(x.dtype) @ x
    return means.reshape(*means.shape[:-2], -1)


POOLINGS = {"mean": mean, "mean, std": mean_and_deviation, "4 segments": segment_means}


def filterbank_views(examples: Sequence[Example]) -> dict[str, Vectors]:
    """Views of log mel energies: raw, mean-subtracted over the clip, and normalised."""
    kinds = {
        "log mel": lambda e: e.raw,
        "log mel - mean": lambda e: e.raw - e.raw.mean(0),
        "normalised": lambda e: e.normalised,
    }
    return {
        f"{kind}, {name}": np.stack([pool(features(e)) for e in examples])
        for kind, features in kinds.items()
        for name, pool in POOLINGS.items()
        if (kind, name) != ("log mel - mean", "mean")  # always zero
    }


def open_encoder(system: str) -> Upstream:
    """Open an encoder of ours, trained or not.

    Raises:
        InputError: there is no such checkpoint, or its model reads waveforms.
    """
    upstream = open_upstream(system)
    if upstream.reads != FILTERBANK:
        raise InputError(
            f"{system} reads {upstream.reads}; give a checkpoint of this package instead"
        )
    return upstream


def encoded(upstream: Upstream, clips: Sequence[Features]) -> Iterator[tuple[int, Tensor]]:
    """Yield each clip's index and states ``(layers, N, D)``, short first; layer 0 is the input."""
    order = sorted(range(len(clips)), key=lambda i: len(clips[i]))
    for start in tqdm(range(0, len(order), BATCH), desc="encoded", unit="batch", leave=False):
        batch = order[start : start + BATCH]
        features = [torch.from_numpy(clips[i]) for i in batch]
        lengths = torch.tensor([len(clip) for clip in features])
        with torch.inference_mode():
            hidden = upstream(pad_sequence(features, batch_first=True), lengths)
        for states, length, i in zip(hidden.states, hidden.lengths, batch, strict=True):
            yield i, states[:, : int(length)]


def encoder_views(upstream: Upstream, examples: Sequence[Example]) -> dict[str, Vectors]:
    """Views of the encoder: the states of every layer under every pooling."""
    pooled: dict[str, dict[int, Vectors]] = {name: {} for name in POOLINGS}
    for i, states in encoded(upstream, [example.normalised for example in examples]):
        for name, pool in POOLINGS.items():
            pooled[name][i] = pool(states.numpy())  # (layers, D)
    return {
        f"layer {layer}, {name}": np.stack([vectors_of[i][layer] for i in range(len(examples))])
        for name, vectors_of in pooled.items()
        for layer in range(upstream.layers)
    }


def store(system: str, manifests: Path, out: Path, seed: int = 1) -> None:
    """Write the views of both tasks, with labels and groups, to ``out``.

    Raises:
        InputError: there is no such checkpoint, or a manifest is invalid.
    """
    torch.manual_seed(seed)
    upstream = None if system == FILTERBANK else open_encoder(system)
    for task, read in TASKS.items():
        examples = list(read(manifests))
        if upstream is None:
            views = filterbank_views(examples)
        else:
            views = encoder_views(upstream, examples)
        labels, groups = [e.label for e in examples], [e.group for e in examples]
        with atomic_path(out / f"{task}.npz") as partial, partial.open("wb") as file:
            np.savez(file, labels=labels, groups=groups, **views)


def main(arguments: list[str] | None = None) -> None:
    """Command-line entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.probe.pooling", description=__doc__.splitlines()[0]
    )
    parser.add_argument("system", help="checkpoint, random:CHECKPOINT or filterbank")
    parser.add_argument("manifests", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1, help="seed of an untrained encoder")
    args = parser.parse_args(arguments)
    with command_line():
        store(args.system, args.manifests, args.out, args.seed)


if __name__ == "__main__":
    main()
