"""lhotse cut manifests (https://lhotse.readthedocs.io/en/latest/cuts.html), gzipped or not.

    python -m manifests.lhotse cuts_train.jsonl.gz OUT
    python -m manifests.lhotse FOLDER OUT

Of a folder, every ``*cuts*.jsonl(.gz)`` is read; the split is what follows ``cuts_`` in the name.
Lines are parsed directly, which needs no further package and little memory. A cut of a part of its
recording becomes a segment; if a recording has one file per channel, the file of the cut's channel
is read. Left out: cuts without a text in a file where others have one, one channel of a file that
holds several, mixed and padded cuts, augmented recordings (their audio is in no file), and sources
that are not files.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from manifests.candidate import (
    BAD_ROW,
    LONGEST_WITH_TEXT,
    NO_FILE,
    NO_TEXT,
    ONE_CHANNEL,
    Candidate,
)
from manifests.errors import InputError
from manifests.prepare import main
from manifests.recipe import Recipe
from manifests.text import clean

SUFFIXES = (".jsonl", ".jsonl.gz")
NEAR = 0.01  # seconds by which a cut of a whole recording may differ from it


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root", type=Path, default=Path(), help="folder that relative paths are relative to"
    )


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Cuts in the order of the files."""
    paths = [args.corpus]
    if args.corpus.is_dir():
        paths = [p for p in sorted(args.corpus.glob("*cuts*")) if p.name.endswith(SUFFIXES)]
    for path in paths:
        split = split_name(path)
        with_texts = any(_texts(cut) for cut in read_lines(path))
        for number, cut in enumerate(read_lines(path), 1):
            try:
                clip = cut_candidate(cut, split, args.root.absolute())
                if with_texts and clip.text is None and not clip.fault:
                    clip = replace(clip, fault=(NO_TEXT, "no supervision has a text"))
                yield clip
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                fault = (BAD_ROW, f"it is not a valid cut ({error!r})")
                name = str(cut.get("id", f"{path.name}, line {number}"))
                yield Candidate(name, split, audio="", fault=fault)


def split_name(path: Path) -> str:
    """``train-clean-100`` of ``librispeech_cuts_train-clean-100.jsonl.gz``.

    Parts of a split, ``cuts_train.000000.jsonl.gz`` ..., belong together.
    """
    stem = re.sub(r"\.\d{4,}$", "", path.name.removesuffix(".gz").removesuffix(".jsonl"))
    return stem.rpartition("cuts_")[2].removesuffix("_cuts") or stem


def read_lines(path: Path) -> Iterator[dict]:
    """The objects of a file of JSON lines; an empty one for a line that holds none.

    Raises:
        InputError: the file is truncated or damaged.
    """
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                if line.strip():
                    yield _object(line)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is truncated or damaged ({error}); copy it again") from None


def _object(line: str) -> dict:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def cut_candidate(cut: dict, split: str, root: Path) -> Candidate:
    """One cut; the texts of several supervisions are joined in order of time.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is not a valid cut.
    """
    if "sources" in cut:
        fault = (BAD_ROW, "a recording, not a cut; make cuts with lhotse cut simple")
        return Candidate(str(cut["id"]), split, audio="", fault=fault)
    supervisions = sorted(cut.get("supervisions") or (), key=lambda s: s.get("start", 0))
    texts = _texts(cut)
    columns = {
        "speaker": _only(supervisions, "speaker"),
        "src_lang": _only(supervisions, "language"),
        "tgt_lang": _only(supervisions, "language"),
    }
    base = {
        "id": str(cut["id"]),
        "split": split,
        "text": clean(" ".join(texts)) if texts else None,
        "columns": {name: value for name, value in columns.items() if value},
    }
    recording = cut.get("recording") or {}
    source, fault = _source(cut, recording)
    if fault:
        return Candidate(audio=str(recording.get("id", "")), fault=fault, **base)
    path = str(root / source["source"])
    start, seconds = float(cut["start"]), float(cut["duration"])
    whole = start < NEAR and abs(seconds - recording["duration"]) < NEAR
    return Candidate(
        audio=path,
        video=path if source.get("video") else "",
        start=0.0 if whole else start,
        seconds=None if whole else seconds,
        source=str(recording["id"]),
        **base,
    )


def _texts(cut: dict) -> list[str]:
    """The texts of a cut's supervisions, in order of time; none of a line that is not a cut."""
    try:
        supervisions = sorted(cut.get("supervisions") or (), key=lambda s: s.get("start", 0))
        return [s["text"] for s in supervisions if s.get("text") is not None]
    except (TypeError, AttributeError):
        return []


def _only(supervisions: list[dict], key: str) -> str:
    values = {s[key] for s in supervisions if s.get(key)}
    return values.pop() if len(values) == 1 else ""


def _source(cut: dict, recording: dict) -> tuple[dict, tuple[str, str] | None]:
    """The file that holds the cut's channels and no others, or why there is none."""
    kind = cut.get("type", "MonoCut")
    if kind not in ("MonoCut", "MultiCut", "Cut") or not recording:
        return {}, (NO_FILE, f"a {kind} without a recording of its own; save its audio first")
    # Resampling can be ignored, because clips are resampled here anyway.
    if any(change["name"] != "Resample" for change in recording.get("transforms") or ()):
        return {}, (NO_FILE, "an augmented recording; save its audio first")
    channels = cut.get("channel", 0)
    channels = {channels} if isinstance(channels, int) else set(channels)
    sources = [s for s in recording["sources"] if channels & set(s["channels"])]
    channel_names = " and ".join(map(str, sorted(channels)))
    if not sources:
        return {}, (BAD_ROW, f"its recording has no channel {channel_names}")
    if len(sources) > 1 or set(sources[0]["channels"]) != channels:
        return {}, (
            ONE_CHANNEL,
            f"channel {channel_names} has no file of its own; save its audio first",
        )
    if sources[0]["type"] != "file":
        return {}, (NO_FILE, f"its source is a {sources[0]['type']}, not a file")
    return sources[0], None


RECIPE = Recipe(
    name="lhotse",
    description=__doc__,
    candidates=candidates,
    add_options=add_options,
    longest=LONGEST_WITH_TEXT,
    corpus="CUTS",
)

if __name__ == "__main__":
    main(RECIPE)
