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

import numpy as np

from manifests.common import atomic_path
from manifests.errors import InputError

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


def splits_in(folder: Path) -> list[str]:
    """Names of the manifests in a folder."""
    return sorted({path.stem for path in folder.glob("*.tsv")} - {"skipped"})


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
        starts = _line_starts(self._bytes)
        header = self._line_at(0, starts) if len(starts) > 1 else ""
        self.columns = header.split("\t")
        self._check_header(header, needs)
        # Blank lines, such as one at the end, hold no row.
        rows = np.array([i for i in range(1, len(starts) - 1) if self._line_at(i, starts).strip()])
        if not len(rows):
            raise InputError(f"manifest {self.path} has a header but no rows")
        self._starts, self._ends = starts[rows], starts[rows + 1]
        self._line_numbers = rows + 1
        self.n_frames = self._count_column("n_frames")
        self.video_frames = self._count_column("video_frames")
        self._check_ids()

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
        places = [self.columns.index(name) if name in self.columns else None for name in names]
        table = np.zeros((len(self), len(names)), dtype=bool)
        for row in range(len(self)):
            cells = self.fields(row)
            table[row] = [place is not None and bool(cells[place]) for place in places]
        return table

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
            raise InputError(
                f"{self.path}, line {line + 1} is not UTF-8 ({error.reason}); save it as UTF-8"
            ) from None

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

    def _count_column(self, name: str) -> np.ndarray:
        counts = np.zeros(len(self), dtype=np.int32)
        if name not in self.columns:
            return counts
        index = self.columns.index(name)
        for row in range(len(self)):
            cells = self.fields(row)
            self._check_cells(row, cells)
            if not cells[index]:
                continue
            try:
                counts[row] = int(cells[index])
            except (ValueError, OverflowError):
                counts[row] = -1
            if counts[row] < 0:
                raise InputError(
                    f"{self.path}, line {self._line_numbers[row]}, column {name}: "
                    f"{cells[index]!r} is not a number of frames"
                )
        return counts

    def _check_cells(self, row: int, cells: list[str]) -> None:
        if len(cells) != len(self.columns):
            raise InputError(
                f"{self.path}, line {self._line_numbers[row]} has {len(cells)} cells where the "
                f"header has {len(self.columns)}; is there a tab or a line break in a text?"
            )
        filled = dict(zip(self.columns, cells, strict=True))
        missing = missing_cells(filled, self._silent)
        if missing:
            remedy = ""
            if missing[0] == "audio" and filled.get("video"):
                remedy = "; pictures without sound serve stage 1 alone, with task.use_video=true"
            raise InputError(
                f"{self.path}, line {self._line_numbers[row]}, column {missing[0]} is empty{remedy}"
            )

    def _check_ids(self) -> None:
        # Hashes keep a million ids in eight megabytes; only equal hashes are compared as text.
        ids = self.column("id")
        hashes = np.fromiter((hash(i) for i in ids), dtype=np.int64, count=len(self))
        order = np.argsort(hashes, kind="stable")
        for k in np.flatnonzero(np.diff(hashes[order]) == 0):
            first, second = order[k], order[k + 1]
            if ids[first] == ids[second]:
                raise InputError(
                    f"{self.path}, line {self._line_numbers[second]}: the id {ids[second]!r} "
                    f"stands on line {self._line_numbers[first]} too; make ids unique"
                )


class JoinedManifest:
    """Several manifests as one, the rows of each behind those before.

    It has what stage 1 asks of a :class:`Manifest`: ``n_frames``, ``video_frames``, ``filled``,
    ``where`` and ``resolve``. Paths are relative to the manifest that they stand in. For a dataset
    that orders and batches all rows by what they have, which fairseq's ``ConcatDataset`` would
    leave to each of several.
    """

    def __init__(self, parts: Sequence[Manifest]) -> None:
        self.parts = list(parts)
        self.path = ", ".join(str(part.path) for part in parts)  # for messages
        self.n_frames = np.concatenate([part.n_frames for part in parts])
        self.video_frames = np.concatenate([part.video_frames for part in parts])
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def filled(self, *names: str) -> np.ndarray:
        """As :meth:`Manifest.filled`."""
        return np.concatenate([part.filled(*names) for part in self.parts])

    def where(self, row: int) -> str:
        """As :meth:`Manifest.where`."""
        part, row = self._place(row)
        return part.where(row)

    def resolve(self, name: str, row: int, root: str | Path | None = None) -> str:
        """As :meth:`Manifest.resolve`."""
        part, row = self._place(row)
        return part.resolve(name, row, root)

    def _place(self, row: int) -> tuple[Manifest, int]:
        """The manifest that a row stands in, and its number there."""
        part = int(np.searchsorted(self._ends, row, side="right"))
        return self.parts[part], row - int(self._ends[part] - len(self.parts[part]))


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


def _map_file(path: Path) -> mmap.mmap | bytes:
    if path.stat().st_size == 0:
        return b""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _line_starts(data: mmap.mmap | bytes) -> np.ndarray:
    """Offsets at which lines start, and the end of the data."""
    if not len(data):
        return np.zeros(1, dtype=np.int64)
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n")).astype(np.int64) + 1
    if not len(ends) or ends[-1] != len(data):
        ends = np.append(ends, len(data))
    return np.insert(ends, 0, 0)
