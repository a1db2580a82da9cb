"""Precompute filterbank features: ``python -m manifests.features OUT.zip FOLDER...``.

The features of every clip in the folders' manifests are stored in uncompressed ZIPs, as in
fairseq's speech-to-text recipes, and the manifests then point to them: ``audio`` becomes
``OUT.zip:offset:length``, and the clip's own path moves to ``recording``, for listening.
An archive holds ten thousand recordings; further ones are called ``OUT-1.zip``, ``OUT-2.zip`` ...

When run again, archives of unchanged recordings are kept, so a killed run resumes after the last
complete one. Unreadable clips keep their paths; training skips and counts them.

An hour of audio takes 115 MB (``--float16``: 58 MB).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from hashlib import blake2b
from itertools import count, islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from manifests.common import atomic_path, parallel_stream, preload, remove_stale
from manifests.errors import InputError, UnreadableClip, command_line
from manifests.repoint import Files, Row, absolute, open_manifests, relative, repoint, rows
from mmpt_fairseq.data.audio import read_filterbank
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.waveform import split_slice

IN_ARCHIVE = 10_000  # recordings; bounds what is recomputed after a kill
INDEX = "sources.tsv"  # the last member of an archive: recording, offset, length

preload("mmpt_fairseq.data.audio")


def cache_features(
    archive: Path, folders: list[Path], dtype: str = "float32", jobs: int = 1
) -> tuple[int, int]:
    """Write the archives and update the manifests; returns (recordings stored, left out).

    Raises:
        InputError: the archive's name does not end in .zip; a folder holds no manifest, or a
            manifest is invalid; an existing archive holds the features of other folders too; no
            recording can be read.
    """
    if archive.suffix != ".zip":  # by which manifests distinguish archives from recordings
        raise InputError(f"the archive {archive} must end in .zip; use {archive}.zip")
    manifests = open_manifests(folders)
    remove_stale(archive.parent, deep=False)
    with closing(Files(_sources(manifests))) as files:
        paths = [archive_path(archive, n) for n in range(-(-len(files) // IN_ARCHIVE))]
        for path in paths:
            _refuse_foreign(path, folders)
        _fill(paths, files, folders, manifests, dtype, jobs)
        stored, left = files.settled(), len(files) - files.settled()
        if not stored:
            for path in paths:
                path.unlink(missing_ok=True)
            raise InputError(f"none of {left} recordings can be read; nothing is cached")

        def to_archive(path: Path, row: Row) -> None:
            place = files.place(_source(path, row))
            if place:
                number, _, part = place.partition(":")
                row["recording"] = row["recording"] or row["audio"]
                row["audio"] = f"{relative(path, paths[int(number)])}:{part}"

        # Opened again: they may have been pointed back to the recordings in between.
        repoint(open_manifests(folders), to_archive)
    _remove_further(archive, len(paths), folders)
    return stored, left


def archive_path(archive: Path, number: int) -> Path:
    """``OUT.zip``, ``OUT-1.zip``, ``OUT-2.zip`` ..."""
    return archive.with_name(f"{archive.stem}-{number}{archive.suffix}") if number else archive


def _fill(
    paths: list[Path],
    files: Files,
    folders: list[Path],
    manifests: list[Manifest],
    dtype: str,
    jobs: int,
) -> None:
    """Write archives that are missing or outdated; record the places in ``files``."""
    sources, pointed_back = iter(files), False
    with tqdm(total=len(files), desc="features", unit="clip", smoothing=0.05) as bar:
        for number, path in enumerate(paths):
            batch = list(islice(sources, IN_ARCHIVE))
            label = _label(path, batch, folders, dtype)
            if _label_of(path) != label:
                if path.exists() and not pointed_back:
                    # Until the new archives are in place, no manifest may point into old ones.
                    repoint(manifests, _to_recording)
                    pointed_back = True
                _write_archive(path, batch, label, dtype, jobs, bar)
            else:
                bar.update(len(batch))
            for source, part in _index(path):
                files.settle(source, f"{number}:{part}")


def _to_recording(path: Path, row: Row) -> None:
    row["audio"] = row["recording"] or row["audio"]


def _label(path: Path, batch: list[str], folders: list[Path], dtype: str) -> dict:
    """Identifies an archive's folders, and its recordings with sizes and modification times."""
    digest = blake2b(dtype.encode(), digest_size=16)
    for source in batch:
        file = split_slice(source)[0]
        status = os.stat(file) if os.path.isfile(file) else None
        stamp = f"{status.st_size}:{status.st_mtime_ns}" if status else ""
        digest.update(f"{source}\t{stamp}\n".encode())
    return {"folders": _names(path, folders), "recordings": digest.hexdigest()}


