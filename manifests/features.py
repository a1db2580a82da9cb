"""Filterbanks computed once: ``python -m manifests.features OUT.zip FOLDER...``.

Every clip in the manifests of the folders gets its features into one uncompressed ZIP, as fairseq's
own speech-to-text recipes store them, and the manifests then point there: ``audio`` becomes
``OUT.zip:offset:length`` and the clip's own path moves to ``recording``, for people to listen to.
Run again, everything is computed again from the recordings. What cannot be read keeps its path;
training skips and counts it.

An hour takes 115 MB (``--float16``: 58 MB).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from tqdm import tqdm

from manifests.common import CorpusError, atomic_path, parallel_imap
from mmpt_fairseq.data.audio import read_filterbank
from mmpt_fairseq.data.manifest import COLUMNS, Manifest, write_manifest
from mmpt_fairseq.data.states import DESCRIPTION
from mmpt_fairseq.errors import InputError, UnreadableClip, exit_on_input_error

Rows = list[dict[str, str]]


def cache_features(
    archive: Path, folders: list[Path], dtype: str = "float32", jobs: int | None = None
) -> tuple[int, int]:
    """Write the archive and the manifests anew; returns (recordings stored, left out).

    Raises:
        InputError: a folder holds no manifest, or a manifest is at fault; the archive is there and
            holds the features of other folders too; not one recording can be read.
    """
    tables = {path: manifest_rows(path) for folder in folders for path in manifests_in(folder)}
    _refuse_foreign(archive, folders)
    sources = sorted({_source(path, row) for path, rows in tables.items() for row in rows})
    with atomic_path(archive) as temporary:
        places = _write_archive(temporary, sources, dtype, jobs or 1)
        stored = sum(place is not None for place in places.values())
        if not stored:
            raise InputError(f"not one of {len(places)} recordings can be read; nothing is cached")
        _name_folders(temporary, archive, folders)
        # Until the new archive is in place no manifest may point into the old one.
        _point(tables, lambda path, row: row["recording"] or row["audio"])
    inside = {path: os.path.relpath(archive, path.parent) for path in tables}

    def place(path: Path, row: dict[str, str]) -> str:
        found = places[_source(path, row)]
        return f"{inside[path]}:{found[0]}:{found[1]}" if found else row["recording"]

    _point(tables, place)
    return stored, len(places) - stored


def _point(tables: dict[Path, Rows], audio: Callable[[Path, dict[str, str]], str]) -> None:
    """Write the manifests with ``audio`` of each row, the clip's own path in ``recording``."""
    for path, rows in tables.items():
        for row in rows:
            row["recording"] = row["recording"] or row["audio"]
            row["audio"] = audio(path, row)
        write_manifest(path, rows)


def _refuse_foreign(archive: Path, folders: list[Path]) -> None:
    """Stop before an archive is replaced into which manifests of other folders point."""
    if not archive.exists():
        return
    try:
        with zipfile.ZipFile(archive) as old:
            named = json.loads(old.comment)["folders"]
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError):
        raise InputError(f"{archive} was not written by this command; give another name") from None
    given = {folder.resolve() for folder in folders}
    others = [archive.parent / name for name in named]
    others = [str(path) for path in others if path.is_dir() and path.resolve() not in given]
    if others:
        raise InputError(
            f"{archive} holds the features of {', '.join(others)} too; name these folders as well, "
            "or another archive"
        )


def _name_folders(temporary: Path, archive: Path, folders: list[Path]) -> None:
    names = sorted(os.path.relpath(folder, archive.parent) for folder in folders)
    with zipfile.ZipFile(temporary, "a") as out:
        out.comment = json.dumps({"folders": names}).encode()


def manifests_in(folder: Path) -> list[Path]:
    """The manifests of a folder.

    Raises:
        InputError: there is none, they point to states already, or the folder's config moves the
            root of the paths.
    """
    # skipped.tsv tells which clips a recipe left out.
    found = sorted(path for path in folder.glob("*.tsv") if path.name != "skipped.tsv")
    if not found:
        raise InputError(f"there is no manifest (*.tsv) in {folder}")
    if (folder / DESCRIPTION).is_file():
        raise InputError(f"{folder} holds an encoder's states; give the manifests of the sound")
    config = folder / "config.yaml"
    if config.is_file() and "audio_root" in (yaml.safe_load(config.read_text("utf-8")) or {}):
        raise InputError(
            f"{config} sets audio_root, from which an archive beside the manifests cannot be "
            "reached; make the paths relative to the manifests and remove it"
        )
    return found


def manifest_rows(path: Path) -> Rows:
    """All rows, with all columns.

    Raises:
        InputError: there are columns that would be lost when the manifest is written anew.
    """
    manifest = Manifest(path)
    unknown = [name for name in manifest.columns if name not in COLUMNS]
    if unknown:
        raise InputError(
            f"{path} would lose the column {', '.join(unknown)} when it is written anew; remove it "
            "or keep a copy"
        )
    columns = {name: manifest.column(name) for name in COLUMNS}
    return [{name: c[i] for name, c in columns.items()} for i in range(len(manifest))]


def _source(path: Path, row: dict[str, str]) -> str:
    """The recording of a row, absolute."""
    return os.path.normpath(path.parent.absolute() / (row["recording"] or row["audio"]))


def _write_archive(
    archive: Path, sources: list[str], dtype: str, jobs: int
) -> dict[str, tuple[int, int] | None]:
    """Source -> (offset, length) in bytes of its array in the archive; None if unreadable."""
    places: dict[str, tuple[int, int] | None] = {}
    work = partial(_npy, dtype=dtype)
    # One job stays here: a process of its own would import fairseq once more, for seconds.
    alone = map(work, tqdm(sources, desc="features", unit="clip"))
    arrays = alone if jobs == 1 else parallel_imap(work, sources, jobs, "features")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as out:
        for i, (source, array) in enumerate(zip(sources, arrays, strict=True)):
            places[source] = None
            if isinstance(array, str):
                print(f"left as it is: {array}", file=sys.stderr)
                continue
            places[source] = add_member(out, f"{i:09d}.npy", array)
    return places


def add_member(archive: zipfile.ZipFile, name: str, data: bytes) -> tuple[int, int]:
    """Store ``data`` uncompressed; returns (offset, length) in bytes of it in the archive."""
    # A ZipInfo of its own carries no time of writing: the same bytes in every run.
    archive.writestr(zipfile.ZipInfo(name), data)
    # A member's bytes follow its header, its name and (here) no extra field.
    member = archive.infolist()[-1]
    return member.header_offset + zipfile.sizeFileHeader + len(member.filename), len(data)


def npy_bytes(array: np.ndarray) -> bytes:
    """The bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _npy(source: str, dtype: str) -> bytes | str:
    """The features ``(T, 80)`` as the bytes of a .npy file, or what is wrong with the clip."""
    try:
        return npy_bytes(read_filterbank(source).astype(dtype))
    except UnreadableClip as error:
        return str(error)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, metavar="OUT.zip")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="with manifests")
    parser.add_argument("--float16", action="store_true", help="half the size")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    args = parser.parse_args(arguments)
    with exit_on_input_error():
        dtype = "float16" if args.float16 else "float32"
        try:
            stored, left = cache_features(args.archive, args.folders, dtype, args.jobs)
        except CorpusError as error:
            raise InputError(str(error)) from None
    print(f"{args.archive}: features of {stored} recordings, {left} unreadable", file=sys.stderr)


if __name__ == "__main__":
    main()
