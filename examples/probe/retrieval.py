"""Audio-to-video and video-to-audio retrieval among held-out clips of one length.

    python -m examples.probe.retrieval CHECKPOINT MANIFESTS OUT.json

All clips are cut to the same length, so that length is no cue; the candidates are the first
``--clips`` clips of MANIFESTS/test.tsv that are long enough. A clip's partner is found where it is
the nearest candidate. ``energy`` instead of a checkpoint is a baseline that uses loudness only: a
linear model, trained on MANIFESTS/train.tsv, predicts audio energy over time from the motion and
brightness of the video, and the candidate whose energy curve correlates most is the nearest.

``--controls`` evaluates a checkpoint again with one thing changed in the video or audio of drawn
faces (controls.py): a model that relies on lips and their timing finds no partner without them.
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
LAGS = range(-3, 4)  # video frames around the one whose energy is predicted
PENALTY = 10.0
TRAINING_CLIPS = 200
BATCH = 20

Contour = NDArray[np.float64]


def candidates(manifest: Manifest, frames: int, clips: int) -> list[int]:
    """The first ``clips`` rows of at least ``frames`` filterbank frames.

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


def unchanged(video: Tensor, audio: Tensor) -> Changed:
    return video, audio


def embeddings(
    checkpoint: str, folder: Path, frames: int, clips: int, changes: Sequence[Change]
) -> list[tuple[Tensor, Tensor]]:
    """For each of ``changes``, unit vectors of audio and of video, ``(clips, D)`` each.

    Raises:
        InputError: not a checkpoint of stage 1, one of masked clips, or too few clips.
    """
    loaded = mmpt_fairseq.load(checkpoint)
    task = loaded.task
    if not isinstance(task, AVPretrainingTask):
        raise InputError(f"{checkpoint} is not a stage 1 checkpoint; only its models read video")
    if loaded.model.contrast_masked:
        raise InputError(
            f"{checkpoint} was trained to contrast masked clips (model.contrast_masked=true), but "
            "retrieval compares unmasked ones"
        )
    task.cfg.data, task.cfg.max_audio_frames = str(folder), frames
    task.cfg.decodes_with = str(checkpoint)  # tells the task not to prepare for training
    task.load_dataset("test")
    dataset = task.dataset("test")
    rows = candidates(dataset.manifest, frames, clips)
    audio, video = ([[] for _ in changes] for _ in range(2))
    for start in tqdm(range(0, clips, BATCH), desc="embedded", unit="batch", leave=False):
        batch = dataset.collater([dataset[row] for row in rows[start : start + BATCH]])["net_input"]
        for i, change in enumerate(changes):
            pixels, features = change(batch["video"], batch["audio_unmasked"])
            with torch.inference_mode():
                embedded = loaded.model.embed(features, batch["audio_lengths"], pixels)
            audio[i].append(embedded.audio)
            video[i].append(embedded.video)
    return [(torch.cat(a), torch.cat(v)) for a, v in zip(audio, video, strict=True)]


def contours(manifest: Manifest, row: int, frames: int) -> tuple[Contour, Contour]:
    """Log energy at each video frame ``(T,)``, and visual predictors of it ``(T, lags x 2)``."""
    count = round(int(manifest.video_frames[row]) * frames / int(manifest.n_frames[row]))
    energy = read_filterbank(manifest.resolve("audio", row))[:frames].mean(1)
    ends = np.linspace(0, len(energy), count + 1).round().astype(int)
    loud = np.array([energy[a:b].mean() for a, b in itertools.pairwise(ends)])
    video = read_frames(manifest.resolve("video", row), np.arange(count)).astype(np.float32)
    motion = np.abs(np.diff(video, axis=0, prepend=video[:1])).mean((1, 2, 3))
    brightness = video.mean((1, 2, 3))
    cues = np.stack([_standard(motion), _standard(brightness)], 1)
    return _standard(loud), np.concatenate([_shifted(cues, lag) for lag in LAGS], 1)


def energy_baseline(folder: Path, frames: int, clips: int) -> tuple[Tensor, Tensor]:
    """Like one of :func:`embeddings`: energy contours, measured and predicted from the video."""
    train, test = Manifest(folder / "train.tsv"), Manifest(folder / "test.tsv")
    long = [r for r in range(len(train)) if train.n_frames[r] >= frames and train.video_frames[r]]
    training = [contours(train, row, frames) for row in tqdm(long[:TRAINING_CLIPS], leave=False)]
    if not training:
        raise InputError(f"{train.path} has no clip of {frames} frames with video to train on")
    model = Ridge(PENALTY).fit(
        np.concatenate([cues for _, cues in training]),
        np.concatenate([loud for loud, _ in training]),
    )
    tested = [contours(test, row, frames) for row in candidates(test, frames, clips)]
    shortest = min(len(loud) for loud, _ in tested)  # clips differ by one video frame at most
    measured = np.stack([_standard(loud[:shortest]) for loud, _ in tested])
    predicted = np.stack([_standard(model.predict(cues)[:shortest]) for _, cues in tested])
    return _unit(measured), _unit(predicted)


def recalls(audio: Tensor, video: Tensor) -> dict[str, float]:
    """Recall at 1 in both directions, in per cent."""
    ranks = {
        "audio to video": partner_ranks(audio, video),
        "video to audio": partner_ranks(video, audio),
    }
    return {name: 100 * float((rank == 0).float().mean()) for name, rank in ranks.items()}


def _standard(x: Contour) -> Contour:
    return (x - x.mean()) / max(float(x.std()), 1e-6)


def _shifted(x: Contour, lag: int) -> Contour:
    """``x[t + lag]``, with the end values repeated."""
    return x[(np.arange(len(x)) + lag).clip(0, len(x) - 1)]


def _unit(x: Contour) -> Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(x).float(), dim=-1)


def main(arguments: list[str] | None = None) -> None:
    """Command-line entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.probe.retrieval", description=__doc__.splitlines()[0]
    )
    parser.add_argument("checkpoint", help="checkpoint of stage 1, or energy")
    parser.add_argument("manifests", type=Path, help="folder with train.tsv and test.tsv")
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--frames", type=int, default=298, help="length that clips are cut to, in 10 ms frames"
    )
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--controls", action="store_true", help="evaluate the controls too")
    args = parser.parse_args(arguments)
    with command_line():
        data, changes = (args.manifests, args.frames, args.clips), CONTROLS if args.controls else {}
        if args.checkpoint != ENERGY:
            pairs = embeddings(args.checkpoint, *data, [unchanged, *changes.values()])
        elif args.controls:
            raise InputError(
                "--controls needs a checkpoint and does not apply to the energy baseline"
            )
        else:
            pairs = [energy_baseline(*data)]
        recall, *others = (recalls(*pair) for pair in pairs)
        controlled = dict(zip(changes, others, strict=True))
        with atomic_path(args.out) as partial:
            record = {**recall, "controls": controlled} if controlled else recall
            partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for name, values in {"unchanged": recall, **controlled}.items():
        line = ", ".join(f"{direction} {value:.0f} %" for direction, value in values.items())
        print(f"{name}: {line}" if controlled else line)


if __name__ == "__main__":
    main()
