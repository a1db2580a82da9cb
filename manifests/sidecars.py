"""Texts beside recordings: which file belongs to one, its encoding, and the clips that it makes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from manifests.candidate import BAD_TEXT, EMPTY_TEXT, Candidate
from manifests.captions import SUFFIXES as CAPTIONS
from manifests.captions import read_cues
from manifests.text import encoding_of

SUFFIXES = (*CAPTIONS, ".txt")


@dataclass(frozen=True)
class Recording:
    """A recording in a folder.

    Attributes:
        sound: the file that is heard.
        video: the file that is seen; None where there is none.
        texts: the folder's text files, by their names with suffixes in small letters.
    """

    sound: Path
    video: Path | None
    texts: Mapping[str, Path]


class Sidecars:
    """Reads the texts of recordings.

    Args:
        rule: how they are cleaned.
        language: ``talk.<language>.srt`` goes before ``talk.srt``.
        encoding: of those that are not Unicode.
    """

    def __init__(self, rule: Callable[[str], str], language: str, encoding: str) -> None:
        self._rule, self._language, self._encoding = rule, language, encoding
        self._told: set[str] = set()

    def find(self, recording: Recording) -> Path | None:
        """The text file that belongs to a recording."""
        stem = recording.sound.stem
        for middle in (f".{self._language}", "") if self._language else ("",):
            for suffix in SUFFIXES:
                if f"{stem}{middle}{suffix}" in recording.texts:
                    return recording.texts[f"{stem}{middle}{suffix}"]
        for name in recording.texts:
            language = name.removeprefix(f"{stem}.").rpartition(".")[0]
            if name.startswith(f"{stem}.") and re.fullmatch(r"[a-zA-Z]{2,3}(-\w+)?", language):
                self._tell(
                    "language", f"{name} is left alone; take it with --target-lang {language}"
                )
        return None

    def clips(self, path: Path, name: str, base: dict) -> Iterator[Candidate]:
        """A clip for each cue of subtitles, one for a plain text; a fault where there is none."""
        try:
            text = self._read(path)
        except UnicodeError:
            fault = (BAD_TEXT, f"{path.name} is neither Unicode nor {self._encoding}")
            yield Candidate(id=name, **base, fault=fault)
            return
        if path.suffix.lower() not in CAPTIONS:
            yield Candidate(id=name, **base, text=self._rule(text))
            return
        number = -1
        for number, cue in enumerate(read_cues(text)):
            yield Candidate(
                id=f"{name}_{number:04d}",
                **base,
                start=cue.start,
                seconds=cue.end - cue.start,
                text=self._rule(cue.text),
            )
        if number < 0:
            yield Candidate(id=name, **base, fault=(EMPTY_TEXT, f"no cue in {path.name}"))

    def _read(self, path: Path) -> str:
        """By its byte order mark, as UTF-8, or in the encoding of the others.

        Raises:
            UnicodeError: it is none of these.
        """
        encoding = encoding_of(path, self._encoding)
        text = path.read_bytes().decode(encoding)
        if encoding == self._encoding:
            self._tell("encoding", f"{path} is read as {encoding}, not UTF-8; see --encoding")
        return text

    def _tell(self, kind: str, message: str) -> None:
        """On stderr, the first of its kind alone."""
        if kind not in self._told:
            self._told.add(kind)
            print(f"note: {message}", file=sys.stderr)
