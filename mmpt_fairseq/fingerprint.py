"""Whether files are still those that something was made from."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from manifests.errors import InputError

ENDS = 1 << 20  # bytes read at the beginning and at the end of a file


def fingerprint(paths: Sequence[Path]) -> str:
    """A hash of names, sizes and beginnings and ends: enough to tell remade files.

    The end of a checkpoint, a zip archive, lists the checksums of all its tensors.

    Raises:
        InputError: one is not there.
    """
    digest = hashlib.sha256()
    for path in paths:
        if not path.is_file():
            raise InputError(f"there is no {path}, which this step reads")
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(ENDS)
            file.seek(max(0, size - ENDS))
            digest.update(f"{path.name} {size} ".encode() + head + file.read())
    return digest.hexdigest()
