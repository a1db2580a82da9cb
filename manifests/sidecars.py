"""Text files beside recordings: which one belongs to a recording, its encoding and its clips."""

from __future__ import annotations

import re
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from manifests.candidate import BAD_TEXT, EMPTY_TEXT, NO_TEXT, Candidate
from manifests.captions import SUFFIXES as CAPTIONS
from manifests.captions import Cue, read_cues, read_labels
from manifests.text import encoding_of

SUFFIXES = (*CAPTIONS, ".txt")
SAME_TIME = 0.1  # seconds by which start and end of matching cues in two languages may differ


@dataclass(frozen=True)
class Recording:
    """A recording in a folder.

    Attributes:
        audio: the audio file; may be a video file.
        video: the video file; None if there is none.
        texts: the folder's text files by name, with lower-case suffixes.
    """

    audio: Path
    video: Path | None
    texts: Mapping[str, Path]


class Sidecars:
    """Reads the texts of recordings.

    Args:
        rule: function that cleans them.
        source: language that is spoken.
        target: language of the targets; ``talk.<target>.srt`` is preferred to ``talk.srt``.
        encoding: encoding of files that are not Unicode.
    """

    def __init__(self, rule: Callable[[str], str], source: str, target: str, encoding: str) -> None:
        self._rule, self._source, self._target, self._encoding = rule, source, target, encoding
        self._kinds: dict[str, str] = {}  # a file name with a language, and one without
        self._noted: set[str] = set()

    def find(self, recording: Recording) -> Path | None:
        """The text file that belongs to a recording."""
        found = _beside(recording, self._target, SUFFIXES)
        if found and self._target:
            self._kinds["marked"] = found.name
        elif found := found or _beside(recording, "", SUFFIXES):
            self._kinds["unmarked"] = found.name
        if len(self._kinds) == 2:
            self._note(
                "unmarked",
                f"{self._kinds['unmarked']} names no language and is taken as {self._target}, like "
                f"all such files, beside {self._kinds['marked']}; rename those in another language",
            )
        return found or self._none(recording)

    def _none(self, recording: Recording) -> None:
        """Report texts in a language that was not asked for."""
        stem, languages = recording.audio.stem, set()
        for name in recording.texts:
            language = name.removeprefix(f"{stem}.").rpartition(".")[0]
            if name.startswith(f"{stem}.") and re.fullmatch(r"[a-zA-Z]{2,3}(-\w+)?", language):
                languages.add(language)
        if languages:
            self._note(
                "language",
                f"the texts of {stem} are ignored; choose a language with --target-lang: "
                + ", ".join(sorted(languages)),
            )

    def clips(self, recording: Recording, base: dict) -> Iterator[Candidate]:
        """A clip for each subtitle cue or label, or one for a plain text; a fault without a text.

        Args:
            base: fields that all clips share; ``source`` is the recording's name.
        """
        name, path = base["source"], self.find(recording)
        if path is None:
            detail = "no .srt, .vtt or .txt beside it; use --without-texts for stage 1"
            yield Candidate(id=name, **base, fault=(NO_TEXT, detail))
            return
        try:
            text = self._read(path)
            spoken = self._source_cues(recording, path)
        except UnicodeError:
            fault = (BAD_TEXT, f"{path.name} is neither Unicode nor {self._encoding}")
            yield Candidate(id=name, **base, fault=fault)
            return
        is_caption = path.suffix.lower() in CAPTIONS
        cues = read_cues(text) if is_caption else read_labels(text)
        if cues is None:
            yield Candidate(id=name, **base, text=self._rule(text))
            return
        number, unmatched = -1, 0
        for number, cue in enumerate(cues):
            match = _nearest(spoken, cue) if spoken else None
            source = {"src_text": self._rule(match.text)} if match else {}
            unmatched += not match
            yield Candidate(
                id=f"{name}_{number:04d}",
                **{**base, "columns": {**base["columns"], **source}},
                start=cue.start,
                seconds=cue.end - cue.start,
                text=self._rule(cue.text),
            )
        if spoken and unmatched:
            self._note(
                "unmatched",
                f"{unmatched} of {number + 1} cues of {path.name} match no cue in the source "
                "subtitles and have no src_text; further such files are not reported",
            )
        if number < 0:
            yield Candidate(id=name, **base, fault=(EMPTY_TEXT, f"no cue in {path.name}"))

    def _source_cues(self, recording: Recording, target: Path) -> list[Cue]:
        """The cues of the spoken language in order of time, if there are further subtitles."""
        if self._source in ("", self._target):
            return []
        path = _beside(recording, self._source, CAPTIONS) or _beside(recording, "", CAPTIONS)
        if path in (None, target):
            return []
        return sorted(read_cues(self._read(path)), key=lambda cue: cue.start)

    def _read(self, path: Path) -> str:
        """Read a file by its byte order mark, as UTF-8, or in the fallback encoding.

        Raises:
            UnicodeError: it is in none of these.
        """
        encoding = encoding_of(path, self._encoding)
        text = path.read_bytes().decode(encoding)
        if encoding == self._encoding:
            self._note("encoding", f"{path} is read as {encoding}, not UTF-8; see --encoding")
        return text

    def _note(self, kind: str, message: str) -> None:
        """Print a note on stderr, only the first of its kind."""
        if kind not in self._noted:
            self._noted.add(kind)
            print(f"note: {message}", file=sys.stderr)


def _beside(recording: Recording, language: str, suffixes: tuple[str, ...]) -> Path | None:
    """The recording's text file in a language, or the one whose name has no language.

    ``talk.srt``, or ``talk.mp4.srt`` as whisper.cpp writes it.
    """
    audio, video = recording.audio, recording.video or recording.audio
    bases = dict.fromkeys((audio.stem, audio.name, video.name))
    ending = f".{language}" if language else ""
    names = (base + ending + suffix for suffix in suffixes for base in bases)
    return next((recording.texts[name] for name in names if name in recording.texts), None)


def _nearest(cues: list[Cue], wanted: Cue) -> Cue | None:
    """The cue at the same times as another one; ``cues`` are in order of time."""
    first = bisect_left(cues, wanted.start - SAME_TIME, key=lambda cue: cue.start)
    after = bisect_right(cues, wanted.start + SAME_TIME, key=lambda cue: cue.start)
    near = [cue for cue in cues[first:after] if abs(cue.end - wanted.end) <= SAME_TIME]
    return min(near, key=lambda cue: abs(cue.start - wanted.start), default=None)
