"""Manifests of the probe: training data of stage 1, and the clips on which its states are probed.

    python -m examples.probe.prepare --data DIR --out runs/probe/real

``faces``     GRID: ``train``, ``valid`` and 100 ``test`` clips, unused in training and selection
``pretrain``  the same, with LibriSpeech and ARCTIC in two-second pieces added to ``train``
``digits``    spoken digits of five speakers, the digit in ``tgt_text``; never used in training
``words``     GRID's clips again, with the words and their times in ``segments``

A fifth of GRID is held out, every fifth sentence, so that it has the same vocabulary as the rest.
Filterbanks are computed once into ``features.zip``, downscaled videos written once to ``videos``.
"""

import argparse
import os
from pathlib import Path

from examples.corpora import grid_clips, grid_words, measure, speech_clips
from manifests.common import parallel_map
from manifests.compact_video import compact
from manifests.errors import InputError, command_line
from manifests.features import cache_features
from mmpt_fairseq.data.audio import FRAME_SHIFT, num_frames
from mmpt_fairseq.data.manifest import write_manifest

HOLD_OUT_EVERY = 5  # clips of GRID; every third of these is for validation
SMALL_SIDE = 72  # pixels: more than training uses
PIECE = 32_000  # samples, two seconds


def prepare(data: Path, out: Path, jobs: int = 1) -> dict[str, int]:
    """Write the four folders and return the number of rows of each manifest.

    Args:
        data: folder of ``grid``, ``librispeech``, ``arctic`` and ``fsdd``.

    Raises:
        InputError: a corpus is missing, or none of its clips can be read.
    """
    corpora = {
        "grid": grid_clips(data / "grid"),
        "librispeech and arctic": speech_clips(data),
        "fsdd": digit_clips(data / "fsdd"),
    }
    rows = [row for corpus in corpora.values() for row in corpus]
    good = {r["id"]: r for r in parallel_map(measure, rows, jobs, "measuring") if "fault" not in r}
    kept = {}
    for name, corpus in corpora.items():
        kept[name] = [good[row["id"]] for row in corpus if row["id"] in good]
        if not kept[name]:
            raise InputError(f"no clip of {name} under {data} can be read")
    faces, speech, digits = split(kept["grid"]), kept["librispeech and arctic"], kept["fsdd"]
    tables = {
        "faces": faces,
        "pretrain": {**faces, "train": [*faces["train"], *pieces(speech)]},
        "digits": {"all": digits},
        "words": with_words(faces, grid_words(data / "grid")),
    }
    for folder, splits in tables.items():
        for name, rows in splits.items():
            write_manifest(out / folder / f"{name}.tsv", rows)
    cache_features(out / "features.zip", [out / folder for folder in tables], jobs=jobs)
    compact(out / "videos", [out / "faces", out / "pretrain"], jobs, SMALL_SIDE)
    return {f"{f}/{name}": len(r) for f, splits in tables.items() for name, r in splits.items()}


def split(clips: list[dict]) -> dict[str, list[dict]]:
    """Split every fifteen clips into twelve for train, one for valid and two for test."""
    parts = {"train": [], "valid": [], "test": []}
    for i, clip in enumerate(clips):
        held_out = "test" if i // HOLD_OUT_EVERY % 3 else "valid"
        parts["train" if i % HOLD_OUT_EVERY else held_out].append(clip)
    return parts


def pieces(clips: list[dict]) -> list[dict]:
    """Cut the clips into pieces of :data:`PIECE` samples; the remainders are dropped."""
    return [
        {
            **clip,
            "id": f"{clip['id']}_{i}",
            "audio": f"{clip['audio']}:{i * PIECE}:{PIECE}",
            "n_frames": num_frames(PIECE),
        }
        for clip in clips
        for i in range(clip["n_frames"] * FRAME_SHIFT // PIECE)
    ]


def digit_clips(folder: Path) -> list[dict]:
    """Rows for the files ``digit_speaker_index.wav`` in ``folder``."""
    names = [(path, *path.stem.split("_")) for path in sorted(folder.glob("?_*_*.wav"))]
    return [
        {
            "id": f"fsdd_{path.stem}",
            "audio": str(path.resolve()),
            "tgt_text": digit,
            "speaker": speaker,
        }
        for path, digit, speaker, _ in names
    ]


def with_words(splits: dict[str, list[dict]], words: dict[str, str]) -> dict[str, list[dict]]:
    """The same clips without video, with ``segments``."""
    columns = ("id", "audio", "n_frames", "speaker")
    return {
        name: [{**{k: row[k] for k in columns}, "segments": words[row["id"]]} for row in rows]
        for name, rows in splits.items()
    }


def main(arguments: list[str] | None = None) -> None:
    """Command-line entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.probe.prepare", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="number of processes")
    args = parser.parse_args(arguments)
    with command_line():
        counts = prepare(args.data, args.out, args.jobs)
    print(", ".join(f"{name} {rows}" for name, rows in counts.items()))


if __name__ == "__main__":
    main()
