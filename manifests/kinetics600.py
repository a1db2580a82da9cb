"""Kinetics-600 (arXiv 1808.01340) in the community's layout (github.com/cvdfoundation).

    python -m manifests.kinetics600 k600 OUT

Lists ``annotations/{train,val,test}.csv``, ``{train,val,test}.csv`` or ``kinetics600_*.csv`` with
the columns youtube_id, time_start, time_end and, for some, label; clips
``<split>/<youtube_id>_<start>_<end>.mp4`` (six digits each) or in class folders
``<split>/<label>/``, whose names have spaces or underscores. A part of the clips is gone from
YouTube and a part has no sound: both are normal, named in ``skipped.tsv`` and counted. Without
lists every clip in the folders is taken. ``val`` serves as the validation split. No texts.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from manifests.candidate import Candidate
from manifests.common import CorpusError
from manifests.prepare import Recipe, main

SPLITS = ("train", "val", "test")
SUFFIXES = (".mp4", ".mkv", ".webm")
LISTS = ("annotations/{}.csv", "{}.csv", "kinetics600_{}.csv", "kinetics_600_{}.csv")


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Clips in the order of the lists, or sorted where there is none."""
    for split in SPLITS:
        folder = args.corpus / split
        found = [args.corpus / name.format(split) for name in LISTS]
        listed = next((path for path in found if path.is_file()), None)
        paths = _listed(folder, listed) if listed else _all(folder)
        for path in paths:
            yield Candidate(
                id=path.stem,
                split=split,
                audio=str(path),
                video=str(path),
                source=path.stem.rsplit("_", 2)[0],
            )


def _all(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir():
            yield from (p for p in sorted(path.iterdir()) if p.suffix in SUFFIXES)
        elif path.suffix in SUFFIXES:
            yield path


def _listed(folder: Path, listed: Path) -> Iterator[Path]:
    """Where each row's clip lies; the first place looked at, for one that is missing."""
    with listed.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if not {"youtube_id", "time_start", "time_end"} <= set(rows.fieldnames or ()):
            raise CorpusError(f"{listed} lacks the columns youtube_id, time_start and time_end")
        for row in rows:
            try:
                times = f"{int(float(row['time_start'])):06d}_{int(float(row['time_end'])):06d}"
            except (TypeError, ValueError):
                raise CorpusError(
                    f"{listed}, line {rows.line_num}: time_start and time_end are not seconds"
                ) from None
            name, label = f"{row['youtube_id']}_{times}", (row.get("label") or "").strip()
            folders = [folder, folder / label, folder / label.replace(" ", "_")]
            places = [f / f"{name}{suffix}" for f in folders[::-1] for suffix in SUFFIXES]
            yield next((place for place in places if place.is_file()), folder / f"{name}.mp4")


RECIPE = Recipe(name="kinetics600", description=__doc__, candidates=candidates)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
