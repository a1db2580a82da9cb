"""From rows of tables to clips; some of ``train`` is held out where no row is for validation."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from manifests.candidate import BAD_ROW, BAD_TIMES, Candidate
from manifests.holdout import (
    RecordingsHeldOut,
    SpeakersHeldOut,
    ends_held_out,
    hold_out,
    is_usable,
    to_valid,
)
from manifests.splits import canonical_split, role_of
from manifests.tables import Row
from manifests.text import clean

COPIED = ("speaker", "src_lang", "tgt_lang")

# A row, the folder that its paths are relative to, and the split to use if the row names none.
Placed = tuple[Row, Path, str]


def table_candidates(
    read: Callable[[], Iterator[Placed]], every: int, rule: Callable[[str], str], **columns: str
) -> Iterator[Candidate]:
    """Clips of tables; if no row is in a validation split, part of ``train`` is held out.

    Whole speakers if that leaves most for training, else whole recordings; with few recordings,
    the end of each.

    Args:
        read: returns the rows; called more than once.
        every: hold out one in this many; 0 for none.
    """

    def clips() -> Iterator[tuple[Row, Path, Candidate]]:
        for row, at, split in read():
            yield row, at, row_candidate(row, at, split, rule, **columns)

    splits = {canonical_split(row.get("split", split)) for row, _, split in read()}
    if not every or "valid" in map(role_of, splits):
        yield from (clip for _, _, clip in clips())
        return
    held = _held_out(read, clips, every)
    if not held.possible:
        yield from ends_held_out((clip for _, _, clip in clips()), every)
        return
    for row, at, clip in clips():
        train = clip.split == "train" and not clip.fault
        yield to_valid(clip) if train and _group(row, at, held.by_speaker) in held else clip


def _held_out(
    read: Callable[[], Iterator[Placed]],
    clips: Callable[[], Iterator[tuple[Row, Path, Candidate]]],
    every: int,
) -> RecordingsHeldOut | SpeakersHeldOut:
    """The speakers or recordings of ``train`` that are held out."""

    def groups(by_speaker: bool) -> Iterator[str]:
        for row, at, split in read():
            usable = "file" in row and row.get("text") != ""
            if usable and canonical_split(row.get("split", split)) == "train":
                yield _group(row, at, by_speaker)

    def one_per_row() -> Iterator[tuple[str, int]]:
        return ((recording, 1) for recording in groups(False))

    def usable() -> Iterator[tuple[str, int]]:
        for row, at, clip in clips():
            if clip.split == "train" and is_usable(clip):
                yield _group(row, at, False), 1

    with_speakers = any("speaker" in row for row, _, _ in read())
    return hold_out(groups(True) if with_speakers else None, one_per_row, every, usable)


def _group(row: Row, folder: Path, by_speaker: bool) -> str:
    """The unit that is held out as a whole; a recording is one, however rows write its path."""
    return (row.get("speaker") if by_speaker else "") or str(_inside(row, folder))


def _inside(row: Row, folder: Path) -> Path:
    """A row's recording, relative to the folder if it is inside or its path is relative: ids and
    held-out clips are then the same wherever the corpus is."""
    path = located(folder, row["file"])
    within = path.is_relative_to(folder) or not os.path.isabs(row["file"])
    return Path(os.path.relpath(path, folder)) if within else path


def located(folder: Path, name: str) -> Path:
    """The file that a table names.

    If there is none, the one whose name has slashes for backslashes or another normal form of
    Unicode: tables written on Windows and macOS, or by a spreadsheet, differ in these.
    """
    path = Path(os.path.normpath(folder / name))
    if ("\\" in name or not name.isascii()) and not path.exists():
        other = Path()
        for part in Path(os.path.normpath(folder / name.replace("\\", "/"))).parts:
            forms = (other / unicodedata.normalize(form, part) for form in ("NFC", "NFD"))
            other = next((x for x in (other / part, *forms) if x.exists()), other / part)
        return other if other.exists() else path
    return path


def row_candidate(
    row: Row, folder: Path, split: str, rule: Callable[[str], str] = clean, **columns: str
) -> Candidate:
    """A table row as a candidate.

    Args:
        folder: folder that its paths are relative to.
        split: split to use if the row names none.
        rule: how texts are cleaned.
        columns: manifest columns to use if the row does not set them.
    """
    split = canonical_split(row.get("split", split))
    if "fault" in row:
        return Candidate(row["id"], split, audio="", fault=(BAD_ROW, row["fault"]))
    audio, fault = located(folder, row["file"]), None
    try:
        start, seconds = _times(row)
    except ValueError as error:
        start, seconds = 0.0, None
        fault = (BAD_TIMES, f"{str(error).rpartition(': ')[2]} is not a number")
    part = f"@{start:.2f}" if start or seconds is not None else ""
    columns = {**columns, **{name: row[name] for name in COPIED if name in row}}
    if "src_text" in row:
        columns["src_text"] = rule(row["src_text"])
    return Candidate(
        id=row.get("id", str(_inside(row, folder).with_suffix("")) + part),
        split=split,
        audio=str(audio),
        video=str(located(folder, row["video"])) if "video" in row else str(audio),
        video_optional="video" not in row,
        start=start,
        seconds=seconds,
        text=rule(row["text"]) if "text" in row else None,
        source=str(audio),
        columns=columns,
        fault=fault,
    )


def _times(row: Row) -> tuple[float, float | None]:
    """Start and seconds; a start alone means up to the end, a duration alone the whole recording.

    Raises:
        ValueError: a cell is not a number.
    """
    start = float(row.get("start", 0))
    if "end" in row:
        return start, float(row["end"]) - start
    if "seconds" in row and "start" in row:
        return start, float(row["seconds"])
    return start, None
