"""The manifest: a TSV with fairseq S2T's columns plus video, and the only place that knows them.

=============  ====================================================================
``id``         unique name of the clip
``audio``      path, relative to ``audio_root`` or to the manifest: wav, flac, ogg,
               mp3, mp4, mpg, .npy features; ``archive.zip:offset:length`` in bytes,
               ``recording.wav:offset:length`` in samples of the recording
``n_frames``   10 ms filterbank frames; without sound, those that sound as long would have
``tgt_text``   transcript or translation (absent or empty in pre-training)
``speaker``, ``src_text``, ``src_lang``, ``tgt_lang``   as in fairseq S2T
``video``      path, or ``recording.mp4:first:count`` in pictures; empty where there are none
``video_frames``  pictures in the video
``recording``  where ``audio`` holds cached features: the clip's own file, to listen to
``segments``   who speaks when, in seconds: ``anna:0.31-2.5;ben:2.1-4.02`` (SUPERB's diarization)
=============  ====================================================================

In stage 1 a row with ``video`` may leave ``audio`` empty: pictures without sound. Its ``n_frames``
may be empty too.

A manifest of a million rows stays one memory-mapped file and a few integer arrays: rows are
parsed when they are asked for, so that workers share it and start at once.
"""

import logging
import mmap
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from manifests.common import atomic_path
from manifests.errors import InputError
from mmpt_fairseq.data.tsv import Cells, OddLine, line_starts, may_be_blank

logger = logging.getLogger(__name__)

COLUMNS = (
    "id",
    "audio",
    "n_frames",
    "tgt_text",
    "speaker",
    "src_text",
    "src_lang",
    "tgt_lang",
    "video",
    "video_frames",
    "recording",
    "segments",
)
REQUIRED = ("id", "audio", "n_frames")
AT_ONCE = 1 << 16  # rows that are looked at together


class Column(Sequence[str]):
    """One text column of a manifest as a read-only sequence.

    Args:
        index: of the column, None where the manifest does not have it: all cells are empty.
    """

    def __init__(self, manifest: "Manifest", index: int | None) -> None:
        self._manifest = manifest
        self._index = index

    def __len__(self) -> int:
        return len(self._manifest)

    def __getitem__(self, row):  # type: (int) -> str
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        if self._index is None:
            if not -len(self) <= row < len(self):
                raise IndexError(row)
            return ""
        return self._manifest.fields(row)[self._index]


def first_row(path: Path) -> dict[str, str]:
    """The first row of a manifest, unchecked; empty if it has none with as many cells as columns.

    Raises:
        OSError, UnicodeDecodeError: it cannot be read.
    """
    with path.open(encoding="utf-8-sig") as file:
        header, row = (file.readline().rstrip("\r\n").split("\t") for _ in range(2))
    return dict(zip(header, row, strict=True)) if len(row) == len(header) else {}


def splits_in(folder: Path) -> list[str]:
    """Names of the manifests in a folder."""
    # skipped.tsv tells which clips a recipe left out.
    return sorted({path.stem for path in folder.glob("*.tsv")} - {"skipped"})


def splits_beginning_with(folder: str | Path, name: str) -> list[str]:
    """The splits that fairseq's ``dataset.combine_valid_subsets`` joins.

    Raises:
        InputError: there are none.
    """
    found = [split for split in splits_in(Path(folder)) if split.startswith(name)]
    if not found:
        raise InputError(f"{folder} has no {name}*.tsv to validate on")
    return found