def _names(path: Path, folders: list[Path]) -> list[str]:
    """Folders as recorded in an archive: relative to it."""
    return sorted(relative(path, os.path.realpath(folder)) for folder in folders)


def _label_of(path: Path) -> dict | None:
    """The label of an archive; None if this command wrote no archive there."""
    try:
        with zipfile.ZipFile(path) as archive:
            label = json.loads(archive.comment)
    except (OSError, zipfile.BadZipFile, ValueError):
        return None
    return label if isinstance(label, dict) and "folders" in label else None


def _refuse_foreign(path: Path, folders: list[Path]) -> None:
    """Stop before replacing an archive that manifests of other folders point to."""
    if not path.exists():
        return
    label = _label_of(path)
    if label is None:
        raise InputError(f"{path} was not written by this command; use another name")
    given = {folder.resolve() for folder in folders}
    others = [Path(absolute(path, name)) for name in label["folders"]]
    others = [str(other) for other in others if other.is_dir() and other.resolve() not in given]
    if others:
        raise InputError(
            f"{path} also holds the features of {', '.join(others)}; give these folders too, "
            "or another archive"
        )


def _remove_further(archive: Path, number: int, folders: list[Path]) -> None:
    """Remove archives of an earlier run over more recordings, which are no longer used."""
    for i in count(number):
        path = archive_path(archive, i)
        label = _label_of(path)
        if label is None or label["folders"] != _names(path, folders):
            return
        path.unlink()


def _sources(manifests: list[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        yield from (_source(manifest.path, row) for row in rows(manifest) if row["audio"])


def _source(path: Path, row: Row) -> str:
    """The absolute path of a row's recording."""
    return absolute(path, row["recording"] or row["audio"])


def _write_archive(
    path: Path, batch: list[str], label: dict, dtype: str, jobs: int, bar: tqdm
) -> None:
    """Compute a batch's features and store them, with an index and a label."""
    work = partial(_npy, dtype=dtype)
    index = []
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as out:
        for i, (source, found) in enumerate(parallel_stream(work, batch, jobs, _lost)):
            bar.update()
            if isinstance(found, str):
                print(f"left unchanged: {found}", file=sys.stderr)
                continue
            offset, length = add_member(out, f"{i:09d}.npy", found)
            index.append(f"{source}\t{offset}:{length}\n")
        add_member(out, INDEX, "".join(index).encode())
        out.comment = json.dumps(label).encode()


def _index(path: Path) -> Iterator[tuple[str, str]]:
    """(recording, ``offset:length``) of each member of an archive."""
    with zipfile.ZipFile(path) as archive:
        # Not splitlines: names may contain other Unicode line breaks.
        for line in archive.read(INDEX).decode().split("\n")[:-1]:
            source, _, part = line.rpartition("\t")
            yield source, part


def add_member(archive: zipfile.ZipFile, name: str, data: bytes) -> tuple[int, int]:
    """Store ``data`` uncompressed; returns its (offset, length) in the archive, in bytes."""
    # An explicit ZipInfo has no current time: the bytes are the same in every run.
    archive.writestr(zipfile.ZipInfo(name), data)
    # A member's data follows its header, its name and (here) no extra field.
    member = archive.infolist()[-1]
    return member.header_offset + zipfile.sizeFileHeader + len(member.filename), len(data)


def npy_bytes(array: np.ndarray) -> bytes:
    """The bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _npy(source: str, dtype: str) -> bytes | str:
    """The features ``(T, 80)`` as the bytes of a .npy file, or the error message of the clip."""
    try:
        return npy_bytes(read_filterbank(source).astype(dtype))
    except UnreadableClip as error:
        return str(error)


def _lost(source: str) -> str:
    return f"{source} crashes the process that reads it"


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m manifests.features", description=__doc__.splitlines()[0]
    )
    parser.add_argument("archive", type=Path, metavar="OUT.zip")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="with manifests")
    parser.add_argument("--float16", action="store_true", help="store float16, half the size")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    args = parser.parse_args(arguments)
    with command_line():
        dtype = "float16" if args.float16 else "float32"
        stored, left = cache_features(args.archive, args.folders, dtype, args.jobs)
    print(f"{args.archive}: features of {stored} recordings, {left} unreadable", file=sys.stderr)


if __name__ == "__main__":
    main()
