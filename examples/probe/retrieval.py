"""Which pictures belong to which sound? Retrieval among held-out clips of one length.

    python -m examples.probe.retrieval CHECKPOINT MANIFESTS OUT.json

All clips are cut to the same length, so that it tells nothing; of MANIFESTS/test.tsv the first
``--clips`` that are long enough are the candidates. A partner is found when it is the nearest of
all. ``energy`` instead of a checkpoint is a baseline that knows loudness alone: sound energy over
time is predicted, linearly, from the pictures' motion and brightness, as learnt on
MANIFESTS/train.tsv, and partners are those whose curves correlate most.

``--controls`` asks a checkpoint again, with one thing changed in the pictures or the sound of drawn
faces (controls.py): who finds by lips and their timing finds nobody without them.
"""

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from torch import Tensor
from tqdm import tqdm

import mmpt_fairseq
from examples.probe.controls import CONTROLS, Change, Changed
from manifests.common import atomic_path
from manifests.errors import InputError, command_line
from mmpt_fairseq.criterions.retrieval import partner_ranks
from mmpt_fairseq.data.audio import read_filterbank
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.video import read_frames
from mmpt_fairseq.tasks.av_pretraining import AVPretrainingTask

ENERGY = "energy"
LAGS = range(-3, 4)  # pictures before and after from which energy is predicted
PENALTY = 10.0
LEARNT_FROM = 200  # clips
BATCH = 20

Contour = NDArray[np.float64]


def candidates(manifest: Manifest, frames: int, clips: int) -> list[int]:
    """The first ``clips`` rows that last ``frames``.

    Raises:
        InputError: there are fewer.
    """
    rows = [row for row in range(len(manifest)) if manifest.n_frames[row] >= frames]
    if len(rows) < clips:
        raise InputError(
            f"{manifest.path} has {len(rows)} clips of {frames} frames or more, not {clips}; ask "
            "for fewer --clips or --frames"
        )
    return rows[:clips]


def as_they_are(pictures: Tensor, sound: Tensor) -> Changed:
    return pictures, sound


def embeddings(
    checkpoint: str, folder: Path, frames: int, clips: int, changes: Sequence[Change]
) -> list[tuple[Tensor, Tensor]]:
    """For each of ``changes`` unit vectors of sound and of pictures, ``(clips, D)`` each.

    Raises:
        InputError: no checkpoint of stage 1, or too few clips.
    """
    loaded = mmpt_fairseq.load(checkpoint)
    task = loaded.task
    if not isinstance(task, AVPretrainingTask):
        raise InputError(f"{checkpoint} is not of stage 1, whose model alone sees pictures")
    if loaded.model.contrast_masked:
        raise InputError(
            f"{checkpoint} has learnt to contrast masked clips (model.contrast_masked=true), and "
            "whole ones are compared here"
        )
    task.cfg.data, task.cfg.max_audio_frames = str(folder), frames
    task.cfg.decodes_with = str(checkpoint)  # tells the task that nothing is trained on
    task.load_dataset("test")
    dataset = task.dataset("test")
    rows = candidates(dataset.manifest, frames, clips)
    sound, pictures = ([[] for _ in changes] for _ in range(2))
    for start in tqdm(range(0, clips, BATCH), desc="embedded", unit="batch", leave=False):
        batch = dataset.collater([dataset[row] for row in rows[start : start + BATCH]])["net_input"]
        for i, change in enumerate(changes):
            seen, heard = change(batch["video"], batch["audio_unmasked"])
            with torch.inference_mode():
                found = loaded.model.embed(heard, batch["audio_lengths"], seen)
            sound[i].append(found.audio)
            pictures[i].append(found.video)
    return [(torch.cat(s), torch.cat(p)) for s, p in zip(sound, pictures, strict=True)]


