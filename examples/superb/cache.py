"""Precompute the states of a frozen upstream: ``python -m examples.superb.cache``.

    python -m examples.superb.cache runs/pretrained/checkpoint_best.pt data/superb/ks states/ks

Each clip's states of all layers ``(N, T, D)`` go into ``states/ks/<split>.zip`` as float16; the
manifests beside it point into it, and ``model.upstream=cached task.data=states/ks`` trains heads on
them. States of a finished split are kept, so that an interrupted run resumes; its labels are
updated from the data. An hour of audio takes 23 MB per layer at width 128 (25 states per second,
2 bytes per value).

``--mean`` stores each layer's mean over time instead, in float32. The heads of keyword spotting and
intent classification are linear up to their own mean over time, so that they give the same logits,
and training takes seconds.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np
import torch

from manifests.common import atomic_path
from manifests.errors import InputError, UnreadableClip, command_line
from manifests.repoint import manifests_in
from manifests.states import copy_texts, store_split
from mmpt_fairseq.checkpoint import weights_digest
from mmpt_fairseq.data.audio import is_cached
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.superb_dataset import READERS
from mmpt_fairseq.models.upstreams import DESCRIPTION, open_upstream
from mmpt_fairseq.modules.upstreams import Upstream
from mmpt_fairseq.tasks.superb import SuperbConfig

LONGEST = SuperbConfig().max_source_positions


def store_states(name: str, data: Path, out: Path, seed: int = 1, mean: bool = False) -> None:
    """Store the states of all splits under ``data``, or their means over time.

    Args:
        seed: seed of an untrained encoder.

    Raises:
        InputError: there are no manifests or no such upstream, or ``out`` holds states of another
            upstream or of other clips.
    """
    manifests = [Manifest(path) for path in manifests_in(data)]
    for manifest in manifests:
        if manifest.path.stem != "train":
            check_lengths(manifest)
    torch.manual_seed(seed)
    upstream = open_upstream(name, data)
    description = {
        "upstream": name,
        "seed": seed,
        "layers": upstream.layers,
        "dim": upstream.dim,
        "stride": upstream.stride,
        "mean": mean,
        "weights": weights_digest(upstream),
    }
    path = out / DESCRIPTION
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else description
    if "weights" not in before:
        raise InputError(
            f"{out} was stored by an earlier version, perhaps from another upstream; remove it"
        )
    if before != description:
        raise InputError(
            f"{out} holds the states of another upstream, or of this one before it was trained "
            "further; remove it or give another folder"
        )
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(description, indent=1), encoding="utf-8")
    for file in data.glob("labels.txt"):
        (out / file.name).write_bytes(file.read_bytes())
    for manifest in manifests:
        stored = out / manifest.path.name
        if stored.is_file():
            copy_texts(manifest, Manifest(stored))
        else:
            store_split(manifest, out, partial(states_of_row, upstream, mean, manifest))


def check_lengths(manifest: Manifest) -> None:
    """Check that states of every clip can be stored, as an evaluation skips no row.

    Raises:
        InputError: a clip is longer than ``LONGEST`` frames.
    """
    longest = int(manifest.n_frames.argmax())
    if manifest.n_frames[longest] > LONGEST:
        raise InputError(
            f"{manifest.where(longest)} has {manifest.n_frames[longest]} frames of 10 ms; states "
            f"are stored of clips of up to {LONGEST}: cut it, or train without stored states "
            "(examples.superb.run --no-cache --override +task.max_source_positions=N)"
        )


def states_of(upstream: Upstream, source: str, mean: bool = False) -> np.ndarray:
    """States of one clip, ``(N, T, D)`` float16; or their mean over time, ``(N, 1, D)`` float32."""
    clip = torch.from_numpy(np.ascontiguousarray(READERS[upstream.reads](source)))
    with torch.no_grad():
        hidden = upstream(clip[None], torch.tensor([len(clip)]))
    states = hidden.states[0].numpy()
    return states.mean(axis=1, keepdims=True) if mean else states.astype(np.float16)


def source_of(upstream: Upstream, manifest: Manifest, row: int) -> str:
    """Input file of a row: upstreams that read waveforms cannot use cached filterbanks."""
    source = manifest.resolve("audio", row)
    if upstream.reads == "waveform" and is_cached(source):
        return manifest.resolve("recording", row)
    return source


def states_of_row(upstream: Upstream, mean: bool, manifest: Manifest, row: int) -> np.ndarray:
    """:func:`states_of` a row; rows beyond ``LONGEST`` frames raise UnreadableClip."""
    if int(manifest.n_frames[row]) > LONGEST:
        raise UnreadableClip(f"more than {LONGEST} frames of 10 ms")
    return states_of(upstream, source_of(upstream, manifest, row), mean)


def main(arguments: list[str] | None = None) -> None:
    """Command-line entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.superb.cache", description=__doc__.splitlines()[0]
    )
    parser.add_argument("upstream", help="fbank, random:CKPT or a checkpoint")
    parser.add_argument("data", type=Path, help="folder of the manifests")
    parser.add_argument("out", type=Path, help="folder of the states")
    parser.add_argument("--seed", type=int, default=1, help="seed of an untrained encoder")
    parser.add_argument(
        "--mean", action="store_true", help="store only each layer's mean over time"
    )
    args = parser.parse_args(arguments)
    with command_line():
        store_states(args.upstream, args.data, args.out, args.seed, args.mean)


if __name__ == "__main__":
    main()
