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
import os
import sys
import zipfile
from functools import partial
from pathlib import Path

import numpy as np

from manifests.common import atomic_path, parallel_map
from mmpt_fairseq.data.audio import read_filterbank
from mmpt_fairseq.data.manifest import COLUMNS, Manifest, write_manifest
from mmpt_fairseq.errors import InputError, UnreadableClip, exit_on_input_error

Rows = list[dict[str, str]]

PORTION = 20_000  # clips whose features are in memory at a time


def cache_features(
    archive: Path, folders: list[Path], dtype: str = "float32", jobs: int | None = None
) -> tuple[int, int]:
    """Write the archive and the manifests anew; returns (recordings stored, left out).

    Raises:
        InputError: a folder holds no manifest, or a manifest is at fault.
    """
    tables = {path: _rows(path) for folder in folders for path in _manifests(folder)}
    sources = sorted({_source(path, row) for path, rows in tables.items() for row in rows})
    with atomic_path(archive) as temporary:
        places = _write_archive(temporary, sources, dtype, jobs or 1)
    for path, rows in tables.items():
        inside = os.path.relpath(archive, path.parent)
        for row in rows:
            place = places[_source(path, row)]
            row["recording"] = row["recording"] or row["audio"]
            row["audio"] = f"{inside}:{place[0]}:{place[1]}" if place else row["recording"]
        write_manifest(path, rows)
    stored = sum(place is not None for place in places.values())
    return stored, len(places) - stored


def _manifests(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.tsv"))
    if not found:
        raise InputError(f"there is no manifest (*.tsv) in {folder}")
    return found


def _rows(path: Path) -> Rows:
    manifest = Manifest(path)
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
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as out:
        for start in range(0, len(sources), PORTION):
            portion = sources[start : start + PORTION]
            label = f"features {start + 1} to {start + len(portion)} of {len(sources)}"
            stored = parallel_map(partial(_npy, dtype=dtype), portion, jobs, label)
            for i, (source, array) in enumerate(zip(portion, stored, strict=True), start):
                places[source] = None
                if isinstance(array, str):
                    print(f"left as it is: {array}", file=sys.stderr)
                    continue
                # A ZipInfo of its own carries no time of writing: the same bytes in every run.
                out.writestr(zipfile.ZipInfo(f"{i:09d}.npy"), array)
                # A member's bytes follow its header, its name and (here) no extra field.
                member = out.infolist()[-1]
                offset = member.header_offset + zipfile.sizeFileHeader + len(member.filename)
                places[source] = (offset, len(array))
    return places


def _npy(source: str, dtype: str) -> bytes | str:
    """The features ``(T, 80)`` as the bytes of a .npy file, or what is wrong with the clip."""
    try:
        features = read_filterbank(source)
    except UnreadableClip as error:
        return str(error)
    buffer = io.BytesIO()
    np.save(buffer, features.astype(dtype))
    return buffer.getvalue()


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
        stored, left = cache_features(args.archive, args.folders, dtype, args.jobs)
    print(f"{args.archive}: features of {stored} recordings, {left} unreadable", file=sys.stderr)


if __name__ == "__main__":
    main()
