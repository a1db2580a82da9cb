"""Tables of clips as people keep them: CSV, TSV or JSON lines, columns by their usual names."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from manifests.candidate import Candidate
from manifests.common import CorpusError
from manifests.text import clean

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
COPIED = ("speaker", "src_lang", "tgt_lang")

Row = dict[str, str]


def read_table(path: Path) -> Iterator[Row]:
    """Rows under our names; cells that a row lacks are not there.

    Raises:
        CorpusError: no column names the file, or a line cannot be read.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = _json_rows(path, file) if path.suffix == ".jsonl" else _csv_rows(file)
        for number, row in enumerate(rows, 1):
            known = {key.strip().lower(): value for key, value in row.items() if key}
            named = {ours: _first(known, names) for ours, names in NAMES.items()}
            named = {key: value for key, value in named.items() if value}
            if "file" not in named:
                raise CorpusError(
                    f"{path}, row {number} names no file; the column is called "
                    f"{', '.join(NAMES['file'])}"
                )
            yield named


def _csv_rows(file) -> Iterator[dict]:
    header = file.readline()
    file.seek(0)
    # Comma, tab or semicolon, whichever the header has most of.
    delimiter = max("\t,;", key=header.count)
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    yield from csv.DictReader(file, delimiter=delimiter, quoting=quoting)


def _json_rows(path: Path, file) -> Iterator[dict]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise CorpusError(f"{path}, line {number} is no JSON object")
        yield {key: "" if value is None else str(value) for key, value in row.items()}


def _first(row: Row, names: tuple[str, ...]) -> str:
    return next((row[name].strip() for name in names if row.get(name)), "")


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
    audio = folder / row["file"]
    start, seconds = 0.0, None
    try:
        start = float(row.get("start", 0))
        if "end" in row:
            seconds = float(row["end"]) - start
        elif "seconds" in row and "start" in row:
            seconds = float(row["seconds"])
    except ValueError:
        raise CorpusError(f"{row['file']}: start, end or duration is not a number") from None
    part = "" if seconds is None else f"@{start:.2f}"
    text = row.get("text")
    columns = {**columns, **{name: row[name] for name in COPIED if name in row}}
    if "src_text" in row:
        columns["src_text"] = rule(row["src_text"])
    return Candidate(
        id=row.get("id", str(Path(row["file"]).with_suffix("")) + part),
        split=row.get("split", split),
        audio=str(audio),
        video=str(folder / row["video"]) if "video" in row else str(audio),
        video_optional="video" not in row,
        start=start,
        seconds=seconds,
        text=None if text is None else rule(text),
        source=str(audio),
        columns=columns,
    )
