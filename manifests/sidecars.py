"""Texts beside recordings: which file belongs to one, its encoding, and the clips that it makes."""

from __future__ import annotations

import re
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from manifests.candidate import BAD_TEXT, EMPTY_TEXT, NO_TEXT, Candidate
from manifests.captions import SUFFIXES as CAPTIONS
from manifests.captions import Cue, read_cues
from manifests.text import encoding_of

SUFFIXES = (*CAPTIONS, ".txt")
SAME_TIME = 0.1  # seconds: cues in two languages that begin and end within so much are one


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
        source: language that is spoken.
        target: ``talk.<target>.srt`` goes before ``talk.srt``.
        encoding: of those that are not Unicode.
    """

    def __init__(self, rule: Callable[[str], str], source: str, target: str, encoding: str) -> None:
        self._rule, self._source, self._target, self._encoding = rule, source, target, encoding
        self._kinds: dict[str, str] = {}  # a text with its language in its name, and one without
        self._told: set[str] = set()

    def find(self, recording: Recording) -> Path | None:
        """The text file that belongs to a recording."""
        found = _beside(recording, self._target, SUFFIXES)
        if found and self._target:
            self._kinds["marked"] = found.name
        elif found := found or _beside(recording, "", SUFFIXES):
            self._kinds["unmarked"] = found.name
        if len(self._kinds) == 2:
            self._tell(
                "unmarked",
                f"{self._kinds['unmarked']} names no language and is taken for {self._target}, as "
                f"all like it are, beside {self._kinds['marked']}; rename those in another",
            )
        return found or self._none(recording)

    def _none(self, recording: Recording) -> None:
        """Tell of texts in a language that was not named."""
        stem = recording.sound.stem
        for name in recording.texts:
            language = name.removeprefix(f"{stem}.").rpartition(".")[0]
            if name.startswith(f"{stem}.") and re.fullmatch(r"[a-zA-Z]{2,3}(-\w+)?", language):
                self._tell(
                    "language", f"{name} is left alone; take it with --target-lang {language}"
                )

    def clips(self, recording: Recording, base: dict) -> Iterator[Candidate]:
        """A clip for each cue of subtitles, one for a plain text; a fault where there is none.

        Args:
            base: what all clips of the recording share; ``source`` is the recording's name.
        """
        name, path = base["source"], self.find(recording)
        if path is None:
            detail = "no .srt, .vtt or .txt beside it; --without-texts takes all, for stage 1"
            yield Candidate(id=name, **base, fault=(NO_TEXT, detail))
            return
        try:
            text = self._read(path)
            spoken = self._source_cues(recording, path)
        except UnicodeError:
            fault = (BAD_TEXT, f"{path.name} is neither Unicode nor {self._encoding}")
            yield Candidate(id=name, **base, fault=fault)
            return
        if path.suffix.lower() not in CAPTIONS:
            yield Candidate(id=name, **base, text=self._rule(text))
            return
        number, alone = -1, 0
        for number, cue in enumerate(read_cues(text)):
            said = _nearest(spoken, cue) if spoken else None
            source = {"src_text": self._rule(said.text)} if said else {}
            alone += not said
            yield Candidate(
                id=f"{name}_{number:04d}",
                **{**base, "columns": {**base["columns"], **source}},
                start=cue.start,
                seconds=cue.end - cue.start,
                text=self._rule(cue.text),
            )
        if spoken and alone:
            self._tell(
                "alone",
                f"{alone} of {number + 1} cues of {path.name} have none at their times in the "
                "subtitles of what is said, and no src_text; further files are not named",
            )
        if number < 0:
            yield Candidate(id=name, **base, fault=(EMPTY_TEXT, f"no cue in {path.name}"))

    def _source_cues(self, recording: Recording, target: Path) -> list[Cue]:
        """What is said, in order of time, where further subtitles tell it."""
        if self._source in ("", self._target):
            return []
        path = _beside(recording, self._source, CAPTIONS) or _beside(recording, "", CAPTIONS)
        if path in (None, target):
            return []
        return sorted(read_cues(self._read(path)), key=lambda cue: cue.start)

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


def _beside(recording: Recording, language: str, suffixes: tuple[str, ...]) -> Path | None:
    """The recording's text file in a language, or that which names none."""
    name = recording.sound.stem + (f".{language}" if language else "")
    return next((recording.texts[name + s] for s in suffixes if name + s in recording.texts), None)


def _nearest(cues: list[Cue], wanted: Cue) -> Cue | None:
    """Of ``cues``, in order of time, the one at the times of another; translators keep them."""
    first = bisect_left(cues, wanted.start - SAME_TIME, key=lambda cue: cue.start)
    behind = bisect_right(cues, wanted.start + SAME_TIME, key=lambda cue: cue.start)
    near = [cue for cue in cues[first:behind] if abs(cue.end - wanted.end) <= SAME_TIME]
    return min(near, key=lambda cue: abs(cue.start - wanted.start), default=None)
