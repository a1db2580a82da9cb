"""Text files beside recordings: which ones belong to a recording, their encoding and clips."""

from __future__ import annotations

import math
import re
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from manifests.annotations import (
    ELAN,
    NoSuchTier,
    Tiers,
    chosen,
    read_elan,
    read_textgrid,
    with_text,
)
from manifests.annotations import SUFFIXES as ANNOTATIONS
from manifests.candidate import BAD_TEXT, BAD_TIMES, EMPTY_TEXT, NO_TEXT, NO_TIER, Candidate
from manifests.captions import SUFFIXES as CAPTIONS
from manifests.captions import Cue, read_cues, read_labels
from manifests.errors import InputError
from manifests.text import composed, encoding_of
from manifests.tree import TEXT_SUFFIXES, Recording

SAME_TIME = 0.1  # seconds by which start and end of matching cues in two languages may differ
NOTHING = (
    NO_TEXT,
    "no .eaf, .TextGrid, .srt, .vtt or .txt beside it; use --without-texts for stage 1",
)


@dataclass(frozen=True)
class Wanted:
    """Which texts to take.

    Attributes:
        source: language that is spoken.
        target: language of the targets; ``talk.<target>.srt`` is preferred to ``talk.srt``.
        tiers: names or patterns of the tiers of annotations with the targets, of which the first
            counts that a file has; empty: its only tier.
        source_tiers: the same for what is spoken.
        encoding: encoding of files that are not Unicode.
    """

    source: str = ""
    target: str = ""
    tiers: tuple[str, ...] = ()
    source_tiers: tuple[str, ...] = ()
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
        # A document is read for its targets and for what is spoken.
        self._tiers = lru_cache(maxsize=1)(self._read_tiers)

    def find(self, recording: Recording) -> list[Path]:
        """The text files of a recording, the preferred one first."""
        target, tiers = self._wanted.target, self._wanted.tiers
        annotations = _beside(recording, target, ANNOTATIONS) if tiers and target else []
        annotations += _beside(recording, "", ANNOTATIONS) if tiers else []
        found = _beside(recording, target, TEXT_SUFFIXES)
        if found and target:
            self._kinds["marked"] = found[0].name
        elif found := found or _beside(recording, "", TEXT_SUFFIXES):
            self._kinds["unmarked"] = found[0].name
        if len(self._kinds) == 2 and not tiers:
            self._note(
                "unmarked",
                f"{self._kinds['unmarked']} names no language and is taken as {target}, like "
                f"all such files, beside {self._kinds['marked']}; rename those in another language",
            )
        if not (annotations or found):
            self._report_other_languages(recording)
        return list(dict.fromkeys((*annotations, *found)))

    def has_annotations(self, recordings: Iterable[Recording]) -> bool:
        """Whether any recording has annotations of ELAN or Praat."""
        return any(path.suffix.lower() in ANNOTATIONS for x in recordings for path in self.find(x))

    def _report_other_languages(self, recording: Recording) -> None:
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
        """A clip for each annotation, subtitle cue or label, or one for a plain text.

        From the first of the recording's text files that has any text; a fault if none has.

        Args:
            base: fields that all clips share; ``source`` is the recording's name.

        Raises:
            InputError: there are several tiers of annotations, and none is chosen.
        """
        faults, name = [], base["source"]
        for path in self.find(recording):
            if faults:
                self._note("next", f"{faults[-1][1]}; {path.name} is used instead")
            try:
                cues = self._cues(recording, path)
                spoken = self._spoken(recording, path)
            except InputError:  # a ValueError too, but of the command, not of this file
                raise
            except NoSuchTier as error:
                faults.append((NO_TIER, f"{path.name} {error}"))
            except UnicodeError:
                detail = f"{path.name} is neither Unicode nor {self._wanted.encoding}"
                faults.append((BAD_TEXT, detail))
            except ValueError as error:
                faults.append((BAD_TEXT, f"{path.name} {error}"))
            else:
                if isinstance(cues, str):
                    yield Candidate(id=name, **base, text=self._rule(cues))
                    return
                if any(cue.text.strip() for cue in cues):
                    yield from self._segments(path, cues, spoken, base)
                    return
                faults.append((EMPTY_TEXT, f"no text in {path.name}"))
        yield Candidate(id=name, **base, fault=next(iter(faults), NOTHING))

    def _segments(
        self, path: Path, cues: list[Cue], spoken: _Spoken, base: dict
    ) -> Iterator[Candidate]:
        unmatched = 0
        for number, cue in enumerate(cues):
            match, timed = spoken.matching(cue), not math.isnan(cue.end - cue.start)
            unmatched += match is None
            source = {"src_text": self._rule(match.text)} if match else {}
            yield Candidate(
                id=f"{base['source']}_{number:04d}",
                **{**base, "columns": {**base["columns"], **source}},
                start=cue.start if timed else 0.0,
                seconds=cue.end - cue.start if timed else None,
                text=self._rule(cue.text),
                fault=None if timed else (BAD_TIMES, f"{path.name} gives {cue.text!r} no time"),
            )
        if spoken.wanted and unmatched:
            self._note(
                "unmatched",
                f"{unmatched} of {len(cues)} texts of {path.name} have the times of no text in "
                "the spoken language and have no src_text; further such files are not reported",
            )

    def _cues(self, recording: Recording, path: Path) -> list[Cue] | str:
        """The cues of a text file, or its text if it has no times.

        Raises:
            ValueError: it cannot be read; the message completes "talk.eaf ...".
        """
        if path.suffix.lower() in (*ANNOTATIONS, *CAPTIONS):
            return self._timed(recording, path, self._wanted.tiers, "--tier")
        text = self._read(path)
        labels = read_labels(text)
        return text if labels is None else labels

    def _spoken(self, recording: Recording, target: Path) -> _Spoken:
        """What is spoken, if it is written down beside a translation."""
        wanted = self._wanted
        tiers, annotated = wanted.source_tiers, target.suffix.lower() in ANNOTATIONS
        sought = wanted.source not in ("", wanted.target)
        marked = _beside(recording, wanted.source, (*ANNOTATIONS, *CAPTIONS)) if sought else []
        others = [path for path in marked if path != target]
        if not (others or annotated) and sought:
            others = [path for path in _beside(recording, "", CAPTIONS) if path != target]
        if others:
            cues = self._timed(recording, others[0], tiers, "--source-tier")
            # Only within a document do references mean the same.
            return _Spoken(replace(cue, of="") for cue in cues)
        if not (annotated and tiers):
            return _Spoken(None)
        try:
            return _Spoken(self._timed(recording, target, tiers, "--source-tier"))
        except NoSuchTier:
            return _Spoken([])

    def _timed(
        self, recording: Recording, path: Path, tiers: tuple[str, ...], option: str
    ) -> list[Cue]:
        """The cues of subtitles, or of the wanted tiers of annotations or the only one with text.

        Raises:
            ValueError: the file cannot be read or has no such tier.
            InputError: there are several tiers to choose from.
        """
        if path.suffix.lower() in CAPTIONS:
            return read_cues(self._read(path))
        media = tuple(dict.fromkeys(x.name for x in (recording.audio, recording.video) if x))
        found = self._tiers(path, media)
        if tiers:
            return chosen(found, tiers)
        names = with_text(found)
        if len(names) > 1:
            raise InputError(
                f"{path} has several tiers with text ({', '.join(names)}); choose one with {option}"
            )
        return found[names[0]] if names else []

    def _read_tiers(self, path: Path, media: tuple[str, ...]) -> Tiers:
        """Read a document of ELAN, with the recording's file names, or of Praat."""
        if path.suffix.lower() == ELAN:
            return read_elan(path.read_bytes(), media)
        with path.open("rb") as file:
            if file.read(2) == b"oo":  # ooBinaryFile
                raise ValueError("is binary; save it in Praat as a text file")
        return read_textgrid(self._read(path))

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


