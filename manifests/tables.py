"""Tables of clips: CSV, TSV or JSON lines, with columns under their usual names."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from manifests.errors import InputError
from manifests.text import encoding_of

# Manifest column or key -> its names (Hugging Face, Common Voice, Kaldi exports, spreadsheets).
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
    "start": ("start", "offset", "start_time", "begin", "begin_time"),
    "end": ("end", "end_time", "stop", "stop_time"),
    "seconds": ("duration", "seconds"),
    "confidence": ("confidence",),
}
NUMBERS = tuple(chain(NAMES["start"], NAMES["end"], NAMES["seconds"], NAMES["confidence"]))
DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
DELIMITER = re.compile(r"sep=(.)\s*", re.IGNORECASE)  # first line of some spreadsheet exports
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # first bytes of zip archives and old Excel
EMPTY = ("file", "text")  # kept in a row even if the cell is empty

Row = dict[str, str]


def describe(path: Path, encoding: str = "", text_column: str | None = None) -> Iterator[str]:
    """Notes for the user on how a table is read.

    Raises:
        InputError: it is a workbook; it has several text columns and none is chosen, or lacks the
            chosen one; or clips end but do not start, or start but do not end.
    """
    with path.open("rb") as file:
        if file.read(4) in WORKBOOKS:
            raise InputError(f"{path} is a workbook or another archive; save its sheet as CSV")
    used = encoding_of(path, encoding)
    # Undecodable bytes are reported where the rows are read.
    with path.open(encoding=used, newline="", errors="replace") as file:
        rows = _json_rows(file) if path.suffix.lower() == ".jsonl" else _csv_rows(file)
        columns = [name for name in next(rows, (0, {}))[1] if name]
    names = [name.strip().lower() for name in columns]
    texts = [name for name in NAMES["text"] if name in names]
    if text_column is None and len(texts) > 1:
        raise InputError(
            f"{path} has the columns {' and '.join(texts)}; choose the one to train on: "
            f"--text-column {texts[-1]}"
        )
    if text_column is not None and text_column.lower() not in names:
        raise InputError(f"{path} has no column {text_column}; it has {', '.join(columns)}")
    lengths = [*NAMES["end"], *NAMES["seconds"]]
    starts, ends = ([name for name in NAMES[kind] if name in names] for kind in ("start", "end"))
    if ends and not starts:
        raise InputError(
            f"{path} has the column {ends[0]} but none for the start; call it one of "
            + ", ".join(NAMES["start"])
        )
    if starts and not any(name in names for name in lengths):
        raise InputError(
            f"{path} has the column {starts[0]} but none for the end or the duration; call it one "
            f"of {', '.join(lengths)}"
        )
    if used == encoding:
        yield f"{path} is read as {encoding}, not UTF-8; see --encoding"
    known = {*chain(*NAMES.values()), (text_column or "").lower()}
    unknown = [name for name, lower in zip(columns, names, strict=True) if lower not in known]
    if unknown:
        yield (
            f"{path}: unknown column {', '.join(unknown)} is ignored; known are "
            + ", ".join(chain(*NAMES.values()))
        )


def read_table(path: Path, encoding: str = "", text_column: str | None = None) -> Iterator[Row]:
    """Rows with the columns' names in ``NAMES``; empty cells are dropped, except for texts.

    A row that cannot be used has only the cells ``id`` and ``fault``.

    Args:
        encoding: encoding of a table that is not Unicode.
        text_column: column of the target texts, if it is to be another than the first usual one;
            of the other text columns the first transcript then becomes the source text.

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
                        f"{path}, line {line} names no file; call its column one of {names}"
                    )
                first, texts = False, texts or "text" in named
                if fault := _fault(row, named):
                    yield {"id": f"{path.name}, line {line}", "fault": fault}
                else:
                    yield {"text": "", **named} if texts else named
    except UnicodeDecodeError:
        raise InputError(f"{path} is not {encoding} text; save it as UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path}, after line {line}: {error}; is a quote left open?") from None


