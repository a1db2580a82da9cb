"""Fingerprints of files, to detect that the inputs of a result have changed."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from manifests.errors import InputError

CHUNK = 1 << 20  # bytes read at the beginning and at the end of a file


def fingerprint(paths: Sequence[Path]) -> str:
    """Hash the names, sizes, beginnings and ends of files, which suffices to detect changes.

    The end of a checkpoint, a zip archive, has the checksums of all its tensors.

    Raises:
        InputError: a file is missing.
    """
    digest = hashlib.sha256()
    for path in paths:
        if not path.is_file():
            raise InputError(f"there is no file {path}, which this step reads")
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(CHUNK)
            file.seek(max(0, size - CHUNK))
            digest.update(f"{path.name} {size} ".encode() + head + file.read())
    return digest.hexdigest()