class _Spoken:
    """What is spoken in a recording, to be matched with its translation.

    Args:
        cues: None if no source texts are wanted or there are none.
    """

    def __init__(self, cues: Iterable[Cue] | None) -> None:
        self.wanted = cues is not None
        timed = [cue for cue in cues or () if not math.isnan(cue.end - cue.start)]
        self._cues = sorted(timed, key=lambda cue: cue.start)
        self._by_reference = {cue.of: cue for cue in timed if cue.of}

    def matching(self, wanted: Cue) -> Cue | None:
        """The cue of the same annotation, or at the same times."""
        if wanted.of in self._by_reference:
            return self._by_reference[wanted.of]
        if math.isnan(wanted.end - wanted.start):
            return None
        first = bisect_left(self._cues, wanted.start - SAME_TIME, key=lambda cue: cue.start)
        after = bisect_right(self._cues, wanted.start + SAME_TIME, key=lambda cue: cue.start)
        near = [x for x in self._cues[first:after] if abs(x.end - wanted.end) <= SAME_TIME]
        return min(near, key=lambda cue: _distance(cue, wanted), default=None)


def _distance(first: Cue, second: Cue) -> float:
    return abs(first.start - second.start) + abs(first.end - second.end)


def _beside(recording: Recording, language: str, suffixes: tuple[str, ...]) -> list[Path]:
    """The recording's text files in a language, or those whose names have no language.

    ``talk.srt``, or ``talk.mp4.srt`` as whisper.cpp writes it; in the order of ``suffixes``.
    """
    audio, video = recording.audio, recording.video or recording.audio
    bases = dict.fromkeys(map(composed, (audio.stem, audio.name, video.name)))
    ending = f".{language}" if language else ""
    names = (base + ending + suffix for suffix in suffixes for base in bases)
    return [recording.texts[name] for name in names if name in recording.texts]
