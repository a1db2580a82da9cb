"""Kinetics-600 (arXiv 1808.01340) in the community's layout.

    python -m manifests.kinetics600 k600 OUT

As left by github.com/cvdfoundation/kinetics-dataset (``k600_downloader.sh``,
``arrange_by_classes.py``) and DeepMind's archive of lists. Lists: ``annotations/{train,val,test}``
or ``{train,val,test}`` (or ``validate``, ``validation``), ``.csv`` or ``.txt``, with the columns
youtube_id, time_start, time_end and, in some, label; or lines that name clips. Clips:
``<split>/<youtube_id>_<start>_<end>.mp4`` (six digits each), in class folders ``<split>/<label>/``,
or in ``videos/<split>/<label>/``; labels have spaces or underscores. Some clips are no longer on
YouTube and some have no audio: both are normal, named in ``skipped.tsv`` and counted; with
``--keep-silent`` the latter are kept as video alone. Clips missing from a list are counted, not
used. Without a list, all clips in the folders are used. ``val`` serves as the validation split.
No texts.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from manifests.candidate import BAD_ROW, Candidate
from manifests.errors import InputError
from manifests.prepare import main
from manifests.recipe import Recipe, add_keep_silent
from manifests.text import read_lines

SPLITS = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}
SUFFIXES = (".mp4", ".mkv", ".webm", ".avi")
LISTS = ("annotations/{}.csv", "annotations/{}.txt", "{}.csv", "{}.txt", "kinetics600/{}.csv")
LISTS += ("kinetics600_{}.csv", "kinetics_600_{}.csv")
COLUMNS = {"youtube_id", "time_start", "time_end"}
_CLIP = re.compile(r"[\w-]{11}_\d{6}_\d{6}")


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Clips in the order of the lists, or sorted if there is none."""
    for split, names in SPLITS.items():
        lists = (args.corpus / form.format(name) for form in LISTS for name in names)
        listed = next((path for path in lists if path.is_file()), None)
        folders = [
            place / name for place in (args.corpus, args.corpus / "videos") for name in names
        ]
        # Where none exists, the split is missing, and its clips are looked for in the usual one.
        folders = [folder for folder in folders if folder.is_dir()] or folders[:1]
        if listed is None:
            yield from (_candidate(path, split) for path in _all(folders[:1]))
            if len(folders) > 1:
                print(f"{folders[0]} is read, not {folders[1]}", file=sys.stderr)
            continue
        places, used = Places(folders), set()
        for name, label in read_list(listed):
            if _CLIP.fullmatch(name):
                used.add(name)
                yield _candidate(places.find(name, label), split)
            else:
                yield Candidate(name, split, audio="", fault=(BAD_ROW, "it names no clip"))
        unlisted = {path.stem for path in _all(folders)} - used
        if unlisted:
            print(f"{len(unlisted)} clips of {split} are not in {listed}: unused", file=sys.stderr)


def _candidate(path: Path, split: str) -> Candidate:
    return Candidate(
        id=path.stem,
        split=split,
        audio=str(path),
        video=str(path),
        source=path.stem.rsplit("_", 2)[0],
    )


def _all(folders: list[Path]) -> Iterator[Path]:
    """Every clip of the folders that exist."""
    for path in (p for folder in folders if folder.is_dir() for p in sorted(folder.iterdir())):
        if path.is_dir():
            yield from (p for p in sorted(path.iterdir()) if p.suffix.lower() in SUFFIXES)
        elif path.suffix.lower() in SUFFIXES:
            yield path


def read_list(path: Path) -> Iterator[tuple[str, str]]:
    """(clip name, its label if the list has it); for a line without a clip, its line number.

    Raises:
        InputError: it is not a list of clips.
    """
    lines = read_lines(path)
    first = next(lines, "")
    if set(next(csv.reader([first]), ())) >= COLUMNS:
        rows = csv.DictReader(chain([first], lines))
        for row in rows:
            yield _row_clip(row) or f"{path.name}, line {rows.line_num}", row.get("label") or ""
    elif _CLIP.search(first):
        for number, line in enumerate(chain([first], lines), 1):
            clip = _CLIP.search(line)
            label = line[: clip.start()].strip("/").rpartition("/")[2] if clip else ""
            yield clip[0] if clip else f"{path.name}, line {number}", label
    else:
        raise InputError(
            f"{path} neither has the columns {', '.join(sorted(COLUMNS))} nor names a clip in its "
            "first line"
        )


def _row_clip(row: dict) -> str:
    try:
        times = (f"{int(float(row[name])):06d}" for name in ("time_start", "time_end"))
        return "_".join([row["youtube_id"], *times])
    except (TypeError, ValueError):
        return ""


class Places:
    """Locations of clips; the location of the previous clip is tried first."""

    def __init__(self, folders: list[Path]) -> None:
        forms = ("{label}", "{label_}", "")
        suffixes = (*SUFFIXES, *map(str.upper, SUFFIXES))
        self._places = [(f, form, s) for f in folders for form in forms for s in suffixes]

    def find(self, name: str, label: str) -> Path:
        """A clip's path; if the clip is missing, the path that it would have."""
        label = label.strip().strip('"')
        for i, (folder, form, suffix) in enumerate(self._places):
            path = folder / form.format(label=label, label_=label.replace(" ", "_"))
            path = path / f"{name}{suffix}"
            if path.is_file():
                self._places.insert(0, self._places.pop(i))
                return path
        folder, _, suffix = self._places[0]
        return folder / f"{name}{suffix}"


RECIPE = Recipe(
    name="kinetics600",
    description=__doc__,
    candidates=candidates,
    add_options=add_keep_silent,
)

if __name__ == "__main__":
    main(RECIPE)
