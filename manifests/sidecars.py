"""Text files beside recordings: which one belongs to a recording, its encoding and its clips."""

from __future__ import annotations

import math
import re
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from manifests.annotations import ELAN, chosen, read_elan, read_textgrid, with_text
from manifests.annotations import SUFFIXES as ANNOTATIONS
from manifests.candidate import BAD_TEXT, BAD_TIMES, EMPTY_TEXT, NO_TEXT, Candidate
from manifests.captions import SUFFIXES as CAPTIONS
from manifests.captions import Cue, read_cues, read_labels
from manifests.errors import InputError
from manifests.text import encoding_of
from manifests.tree import TEXT_SUFFIXES, Recording, composed

SAME_TIME = 0.1  # seconds by which start and end of matching cues in two languages may differ


@dataclass(frozen=True)
class Wanted:
    """Which texts to take.

    Attributes:
        source: language that is spoken.
        target: language of the targets; ``talk.<target>.srt`` is preferred to ``talk.srt``.
        tier: name or pattern of the tiers of annotations with the targets; empty: the only one.
        source_tier: the same for what is spoken.
        encoding: encoding of files that are not Unicode.
    """

    source: str = ""
    target: str = ""
    tier: str = ""
    source_tier: str = ""
    encoding: str = "cp1252"


