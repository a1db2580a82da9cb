"""lhotse cut manifests (https://lhotse.readthedocs.io/en/latest/cuts.html), gzipped or not.

    python -m manifests.lhotse cuts_train.jsonl.gz OUT
    python -m manifests.lhotse FOLDER OUT

Of a folder every ``*cuts*.jsonl(.gz)``; what stands behind ``cuts_`` in the name is the split. The
lines are read directly, which takes no further package and no memory. A cut of a part of its
recording becomes a segment. Left out: mixed and padded cuts, augmented recordings (their sound
exists in no file), and sources that are not files.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from manifests.candidate import UNREADABLE, Candidate
from manifests.common import CorpusError
from manifests.prepare import Recipe, main
from manifests.text import clean

SUFFIXES = (".jsonl", ".jsonl.gz")
NEAR = 0.01  # seconds by which a cut of a whole recording may differ from it


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root", type=Path, default=Path(), help="what relative paths are relative to"
    )


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Cuts in the order of the files."""
    paths = [args.corpus]
    if args.corpus.is_dir():
        paths = [p for p in sorted(args.corpus.glob("*cuts*")) if p.name.endswith(SUFFIXES)]
    for path in paths:
        for cut in read_lines(path):
            try:
                yield cut_candidate(cut, split_name(path), args.root.absolute())
            except (KeyError, TypeError, IndexError) as error:
                name = cut.get("id", "a cut")
                raise CorpusError(f"{path}: {name} lacks what a cut has ({error!r})") from None


def split_name(path: Path) -> str:
    """``train-clean-100`` of ``librispeech_cuts_train-clean-100.jsonl.gz``."""
    stem = path.name.removesuffix(".gz").removesuffix(".jsonl")
    return stem.rpartition("cuts_")[2].removesuffix("_cuts") or stem


def read_lines(path: Path) -> Iterator[dict]:
    """The objects of a file of JSON lines."""
    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if not isinstance(value, dict):
                raise CorpusError(f"{path}, line {number} is no JSON object")
            yield value


def cut_candidate(cut: dict, split: str, root: Path) -> Candidate:
    """One cut; several supervisions are read one after the other."""
    fault = _fault(cut)
    supervisions = sorted(cut.get("supervisions") or (), key=lambda s: s.get("start", 0))
    texts = [s["text"] for s in supervisions if s.get("text") is not None]
    columns = {
        "speaker": _only(supervisions, "speaker"),
        "src_lang": _only(supervisions, "language"),
        "tgt_lang": _only(supervisions, "language"),
    }
    base = {
        "id": cut["id"],
        "split": split,
        "text": clean(" ".join(texts)) if texts else None,
        "columns": {name: value for name, value in columns.items() if value},
        "fault": fault,
    }
    if fault:
        return Candidate(audio=str(cut.get("recording", {}).get("id", "")), **base)
    recording = cut["recording"]
    source = str(root / recording["sources"][0]["source"])
    whole = cut["start"] < NEAR and abs(cut["duration"] - recording["duration"]) < NEAR
    return Candidate(
        audio=source,
        start=float(cut["start"]),
        seconds=None if whole else float(cut["duration"]),
        source=recording["id"],
        **base,
    )


def _only(supervisions: list[dict], key: str) -> str:
    values = {s[key] for s in supervisions if s.get(key)}
    return values.pop() if len(values) == 1 else ""


def _fault(cut: dict) -> tuple[str, str] | None:
    kind, recording = cut.get("type", "MonoCut"), cut.get("recording")
    if kind not in ("MonoCut", "MultiCut") or not recording:
        return (UNREADABLE, f"a {kind} without a recording of its own; save its sound first")
    if recording.get("transforms"):
        return (UNREADABLE, "an augmented recording; save its sound first")
    if recording["sources"][0]["type"] != "file":
        return (UNREADABLE, f"its source is a {recording['sources'][0]['type']}, no file")
    return None


RECIPE = Recipe(
    name="lhotse",
    description=__doc__,
    candidates=candidates,
    add_options=add_options,
    longest=60.0,
    corpus="CUTS",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