def confidence_of(row: Row, table: Path) -> float | None:
    """A row's confidence, as written by ``mmpt-transcribe``; None if it has none.

    Raises:
        InputError: it is not a number.
    """
    try:
        return float(row["confidence"]) if "confidence" in row else None
    except ValueError:
        raise InputError(
            f"{table}: the confidence {row['confidence']!r} of {row.get('file')} is not a number"
        ) from None


def _fault(row: dict, named: Row) -> str:
    """What is wrong with a row; empty if nothing is."""
    if not named.get("file"):
        return "it names no file"
    last = Path(os.path.normpath(named["file"])).name
    if last in ("", "..") or named["file"].endswith(("/", os.sep)):
        return f"{named['file']} is a folder"
    if any(cell.strip() for cell in row.get(None, ())):
        return "it has more cells than the header; quote a text that contains the delimiter"
    for key, value in row.items():
        several = key and isinstance(value, (list, dict)) and key.lower() in chain(*NAMES.values())
        if several and key.lower() not in NAMES["confidence"]:  # it may be one per word
            return f"its {key} holds several values"
    return ""


def _csv_rows(file) -> Iterator[tuple[int, dict]]:
    """Each row with the number of its last line; cells beyond the header's are under None."""
    first = file.readline()
    named = DELIMITER.fullmatch(first)
    begins = 1 if named else 0
    header = file.readline() if named else first
    # Comma, tab or semicolon, whichever is most frequent in the header.
    delimiter = named[1] if named else max("\t,;", key=header.count)
    literal = delimiter == "\t" and not _is_quoted(header, file)
    file.seek(0)
    for _ in range(begins):
        file.readline()
    quoting = csv.QUOTE_NONE if literal else csv.QUOTE_MINIMAL
    reader = csv.DictReader(file, delimiter=delimiter, quoting=quoting)
    for row in reader:
        yield begins + reader.line_num, row if delimiter == "," else _with_decimal_points(row)


def _is_quoted(header: str, lines: Iterable[str]) -> bool:
    """Whether cells that begin with a quote are quoted as by spreadsheets, with inner quotes
    doubled: some have doubled quotes, or the column names are quoted.

    In Common Voice's tables a quote is just a character of the sentence.
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


def _with_decimal_points(row: dict) -> dict:
    """Replace decimal commas in numbers, as used in much of Europe, by points."""
    commas = {
        key: value.replace(",", ".")
        for key, value in row.items()
        if key
        and value
        and key.strip().lower() in NUMBERS
        and DECIMAL_COMMA.fullmatch(value.strip())
    }
    return row | commas


def _json_rows(file) -> Iterator[tuple[int, dict]]:
    """The object on each line, with the line's number; an empty one for a line that holds none."""
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            row = row if isinstance(row, dict) else {}
            yield number, {key: _cell(value) for key, value in row.items()}


def _cell(value: object) -> str | list | dict:
    """A value as text; lists and objects stay as they are, because no text would be right."""
    return value if isinstance(value, (list, dict)) else "" if value is None else str(value)


def _named(row: dict, text_column: str | None) -> Row:
    """Key of ``NAMES`` -> first non-empty cell under its names; an empty text counts too."""
    known = {
        key.strip().lower(): (value or "").strip()
        for key, value in row.items()
        if key and not isinstance(value, (list, dict))
    }
    usual, named = NAMES, {}
    if text_column is not None:
        targets = (text_column.lower(), "translation", "tgt_text")
        others = tuple(name for name in NAMES["text"] if name not in targets)
        sources = (*NAMES["src_text"], *others)
        usual = NAMES | {"text": (text_column.lower(),), "src_text": sources}
    for ours, names in usual.items():
        cells = [known[name] for name in names if name in known]
        if any(cells) or (cells and ours in EMPTY):
            named[ours] = next(filter(None, cells), "")
    return named
