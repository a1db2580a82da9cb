"""The manifest: a TSV with fairseq S2T's columns plus video, defined in this module alone.

=============  ====================================================================
``id``         unique name of the clip
``audio``      path, relative to ``audio_root`` or to the manifest: wav, flac, ogg,
               mp3, mp4, mpg, .npy features; ``archive.zip:offset:length`` in bytes,
               ``recording.wav:offset:length`` in samples of the recording
``n_frames``   10 ms filterbank frames; without audio, as many as audio of that length has
``tgt_text``   transcript or translation (absent or empty in pre-training)
``speaker``, ``src_text``, ``src_lang``, ``tgt_lang``   as in fairseq S2T
``video``      path, or ``recording.mp4:first:count`` in video frames; may be empty
``video_frames``  number of frames in the video
``recording``  if ``audio`` holds cached features: the clip's audio file, to listen to
``segments``   who speaks when, in seconds: ``anna:0.31-2.5;ben:2.1-4.02`` (SUPERB's diarization)
=============  ====================================================================

In stage 1, rows with ``video`` may leave ``audio`` and ``n_frames`` empty (video-only).

A manifest of a million rows stays one memory-mapped file and a few integer arrays: rows are
parsed on access, so that loader workers share it and start immediately.
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
from mmpt_fairseq.data.tsv import CellCountError, Cells, line_starts, may_be_blank

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
BLOCK_ROWS = 1 << 16  # rows validated together


class Column(Sequence[str]):
    """One text column of a manifest as a read-only sequence.

    Args:
        index: of the column; None if the manifest lacks it, so that all cells are empty.
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
    """Read the first row of a manifest without validation; empty unless it has a cell per column.

    Raises:
        OSError, UnicodeDecodeError: the file cannot be read.
    """
    with path.open(encoding="utf-8-sig") as file:
        header, row = (file.readline().rstrip("\r\n").split("\t") for _ in range(2))
    return dict(zip(header, row, strict=True)) if len(row) == len(header) else {}


def splits_in(folder: Path) -> list[str]:
    """Names of the manifests in a folder."""
    # skipped.tsv lists the clips that a recipe left out.
    return sorted({path.stem for path in folder.glob("*.tsv")} - {"skipped"})


