"""Tables of clips as people keep them: CSV, TSV or JSON lines, columns by their usual names."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

from manifests.candidate import BAD_ROW, BAD_TIMES, Candidate
from manifests.errors import InputError
from manifests.holdout import (
    RecordingsHeldOut,
    SpeakersHeldOut,
    drawn,
    ends_held_out,
    hold_out,
    is_usable,
)
from manifests.splits import canonical_split, role_of
from manifests.text import clean, encoding_of

# Our name -> names that it goes by (Hugging Face, Common Voice, Kaldi exports, spreadsheets).
NAMES = {
    "file": ("file", "file_name", "path", "audio", "audio_path", "wav", "filename"),
    "video": ("video", "video_path"),
    "text": ("text", "tgt_text", "translation", "transcription", "transcript", "sentence"),
    "id": ("id", "utt_id", "utterance_id"),
    "split": ("split", "subset"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "src_text": ("src_text", "source_text"),
    "src_lang": ("src_lang", "language", "locale"),
    "tgt_lang": ("tgt_lang",),
    "start": ("start", "offset", "start_time"),
    "end": ("end", "end_time"),
    "seconds": ("duration", "seconds"),
}
TIMES = tuple(chain(NAMES["start"], NAMES["end"], NAMES["seconds"]))
DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
DELIMITER = re.compile(r"sep=(.)\s*", re.IGNORECASE)  # with which spreadsheets may begin
COPIED = ("speaker", "src_lang", "tgt_lang")
EMPTY = ("file", "text")  # what a row has even where the cell is empty

Row = dict[str, str]
# A row, the folder that its paths are relative to, and its split where it names none.
Placed = tuple[Row, Path, str]


def describe(path: Path, encoding: str = "", text_column: str | None = None) -> Iterator[str]:
    """What the user of a table should know of how it is read: sentences.

    Raises:
        InputError: it has two columns of texts, and none is named as the one.
    """
    used = encoding_of(path, encoding)
    # A byte that does not fit is told where the rows are read.
    with path.open(encoding=used, newline="", errors="replace") as file:
        rows = _json_rows(file) if path.suffix.lower() == ".jsonl" else _csv_rows(file)
        columns = [name for name in next(rows, (0, {}))[1] if name]
    names = [name.strip().lower() for name in columns]
    texts = [name for name in NAMES["text"] if name in names]
    if text_column is None and len(texts) > 1:
        raise InputError(
            f"{path} has the columns {' and '.join(texts)}; say which of them is to be learnt: "
            f"--text-column {texts[-1]}"
        )
    if text_column is not None and text_column.lower() not in names:
        raise InputError(f"{path} has no column {text_column}; it has {', '.join(columns)}")
    if used == encoding:
        yield f"{path} is read as {encoding}, not UTF-8; see --encoding"
    known = {*chain(*NAMES.values()), (text_column or "").lower()}
    unknown = [name for name, lower in zip(columns, names, strict=True) if lower not in known]
    if unknown:
        yield (
            f"{path}: no use for the column {', '.join(unknown)}; known are "
            + ", ".join(chain(*NAMES.values()))
        )


def read_table(path: Path, encoding: str = "", text_column: str | None = None) -> Iterator[Row]:
    """Rows under our names; empty cells are not there, but for a text.

    A row that cannot be used has the cells ``id`` and ``fault``.

    Args:
        encoding: of a table that is not Unicode.
        text_column: of the texts, where it is not one of the usual names that is to be taken; of
            what else has one of those the first is then the source text.

    Raises:
        InputError: no column names the file, or the file cannot be read as a table.
    """
    line, encoding = 1, encoding_of(path, encoding)
    try:
        with path.open(encoding=encoding, newline="") as file:
            rows = _json_rows(file) if path.suffix.lower() == ".jsonl" else _csv_rows(file)
            first, texts = True, False
            for line, row in rows:
                named = _named(row, text_column)
                if first and "file" not in named:
                    names = ", ".join(NAMES["file"])
                    raise InputError(
                        f"{path}, line {line} names no file; the column is called {names}"
                    )
                first, texts = False, texts or "text" in named
                if fault := _fault(row, named):
                    yield {"id": f"{path.name}, line {line}", "fault": fault}
                else:
                    yield {"text": "", **named} if texts else named
    except UnicodeDecodeError:
        raise InputError(f"{path} is not {encoding} text; save it as UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path}, behind line {line}: {error}; is a quote open?") from None


def _fault(row: dict, named: Row) -> str:
    """What is wrong with a row; empty where nothing is."""
    if not named.get("file"):
        return "it names no file"
    last = Path(os.path.normpath(named["file"])).name
    if last in ("", "..") or named["file"].endswith(("/", os.sep)):
        return f"{named['file']} is a folder"
    if any(cell.strip() for cell in row.get(None, ())):
        return "it has more cells than the header; a text that holds the delimiter wants quotes"
    for key, value in row.items():
        if key and isinstance(value, (list, dict)) and key.lower() in chain(*NAMES.values()):
            return f"its {key} holds several values"
    return ""


def _csv_rows(file) -> Iterator[tuple[int, dict]]:
    """Each row with the line that it ends in; cells beyond the header's under None."""
    first = file.readline()
    named = DELIMITER.fullmatch(first)
    begins = 1 if named else 0
    header = file.readline() if named else first
    # Comma, tab or semicolon, whichever the header has most of.
    delimiter = named[1] if named else max("\t,;", key=header.count)
    literal = delimiter == "\t" and not _is_quoted(header, file)
    file.seek(0)
    for _ in range(begins):
        file.readline()
    quoting = csv.QUOTE_NONE if literal else csv.QUOTE_MINIMAL
    reader = csv.DictReader(file, delimiter=delimiter, quoting=quoting)
    for row in reader:
        yield begins + reader.line_num, row if delimiter == "," else _with_points(row)


