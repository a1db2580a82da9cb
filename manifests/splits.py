"""What splits are called and what they are for; which speakers and recordings are held out."""

from __future__ import annotations

import re
from zlib import crc32

from manifests.errors import InputError

NAME = re.compile(r"\w[\w.+-]{0,99}")
# What fairseq calls them, however they are written.
CANONICAL = {name: name for name in ("train", "valid", "dev", "test")}
CANONICAL |= {"training": "train", "validation": "valid"}
FOLDERS = {*CANONICAL, "val", "eval"}  # of a corpus, in small letters, that are splits
USUAL = ("train", "valid", "val", "dev", "test", "tst", "eval")  # how their names begin


def role_of(split: str) -> str:
    """What a split is for, by its name: ``train``, ``valid`` or ``test``."""
    name = split.lower()
    if name.startswith(("valid", "dev", "val")):
        return "valid"
    return "test" if name.startswith(("test", "tst", "eval")) else "train"


def canonical_split(split: str) -> str:
    """A split's usual name: ``training`` is train, ``validation`` valid, ``Test`` test."""
    return CANONICAL.get(split.lower(), split)


def checked_split(name: str) -> str:
    """A split's usual name, as that of a file in OUT_DIR.

    Raises:
        InputError: the name would lead out of the folder, or is that of another file there.
    """
    name = canonical_split(name)
    if not NAME.fullmatch(name) or name.lower() == "skipped":
        raise InputError(
            f"a split cannot be called {name!r}; take letters, digits, '-', '_', '+' or '.', and "
            "not 'skipped'"
        )
    return name


def is_usual(split: str) -> bool:
    """Whether its name is one that trainings or decodes are likely to take."""
    return split.lower().startswith(USUAL)


def name_hash(name: str) -> int:
    """The same on every machine, for whatever a file can be called."""
    return crc32(name.encode("utf-8", "surrogateescape"))


def is_held_out(name: str, every: int) -> bool:
    """Whether a speaker or a video is of the one in ``every`` that is kept for validation."""
    return every > 0 and name_hash(name) % every == 0