def splits_with_prefix(folder: str | Path, name: str) -> list[str]:
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
        needs: columns required in addition to ``id``, ``audio`` and ``n_frames``.
        allow_video_only: accept video-only rows, whose ``audio`` is empty.

    Attributes:
        n_frames: ``(rows,)`` int32, 10 ms frames, 0 if the cell is empty.
        video_frames: ``(rows,)`` int32, 0 if a clip has no video.

    Raises:
        InputError: the manifest is invalid; the message names file, line and column.
    """

    def __init__(
        self, path: str | Path, needs: Iterable[str] = (), allow_video_only: bool = False
    ) -> None:
        self.path, self._allow_video_only = Path(path), allow_video_only
        if not self.path.is_file():
            others = splits_in(self.path.parent)
            available = f"; found only {', '.join(others)}" if others else ""
            raise InputError(
                f"there is no manifest {self.path}{available}; write one with python -m "
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
        self._filled = np.zeros(len(rows), np.uint16)  # one bit per column of COLUMNS
        id_hashes = np.zeros(len(rows), np.int64)
        for begin in range(0, len(rows), BLOCK_ROWS):
            self._read_rows(slice(begin, min(begin + BLOCK_ROWS, len(rows))), id_hashes)
        self._check_ids(id_hashes)

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
        """A text column; all cells are empty if the file lacks it."""
        return Column(self, self.columns.index(name) if name in self.columns else None)

    def filled(self, *names: str) -> np.ndarray:
        """Return ``(rows, names)`` bool: whether a row's cell in these columns is not empty."""
        return _bits(self._filled, *names)

    def where(self, row: int) -> str:
        """Location of a row for messages: ``file, line N (id)``."""
        return f"{self.path}, line {self._line_numbers[row]} ({self.column('id')[row]})"

    def resolve(self, name: str, row: int, root: str | Path | None = None) -> str:
        """Absolute path in column ``name``, with its ``:offset:length``; empty if the cell is."""
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
            raise InputError(f"manifest {self.path} is empty; regenerate it")
        unknown = [c for c in self.columns if c not in COLUMNS]
        if unknown:
            logger.warning("%s: ignoring the unknown column %s", self.path, ", ".join(unknown))
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
        """Indices of the lines below the header that are not blank."""
        rows = np.arange(1, len(lines) - 1)
        blank = may_be_blank(self._bytes, lines[rows]) if len(rows) else rows == 0
        for index in np.flatnonzero(blank):
            blank[index] = not self._line_at(rows[index], lines).strip()
        if blank.all():
            raise InputError(f"manifest {self.path} has a header but no rows")
        return rows[~blank]

    def _read_rows(self, block: slice, id_hashes: np.ndarray) -> None:
        """Validate a block of rows and fill in the arrays for it.

        Args:
            id_hashes: ``(rows,)`` hashes of the ids.
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
        except CellCountError as error:
            self._raise_row_error(block.start + error.line)
        for index, name in enumerate(self.columns):
            if name in COLUMNS:
                bit = np.uint16(1 << COLUMNS.index(name))
                self._filled[block] |= bit * cells.filled[:, index]
        has_id, has_audio, has_length, has_video = _bits(self._filled[block], *REQUIRED, "video").T
        complete = has_id & np.where(has_audio, has_length, has_video & self._allow_video_only)
        if not complete.all():
            self._raise_row_error(block.start + int(complete.argmin()))
        for name in ("n_frames", "video_frames"):
            if name in self.columns:
                self._parse_counts(name, block, cells)
        id_hashes[block] = [hash(cell) for cell in cells.column(self.columns.index("id"))]

    def _parse_counts(self, name: str, block: slice, cells: Cells) -> None:
        index = self.columns.index(name)
        counts = getattr(self, name)[block] = cells.counts(index)
        if (counts < 0).any():
            row = block.start + int((counts < 0).argmax())
            raise InputError(
                f"{self.path}, line {self._line_numbers[row]}, column {name}: "
                f"{self.fields(row)[index]!r} is not a number of frames"
            )

    def _raise_row_error(self, row: int) -> NoReturn:
        cells, line = self.fields(row), f"{self.path}, line {self._line_numbers[row]}"
        if len(cells) != len(self.columns):
            raise InputError(
                f"{line} has {len(cells)} cells where the header has {len(self.columns)}; does "
                "a text contain a tab or a line break?"
            )
        filled = dict(zip(self.columns, cells, strict=True))
        [missing, *_] = missing_cells(filled, self._allow_video_only)
        remedy = ""
        if missing == "audio" and filled.get("video"):
            remedy = "; rows without audio are for stage 1 only, with task.use_video=true"
        raise InputError(f"{line}, column {missing} is empty{remedy}")

    def _check_ids(self, id_hashes: np.ndarray) -> None:
        # The hashes of a million ids take 8 MB; only ids with equal hashes are compared as text.
        ids = self.column("id")
        order = np.argsort(id_hashes, kind="stable")
        for k in np.flatnonzero(np.diff(id_hashes[order]) == 0):
            first, second = order[k], order[k + 1]
            if ids[first] == ids[second]:
                raise InputError(
                    f"{self.path}, line {self._line_numbers[second]}: the id {ids[second]!r} "
                    f"is also on line {self._line_numbers[first]}; make ids unique"
                )


def missing_cells(row: Mapping[str, object], allow_video_only: bool) -> list[str]:
    """Required columns that a row leaves empty; with ``allow_video_only`` video replaces audio."""
    required = ("id", "video") if allow_video_only and not row.get("audio") else REQUIRED
    missing = [name for name in required if not row.get(name) and row.get(name) != 0]
    return ["audio" if name == "video" else name for name in missing]


def write_manifest(path: str | Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Write rows (column -> value, missing ones empty) atomically; return their number.

    Raises:
        InputError: a value contains a tab or line break, or a column is missing or unknown.
    """
    path, count = Path(path), 0
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="\n") as out:
        out.write("\t".join(COLUMNS) + "\n")
        for row in rows:
            unknown = set(row) - set(COLUMNS)
            cells = [str(row.get(c, "")) for c in COLUMNS]
            if unknown or missing_cells(row, allow_video_only=True):
                raise InputError(f"a row for {path} has unknown or missing columns: {dict(row)}")
            if any(ch in cell for cell in cells for ch in "\t\r\n"):
                raise InputError(f"row {row['id']!r} for {path} has a tab or line break in a cell")
            out.write("\t".join(cells) + "\n")
            count += 1
    return count


def _bits(filled: np.ndarray, *names: str) -> np.ndarray:
    """Unpack ``(rows,)`` bit fields over ``COLUMNS`` into ``(rows, names)`` bool."""
    return (filled[:, None] >> [COLUMNS.index(name) for name in names] & 1).astype(bool)


def _map_file(path: Path) -> mmap.mmap | bytes:
    if path.stat().st_size == 0:
        return b""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