def contours(manifest: Manifest, row: int, frames: int) -> tuple[Contour, Contour]:
    """Log energy at each picture ``(T,)``, and what pictures tell of it ``(T, lags x 2)``."""
    pictures = round(int(manifest.video_frames[row]) * frames / int(manifest.n_frames[row]))
    energy = read_filterbank(manifest.resolve("audio", row))[:frames].mean(1)
    ends = np.linspace(0, len(energy), pictures + 1).round().astype(int)
    loud = np.array([energy[a:b].mean() for a, b in itertools.pairwise(ends)])
    seen = read_frames(manifest.resolve("video", row), np.arange(pictures)).astype(np.float32)
    motion = np.abs(np.diff(seen, axis=0, prepend=seen[:1])).mean((1, 2, 3))
    bright = seen.mean((1, 2, 3))
    cues = np.stack([_standard(motion), _standard(bright)], 1)
    return _standard(loud), np.concatenate([_shifted(cues, lag) for lag in LAGS], 1)


def energy_baseline(folder: Path, frames: int, clips: int) -> tuple[Tensor, Tensor]:
    """As one of :func:`embeddings`: contours of energy, heard and predicted from the pictures."""
    train, test = Manifest(folder / "train.tsv"), Manifest(folder / "test.tsv")
    long = [r for r in range(len(train)) if train.n_frames[r] >= frames and train.video_frames[r]]
    learnt = [contours(train, row, frames) for row in tqdm(long[:LEARNT_FROM], leave=False)]
    if not learnt:
        raise InputError(f"{train.path} has no clip of {frames} frames with pictures to learn from")
    model = Ridge(PENALTY).fit(
        np.concatenate([cues for _, cues in learnt]), np.concatenate([loud for loud, _ in learnt])
    )
    found = [contours(test, row, frames) for row in candidates(test, frames, clips)]
    shortest = min(len(loud) for loud, _ in found)  # clips differ by a picture at most
    heard = np.stack([_standard(loud[:shortest]) for loud, _ in found])
    predicted = np.stack([_standard(model.predict(cues)[:shortest]) for _, cues in found])
    return _unit(heard), _unit(predicted)


def recalls(sound: Tensor, pictures: Tensor) -> dict[str, float]:
    """Recall at 1 in both directions, in per cent."""
    ranks = {
        "audio to video": partner_ranks(sound, pictures),
        "video to audio": partner_ranks(pictures, sound),
    }
    return {name: 100 * float((rank == 0).float().mean()) for name, rank in ranks.items()}


def _standard(x: Contour) -> Contour:
    return (x - x.mean()) / max(float(x.std()), 1e-6)


def _shifted(x: Contour, lag: int) -> Contour:
    """``x[t + lag]``; the ends are repeated."""
    return x[(np.arange(len(x)) + lag).clip(0, len(x) - 1)]


def _unit(x: Contour) -> Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(x).float(), dim=-1)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="of stage 1, or energy")
    parser.add_argument("manifests", type=Path, help="folder of train.tsv and test.tsv")
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=298, help="of 10 ms, kept of every clip")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--controls", action="store_true", help="also what it finds them by")
    args = parser.parse_args(arguments)
    with command_line():
        chosen, asked = (args.manifests, args.frames, args.clips), CONTROLS if args.controls else {}
        if args.checkpoint != ENERGY:
            pairs = embeddings(args.checkpoint, *chosen, [as_they_are, *asked.values()])
        elif args.controls:
            raise InputError("--controls ask a checkpoint, not the baseline of energy")
        else:
            pairs = [energy_baseline(*chosen)]
        found, *others = (recalls(*pair) for pair in pairs)
        controls = dict(zip(asked, others, strict=True))
        with atomic_path(args.out) as partial:
            told = {**found, "controls": controls} if controls else found
            partial.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    for name, recall in {"as they are": found, **controls}.items():
        in_words = ", ".join(f"{way} {value:.0f} %" for way, value in recall.items())
        print(f"{name}: {in_words}" if controls else in_words)


if __name__ == "__main__":
    main()