def _is_quoted(header: str, lines: Iterable[str]) -> bool:
    """Whether cells that begin with a quote are as spreadsheets write them, quotes within doubled;
    some are, or the names of the columns are quoted.

    In Common Voice's tables they are what was said, and no more.
    """
    doubled = header.startswith('"')
    for line in lines:
        for cell in line.rstrip("\r\n").split("\t"):
            if cell.startswith('"'):
                inner = cell[1:-1]
                if len(cell) < 2 or cell[-1] != '"' or '"' in inner.replace('""', ""):
                    return False
                doubled |= '""' in inner
    return doubled


def _with_points(row: dict) -> dict:
    """Times with a decimal comma, as much of Europe has them, as others write them."""
    commas = {
        key: value.replace(",", ".")
        for key, value in row.items()
        if key and value and key.strip().lower() in TIMES and DECIMAL_COMMA.fullmatch(value.strip())
    }
    return row | commas


def _json_rows(file) -> Iterator[tuple[int, dict]]:
    """An object a line, with its number; nothing of a line that is none."""
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            row = row if isinstance(row, dict) else {}
            yield number, {key: _cell(value) for key, value in row.items()}


def _cell(value: object) -> str | list | dict:
    """As text; what holds several values stays what it is, for no text would be right."""
    return value if isinstance(value, (list, dict)) else "" if value is None else str(value)


def _named(row: dict, text_column: str | None) -> Row:
    """Our name -> the first cell of these names that is not empty; an empty text counts too."""
    known = {
        key.strip().lower(): (value or "").strip()
        for key, value in row.items()
        if key and not isinstance(value, (list, dict))
    }
    usual, named = NAMES, {}
    if text_column is not None:
        others = tuple(name for name in NAMES["text"] if name != text_column.lower())
        sources = (*NAMES["src_text"], *others)
        usual = NAMES | {"text": (text_column.lower(),), "src_text": sources}
    for ours, names in usual.items():
        cells = [known[name] for name in names if name in known]
        if any(cells) or (cells and ours in EMPTY):
            named[ours] = next(filter(None, cells), "")
    return named


def table_candidates(
    read: Callable[[], Iterator[Placed]], every: int, rule: Callable[[str], str], **columns: str
) -> Iterator[Candidate]:
    """Clips of tables; where no row is of a validation split, some of ``train`` are held out.

    Whole speakers where that leaves most for training, else whole recordings; where these are few,
    the end of each.

    Args:
        read: the rows, which are read more than once.
        every: one in so many is held out, 0 for none.
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
        yield drawn(clip) if train and _group(row, at, held.by_speaker) in held else clip


def _held_out(
    read: Callable[[], Iterator[Placed]],
    clips: Callable[[], Iterator[tuple[Row, Path, Candidate]]],
    every: int,
) -> RecordingsHeldOut | SpeakersHeldOut:
    """Which speakers or recordings of ``train`` are held out."""

    def groups(by_speaker: bool) -> Iterator[str]:
        for row, at, split in read():
            usable = "file" in row and row.get("text") != ""
            if usable and canonical_split(row.get("split", split)) == "train":
                yield _group(row, at, by_speaker)

    def one_a_row() -> Iterator[tuple[str, int]]:
        return ((recording, 1) for recording in groups(False))

    def usable() -> Iterator[tuple[str, int]]:
        for row, at, clip in clips():
            if clip.split == "train" and is_usable(clip):
                yield _group(row, at, False), 1

    with_speakers = any("speaker" in row for row, _, _ in read())
    return hold_out(groups(True) if with_speakers else None, one_a_row, every, usable)


def _group(row: Row, folder: Path, by_speaker: bool) -> str:
    """What is held out as a whole; one recording is one, however rows write its path."""
    return (row.get("speaker") if by_speaker else "") or str(_inside(row, folder))


def _inside(row: Row, folder: Path) -> Path:
    """A row's recording, relative to the folder where it lies in it or the row says it so: ids and
    draws are the same wherever the corpus lies."""
    path = Path(os.path.normpath(folder / row["file"]))
    within = path.is_relative_to(folder) or not os.path.isabs(row["file"])
    return Path(os.path.relpath(path, folder)) if within else path


def row_candidate(
    row: Row, folder: Path, split: str, rule: Callable[[str], str] = clean, **columns: str
) -> Candidate:
    """A table's row as a candidate.

    Args:
        folder: what its paths are relative to.
        split: where the row names none.
        rule: how texts are cleaned.
        columns: of the manifest, where the row does not say otherwise.
    """
    split = canonical_split(row.get("split", split))
    if "fault" in row:
        return Candidate(row["id"], split, audio="", fault=(BAD_ROW, row["fault"]))
    audio, fault = Path(os.path.normpath(folder / row["file"])), None
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
        video=str(folder / row["video"]) if "video" in row else str(audio),
        video_optional="video" not in row,
        start=start,
        seconds=seconds,
        text=rule(row["text"]) if "text" in row else None,
        source=str(audio),
        columns=columns,
        fault=fault,
    )


def _times(row: Row) -> tuple[float, float | None]:
    """Start and seconds; a start alone goes to the end, a duration alone says nothing new.

    Raises:
        ValueError: a cell is no number.
    """
    start = float(row.get("start", 0))
    if "end" in row:
        return start, float(row["end"]) - start
    if "seconds" in row and "start" in row:
        return start, float(row["seconds"])
    return start, None
