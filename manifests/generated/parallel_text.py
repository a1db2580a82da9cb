"""Read sentences from a parallel text with one column per language, instead of the grammar."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from ..text import clean, read_lines
from .grammar import Sentence

_LANGUAGE = re.compile(r"[a-z]{2,3}([-_][A-Za-z]{2,4})?")


def parallel_text(path: Path) -> tuple[list[Sentence], int]:
    """Return the sentences with their translations, and the number of unusable lines.

    A usable line has a text in every language, a letter or digit in its English text, which is
    spoken, and English that occurs in no earlier line. Texts are cleaned as in every manifest.

    Raises:
        InputError: the header lacks English, or a column name is not a language code.
    """
    found: dict[str, Sentence] = {}
    rows = list(_rows(path))
    for sentence in rows:
        if all(sentence.values()) and any(c.isalnum() for c in sentence["en"]):
            found.setdefault(sentence["en"], sentence)
    return list(found.values()), len(rows) - len(found)


def _rows(path: Path) -> Iterator[Sentence]:
    """The lines below the header of language codes; missing cells are empty."""
    rows = (line.rstrip("\r\n").split("\t") for line in read_lines(path))
    languages = [clean(name) for name in next(rows, [])]
    invalid = [name for name in languages if not _LANGUAGE.fullmatch(name)]
    if "en" not in languages:
        raise InputError(f"{path} has no column named en in its first line.")
    if invalid or len(set(languages)) != len(languages):
        raise InputError(
            f"The first line of {path} must name a language in each column, such as en and de, "
            f"not {', '.join(invalid) or 'one twice'}."
        )
    for row in rows:
        cells = [_text(cell) for cell in row[: len(languages)]]
        cells += [""] * (len(languages) - len(cells))
        yield dict(zip(languages, cells, strict=True))


def _text(cell: str) -> str:
    """The cleaned cell; empty where it is not valid UTF-8."""
    text = clean(cell)
    return "" if any("\ud800" <= c <= "\udfff" for c in text) else text