class Manifest:
    """A validated manifest.

    Args:
        path: the TSV file.
        needs: columns that must exist beside ``id``, ``audio`` and ``n_frames``.
        silent: accept rows with an empty ``audio`` that have a ``video``.

    Attributes:
        n_frames: ``(rows,)`` int32, 10 ms frames, 0 where the cell is empty.
        video_frames: ``(rows,)`` int32, 0 where a clip has no video.

    Raises:
        InputError: names the file, the line and the column at fault.
    """

    def __init__(self, path: str | Path, needs: Iterable[str] = (), silent: bool = False) -> None:
        self.path, self._silent = Path(path), silent
        if not self.path.is_file():
            others = splits_in(self.path.parent)
            beside = f" beside {', '.join(others)}" if others else ""
            raise InputError(
                f"there is no manifest {self.path}{beside}; write one with python -m "
                "manifests.<corpus>, or name another split (--splits, dataset.train_subset, "
                "--gen-subset)"
            )
        self._bytes = _map_file(self.path)
        lines = line_starts(self._bytes)
        header = self._line_at(0, lines) if len(lines) > 1 else ""
        self.columns = header.split("\t")
        self._check_header(header, needs)
        rows = self._lines_with_rows(lines)
        self._starts, self._ends = lines[rows], lines[rows + 1]
        self._line_numbers = rows + 1
        self.n_frames, self.video_frames = np.zeros((2, len(rows)), np.int32)
        self._filled = np.zeros(len(rows), np.uint16)  # a bit for each of COLUMNS
        hashes = np.zeros(len(rows), np.int64)
        for begin in range(0, len(rows), AT_ONCE):
            self._read_rows(slice(begin, min(begin + AT_ONCE, len(rows))), hashes)
        self._check_ids(hashes)

    def __len__(self) -> int:
        return len(self._starts)

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        del state["_bytes"]  # a memory map does not pickle; a spawned worker maps the file again
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._bytes = _map_file(self.path)

    def fields(self, row: int) -> list[str]:
        """The cells of one row, in the order of ``columns``."""
        line = self._bytes[int(self._starts[row]) : int(self._ends[row])]
        return line.decode("utf-8").rstrip("\r\n").split("\t")

    def column(self, name: str) -> Column:
        """A text column; one that the file lacks reads as empty."""
        return Column(self, self.columns.index(name) if name in self.columns else None)

    def filled(self, *names: str) -> np.ndarray:
        """``(rows, names)`` bool: whether a row has something in these columns."""
        return _bits(self._filled, *names)

    def where(self, row: int) -> str:
        """``file, line N (id)`` for messages."""
        return f"{self.path}, line {self._line_numbers[row]} ({self.column('id')[row]})"

    def resolve(self, name: str, row: int, root: str | Path | None = None) -> str:
        """Absolute path in column ``name``, its ``:offset:length`` kept; empty if it has none."""
        value = self.column(name)[row]
        return os.path.join(Path(root or self.path.parent).absolute(), value) if value else ""

    def _line_at(self, line: int, starts: np.ndarray) -> str:
        raw = self._bytes[int(starts[line]) : int(starts[line + 1])]
        try:
            return raw.decode("utf-8-sig" if line == 0 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise self._not_utf8(line + 1, error) from None

    def _not_utf8(self, line: int, error: UnicodeDecodeError) -> InputError:
        return InputError(
            f"{self.path}, line {line} is not UTF-8 ({error.reason}); save it as UTF-8"
        )

    def _check_header(self, header: str, needs: Iterable[str]) -> None:
        if not header.strip():
            raise InputError(f"manifest {self.path} is empty; write it again")
        unknown = [c for c in self.columns if c not in COLUMNS]
        if unknown:
            logger.warning("%s: no use for the column %s", self.path, ", ".join(unknown))
        missing = [c for c in (*REQUIRED, *needs) if c not in self.columns]
        if missing:
            raise InputError(
                f"manifest {self.path} lacks the column {', '.join(missing)}; "
                f"its header is {' '.join(self.columns)}"
            )
        repeated = sorted({c for c in self.columns if self.columns.count(c) > 1})
        if repeated:
            raise InputError(f"manifest {self.path} has the column {', '.join(repeated)} twice")

    def _lines_with_rows(self, lines: np.ndarray) -> np.ndarray:
        """Numbers of the lines below the header that are not blank, as one at the end may be."""
        rows = np.arange(1, len(lines) - 1)
        blank = may_be_blank(self._bytes, lines[rows]) if len(rows) else rows == 0
        for place in np.flatnonzero(blank):
            blank[place] = not self._line_at(rows[place], lines).strip()
        if blank.all():
            raise InputError(f"manifest {self.path} has a header but no rows")
        return rows[~blank]

    def _read_rows(self, block: slice, hashes: np.ndarray) -> None:
        """Fill in what is known of a block of rows, and see that all of them are as they must be.

        Args:
            hashes: ``(rows,)`` of the ids.
        """
        begin, end = int(self._starts[block.start]), int(self._ends[block.stop - 1])
        text = self._bytes[begin:end]
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            row = np.searchsorted(self._starts, begin + error.start, side="right") - 1
            raise self._not_utf8(self._line_numbers[row], error) from None
        starts, ends = self._starts[block] - begin, self._ends[block] - begin
        try:
            cells = Cells(text, starts, ends, len(self.columns))
        except OddLine as odd:
            self._refuse(block.start + odd.line)
        for place, name in enumerate(self.columns):
            if name in COLUMNS:
                bit = np.uint16(1 << COLUMNS.index(name))
                self._filled[block] |= bit * cells.filled[:, place]
        named, sound, counted, video = _bits(self._filled[block], *REQUIRED, "video").T
        complete = named & np.where(sound, counted, video & self._silent)
        if not complete.all():
            self._refuse(block.start + int(complete.argmin()))
        for name in ("n_frames", "video_frames"):
            if name in self.columns:
                self._count(name, block, cells)
        hashes[block] = [hash(cell) for cell in cells.column(self.columns.index("id"))]

    def _count(self, name: str, block: slice, cells: Cells) -> None:
        place = self.columns.index(name)
        counts = getattr(self, name)[block] = cells.counts(place)
        if (counts < 0).any():
            row = block.start + int((counts < 0).argmax())
            raise InputError(
                f"{self.path}, line {self._line_numbers[row]}, column {name}: "
                f"{self.fields(row)[place]!r} is not a number of frames"
            )

    def _refuse(self, row: int) -> NoReturn:
        cells, line = self.fields(row), f"{self.path}, line {self._line_numbers[row]}"
        if len(cells) != len(self.columns):
            raise InputError(
                f"{line} has {len(cells)} cells where the header has {len(self.columns)}; is there "
                "a tab or a line break in a text?"
            )
        filled = dict(zip(self.columns, cells, strict=True))
        [missing, *_] = missing_cells(filled, self._silent)
        remedy = ""
        if missing == "audio" and filled.get("video"):
            remedy = "; pictures without sound serve stage 1 alone, with task.use_video=true"
        raise InputError(f"{line}, column {missing} is empty{remedy}")

    def _check_ids(self, hashes: np.ndarray) -> None:
        # Hashes keep a million ids in eight megabytes; only equal hashes are compared as text.
        ids = self.column("id")
        order = np.argsort(hashes, kind="stable")
        for k in np.flatnonzero(np.diff(hashes[order]) == 0):
            first, second = order[k], order[k + 1]
            if ids[first] == ids[second]:
                raise InputError(
                    f"{self.path}, line {self._line_numbers[second]}: the id {ids[second]!r} "
                    f"stands on line {self._line_numbers[first]} too; make ids unique"
                )


def missing_cells(row: Mapping[str, object], silent: bool) -> list[str]:
    """Columns that a row must fill and does not; ``silent`` rows need no sound beside a video."""
    required = ("id", "video") if silent and not row.get("audio") else REQUIRED
    missing = [name for name in required if not row.get(name) and row.get(name) != 0]
    return ["audio" if name == "video" else name for name in missing]


def write_manifest(path: str | Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Write rows (column -> value, absent ones empty) atomically; returns how many.

    Raises:
        InputError: a value holds a tab or a line break, or a required column is missing.
    """
    path, count = Path(path), 0
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="\n") as out:
        out.write("\t".join(COLUMNS) + "\n")
        for row in rows:
            unknown = set(row) - set(COLUMNS)
            cells = [str(row.get(c, "")) for c in COLUMNS]
            if unknown or missing_cells(row, silent=True):
                raise InputError(f"a row for {path} has unknown or missing columns: {dict(row)}")
            if any(ch in cell for cell in cells for ch in "\t\r\n"):
                raise InputError(f"row {row['id']!r} for {path} has a tab or line break in a cell")
            out.write("\t".join(cells) + "\n")
            count += 1
    return count


def _bits(filled: np.ndarray, *names: str) -> np.ndarray:
    """``(rows, names)`` bool of ``(rows,)`` numbers that have a bit for each of ``COLUMNS``."""
    return (filled[:, None] >> [COLUMNS.index(name) for name in names] & 1).astype(bool)


def _map_file(path: Path) -> mmap.mmap | bytes:
    if path.stat().st_size == 0:
        return b""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
