"""The distinct files that manifests point to, kept on disk, and rewriting of manifests.

Memory does not grow with the number of rows, apart from a few integers per row.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from manifests.errors import InputError
from mmpt_fairseq.data.data_folder import DATA_CONFIG, audio_root
from mmpt_fairseq.data.manifest import COLUMNS, Manifest, splits_in, write_manifest
from mmpt_fairseq.data.states import DESCRIPTION

Row = dict[str, str]
PAGE = 1000


class Files:
    """Distinct files, sorted, each with the place of what was derived from it.

    SQLite's temporary database spills to disk by itself.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self._database = sqlite3.connect("")
        self._database.execute(
            "CREATE TABLE files (file TEXT PRIMARY KEY, place TEXT) WITHOUT ROWID"
        )
        self._database.executemany(
            "INSERT OR IGNORE INTO files VALUES (?, NULL)", ((file,) for file in files)
        )

    def close(self) -> None:
        """Delete the temporary file."""
        self._database.close()

    def __len__(self) -> int:
        return self._database.execute("SELECT COUNT(*) FROM files").fetchone()[0]

    def __iter__(self) -> Iterator[str]:
        # In pages, because rows change while they are iterated over.
        last: str | None = ""
        while last is not None:
            page = self._database.execute(
                "SELECT file FROM files WHERE file > ? ORDER BY file LIMIT ?", (last, PAGE)
            ).fetchall()
            yield from (file for (file,) in page)
            last = page[-1][0] if page else None

    def settle(self, file: str, place: str) -> None:
        """Record the place of what was derived from a file."""
        self._database.execute("UPDATE files SET place = ? WHERE file = ?", (place, file))

    def place(self, file: str) -> str | None:
        """The place passed to :meth:`settle`; None for other files."""
        found = self._database.execute("SELECT place FROM files WHERE file = ?", (file,)).fetchone()
        return found and found[0]

    def settled(self) -> int:
        """Number of files that have a place."""
        return self._database.execute("SELECT COUNT(place) FROM files").fetchone()[0]


def manifests_in(folder: Path) -> list[Path]:
    """The manifests of a folder.

    Raises:
        InputError: there is none, they already point to an encoder's states, or the folder's config
            moves the root of the paths.
    """
    found = [folder / f"{split}.tsv" for split in splits_in(folder)]
    if not found:
        raise InputError(f"there is no manifest (*.tsv) in {folder}")
    if (folder / DESCRIPTION).is_file():
        raise InputError(f"{folder} holds an encoder's states; give the manifests of the audio")
    if audio_root(folder):
        raise InputError(
            f"{folder / DATA_CONFIG} sets audio_root, which does not apply to files written beside "
            "the manifests; make the paths relative to the manifests and remove it"
        )
    return found


def open_manifests(folders: Iterable[Path], allow_video_only: bool = True) -> list[Manifest]:
    """Open the manifests of several folders, to be rewritten.

    Args:
        allow_video_only: accept rows with video alone.

    Raises:
        InputError: as for :func:`manifests_in`; or columns would be lost.
    """
    found = []
    for path in (path for folder in folders for path in manifests_in(folder)):
        manifest = Manifest(path, allow_video_only=allow_video_only)
        unknown = [name for name in manifest.columns if name not in COLUMNS]
        if unknown:
            raise InputError(
                f"{path} would lose the column {', '.join(unknown)} when rewritten; "
                "remove it or keep a copy"
            )
        found.append(manifest)
    return found


def rows(manifest: Manifest) -> Iterator[Row]:
    """All rows with all columns, one by one."""
    for row in range(len(manifest)):
        yield dict.fromkeys(COLUMNS, "") | dict(
            zip(manifest.columns, manifest.fields(row), strict=True)
        )


def absolute(manifest: Path, cell: str) -> str:
    """The absolute path of a manifest's cell.

    ``..`` in it begins at the folder that the manifest's own is linked to, as for the kernel.
    """
    return os.path.normpath(os.path.join(os.path.realpath(manifest.parent), cell))


def relative(manifest: Path, path: str | Path) -> str:
    """The inverse of :func:`absolute`: the cell of a manifest for a path."""
    return os.path.relpath(path, os.path.realpath(manifest.parent))


def repoint(manifests: Iterable[Manifest], change: Callable[[Path, Row], None]) -> None:
    """Rewrite each manifest, with its rows changed in place by ``change(path, row)``."""

    for manifest in manifests:

        def changed(manifest: Manifest = manifest) -> Iterator[Row]:
            for row in rows(manifest):
                change(manifest.path, row)
                yield row

        write_manifest(manifest.path, changed())
