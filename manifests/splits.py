"""Names of splits and their roles (train, valid, test), and a hash that holds out by name."""

from __future__ import annotations

import re
from zlib import crc32

from manifests.errors import InputError

NAME = re.compile(r"\w[\w.+-]{0,99}")
# fairseq's names, for any capitalisation.
CANONICAL = {name: name for name in ("train", "valid", "dev", "test")}
CANONICAL |= {"training": "train", "validation": "valid", "testing": "test"}
# Names of corpus folders and tables that are splits, such as dev or test-clean.
SPLIT = re.compile(
    r"(train|training|valid|validation|val|dev|test|testing|tst|eval)([-_.\d].*)?", re.IGNORECASE
)
USUAL = ("train", "valid", "val", "dev", "test", "tst", "eval")  # prefixes of usual split names


def role_of(split: str) -> str:
    """The role of a split, by its name: ``train``, ``valid`` or ``test``."""
    name = split.lower()
    if name.startswith(("valid", "dev", "val")):
        return "valid"
    return "test" if name.startswith(("test", "tst", "eval")) else "train"


def is_split(name: str) -> bool:
    """Whether a folder or table of this name is a split."""
    return bool(SPLIT.fullmatch(name))


def canonical_split(split: str) -> str:
    """A split's usual name: ``training`` is train, ``validation`` valid, ``Test`` test."""
    return CANONICAL.get(split.lower(), split)


def checked_split(name: str) -> str:
    """A split's usual name, checked to be usable as a file name in OUT_DIR.

    Raises:
        InputError: the name would lead out of the folder, or is that of another file there.
    """
    name = canonical_split(name)
    if not NAME.fullmatch(name) or name.lower() == "skipped":
        raise InputError(
            f"a split cannot be called {name!r}; use letters, digits, '-', '_', '+' or '.', and "
            "not 'skipped'"
        )
    return name


def is_usual(split: str) -> bool:
    """Whether training or decoding is likely to read a split of this name by default."""
    return split.lower().startswith(USUAL)


def name_hash(name: str) -> int:
    """A hash that is the same on every machine; accepts any file name."""
    return crc32(name.encode("utf-8", "surrogateescape"))


def is_held_out(name: str, every: int) -> bool:
    """Whether a speaker or video is among the one in ``every`` held out for validation."""

    return every > 0 and name_hash(name) % every == 0