class Sidecars:
    """Reads the texts of recordings.

    Args:
        rule: function that cleans them.
        wanted: which texts to take.
    """

    def __init__(self, rule: Callable[[str], str], wanted: Wanted) -> None:
        self._rule, self._wanted = rule, wanted
        self._kinds: dict[str, str] = {}  # a file name with a language, and one without
        self._noted: set[str] = set()

    def find(self, recording: Recording) -> Path | None:
        """The text file that belongs to a recording."""
        target = self._wanted.target
        found = _beside(recording, target, TEXT_SUFFIXES)
        if found and target:
            self._kinds["marked"] = found.name
        elif found := found or _beside(recording, "", TEXT_SUFFIXES):
            self._kinds["unmarked"] = found.name
        if len(self._kinds) == 2:
            self._note(
                "unmarked",
                f"{self._kinds['unmarked']} names no language and is taken as {target}, like "
                f"all such files, beside {self._kinds['marked']}; rename those in another language",
            )
        return found or self._none(recording)

    def has_annotations(self, recordings: Iterable[Recording]) -> bool:
        """Whether the text file of any recording is one of ELAN or Praat."""
        found = map(self.find, recordings)
        return any(path and path.suffix.lower() in ANNOTATIONS for path in found)

    def _none(self, recording: Recording) -> None:
        """Report texts in a language that was not asked for."""
        stem, languages = composed(recording.audio.stem), set()
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
        """A clip for each annotation, subtitle cue or label, or one for a plain text; a fault
        without a text.

        Args:
            base: fields that all clips share; ``source`` is the recording's name.

        Raises:
            InputError: there are several tiers of annotations, and none is chosen.
        """
        name, path = base["source"], self.find(recording)
        if path is None:
            detail = (
                "no .eaf, .TextGrid, .srt, .vtt or .txt beside it; use --without-texts for stage 1"
            )
            yield Candidate(id=name, **base, fault=(NO_TEXT, detail))
            return
        try:
            cues = self._cues(recording, path)
            spoken = self._source_cues(recording, path)
        except UnicodeError:
            fault = (BAD_TEXT, f"{path.name} is neither Unicode nor {self._wanted.encoding}")
            yield Candidate(id=name, **base, fault=fault)
            return
        except InputError:
            raise
        except ValueError as error:
            yield Candidate(id=name, **base, fault=(BAD_TEXT, f"{path.name} {error}"))
            return
        if isinstance(cues, str):
            yield Candidate(id=name, **base, text=self._rule(cues))
            return
        number, unmatched = -1, 0
        for number, cue in enumerate(cues):
            timed = not math.isnan(cue.end - cue.start)
            match = _nearest(spoken, cue) if timed else None
            source = {"src_text": self._rule(match.text)} if match else {}
            unmatched += not match
            yield Candidate(
                id=f"{name}_{number:04d}",
                **{**base, "columns": {**base["columns"], **source}},
                start=cue.start if timed else 0.0,
                seconds=cue.end - cue.start if timed else None,
                text=self._rule(cue.text),
                fault=None if timed else (BAD_TIMES, f"{path.name} gives {cue.text!r} no time"),
            )
        if spoken and unmatched:
            self._note(
                "unmatched",
                f"{unmatched} of {number + 1} texts of {path.name} have the times of no text in "
                "the spoken language and have no src_text; further such files are not reported",
            )
        if number < 0:
            yield Candidate(id=name, **base, fault=(EMPTY_TEXT, f"no text in {path.name}"))

    def _cues(self, recording: Recording, path: Path) -> list[Cue] | str:
        """The cues of a text file, or its text if it has no times.

        Raises:
            ValueError: it cannot be read; the message completes "talk.eaf ...".
        """
        suffix = path.suffix.lower()
        if suffix in ANNOTATIONS:
            return self._annotations(recording, path, self._wanted.tier, "--tier")
        text = self._read(path)
        if suffix in CAPTIONS:
            return read_cues(text)
        labels = read_labels(text)
        return text if labels is None else labels

    def _source_cues(self, recording: Recording, target: Path) -> list[Cue]:
        """What is spoken, in order of time, if it is written down beside a translation."""
        wanted = self._wanted
        if target.suffix.lower() in ANNOTATIONS:
            if not wanted.source_tier:
                return []
            return self._annotations(recording, target, wanted.source_tier, "--source-tier")
        if wanted.source in ("", wanted.target):
            return []
        path = _beside(recording, wanted.source, CAPTIONS) or _beside(recording, "", CAPTIONS)
        if path in (None, target):
            return []
        return sorted(read_cues(self._read(path)), key=lambda cue: cue.start)

    def _annotations(
        self, recording: Recording, path: Path, pattern: str, option: str
    ) -> list[Cue]:
        """The annotations of the tiers that match a pattern, or of the only one with a text.

        Raises:
            ValueError: the file cannot be read or has no such tier.
            InputError: there are several tiers to choose from.
        """
        if path.suffix.lower() == ELAN:
            files = {file.name for file in (recording.audio, recording.video) if file}
            tiers = read_elan(path.read_bytes(), files)
        else:
            tiers = read_textgrid(self._read(path))
        names = with_text(tiers)
        if pattern:
            cues = chosen(tiers, pattern)
            if cues is None:
                raise ValueError(f"has no tier {pattern} ({option}), but {', '.join(names)}")
            return cues
        if len(names) > 1:
            raise InputError(
                f"{path} has several tiers with text ({', '.join(names)}); choose one with {option}"
            )
        return tiers[names[0]] if names else []

    def _read(self, path: Path) -> str:
        """Read a file by its byte order mark, as UTF-8, or in the fallback encoding.

        Raises:
            UnicodeError: it is in none of these.
        """
        encoding = encoding_of(path, self._wanted.encoding)
        text = path.read_bytes().decode(encoding)
        if encoding == self._wanted.encoding:
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
    bases = dict.fromkeys(map(composed, (audio.stem, audio.name, video.name)))
    ending = f".{language}" if language else ""
    names = (base + ending + suffix for suffix in suffixes for base in bases)
    return next((recording.texts[name] for name in names if name in recording.texts), None)


def _nearest(cues: list[Cue], wanted: Cue) -> Cue | None:
    """The cue at the same times as another one; ``cues`` are in order of time."""
    first = bisect_left(cues, wanted.start - SAME_TIME, key=lambda cue: cue.start)
    after = bisect_right(cues, wanted.start + SAME_TIME, key=lambda cue: cue.start)
    near = [cue for cue in cues[first:after] if abs(cue.end - wanted.end) <= SAME_TIME]
    return min(near, key=lambda cue: abs(cue.start - wanted.start), default=None)
