"""Subtitles: cues of SubRip (.srt) and WebVTT (.vtt) files, and Audacity's labels."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from manifests.text import clean

SUFFIXES = (".srt", ".vtt")
ROLLING = 1 / 3  # of the cues; in rolling automatic subtitles every other one repeats a line
_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{2})[,.](\d{1,3})"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}")
_TAG = re.compile(
    r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}"
)  # <i>, <v Ann>, <00:01.000>, {\an8}
_LABEL = re.compile(r"(\d+(?:\.\d+)?)\t(\d+(?:\.\d+)?)(?:\t(.*))?")


@dataclass(frozen=True)
class Cue:
    """A subtitle on the screen.

    Attributes:
        start, end: in seconds.
        text: its lines, without tags.
        of: in a document of ELAN, the aligned annotation that it is or refers to.
    """

    start: float
    end: float
    text: str
    of: str = field(default="", compare=False)


def read_cues(text: str) -> list[Cue]:
    """The cues of a file's text, in order; of rolling subtitles, each with its new lines only.

    In WebVTT an empty line ends a cue, and notes may follow. In SubRip a cue includes everything up
    to the next time line, except the next cue's number if cues are numbered: some texts contain
    blank lines.
    """
    cues = list(_read(text))
    rolls = sum("\n" in cue.text and _repeats(b, cue) for b, cue in itertools.pairwise(cues))
    return _unroll(cues) if rolls > ROLLING * len(cues) else cues


def read_labels(text: str) -> list[Cue] | None:
    """Audacity's exported labels, "start TAB end TAB text" in seconds; None for another text.

    Lines that begin with a backslash give the frequencies of the label before.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("\\")]
    labels = [_LABEL.fullmatch(line) for line in lines]
    if not labels or not all(labels):
        return None
    return [Cue(float(found[1]), float(found[2]), found[3] or "") for found in labels]


def _repeats(before: Cue, cue: Cue) -> bool:
    """Whether a cue begins with the last line of the one before."""
    return bool(before.text) and cue.text.split("\n")[0] == before.text.split("\n")[-1]


def _unroll(cues: list[Cue]) -> list[Cue]:
    """Remove repeated lines of rolling subtitles, which show each new line below the last one."""
    found = cues[:1]
    for before, cue in itertools.pairwise(cues):
        lines = cue.text.split("\n")[_repeats(before, cue) :]
        if lines:  # else it only keeps the last line on display
            found.append(replace(cue, text="\n".join(lines)))
    return found


def _read(text: str) -> Iterator[Cue]:
    text = text.lstrip("\ufeff")
    ends_with_empty = text.startswith("WEBVTT")
    times: re.Match | None = None
    texts: list[str] = []
    lines = re.split(r"\r\n|\n|\r", text)
    numbered = _are_numbered(lines)
    for line in lines:
        match = _TIMES.match(line)
        if times and (match or (ends_with_empty and not line)):
            if match and numbered and texts and texts[-1].isdecimal():
                texts.pop()
            yield _cue(times, texts)
            times, texts = None, []
        if match:
            times = match
        elif times and line.strip():
            texts.append(clean(_TAG.sub("", line)))
    if times:
        yield _cue(times, texts)


def _are_numbered(lines: list[str]) -> bool:
    """Whether cues are numbered: most time lines follow a number. A single number may be the text
    of the previous cue, and the first one is often damaged."""
    before, counts = "", Counter()
    for line in lines:
        if _TIMES.match(line):
            counts[before.isdecimal()] += 1
        before = line.strip() or before
    return counts[True] > counts[False]


def _cue(times: re.Match, texts: list[str]) -> Cue:
    start, end = _seconds(times.groups()[:4]), _seconds(times.groups()[4:])
    return Cue(start, end, "\n".join(texts))


def _seconds(groups: tuple[str | None, ...]) -> float:
    hours, minutes, seconds = (int(group or 0) for group in groups[:3])
    return 3600 * hours + 60 * minutes + seconds + float(f"0.{groups[3]}")
