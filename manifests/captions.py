"""Subtitles: cues of SubRip (.srt) and WebVTT (.vtt) files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from manifests.text import clean

SUFFIXES = (".srt", ".vtt")
_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{2})[,.](\d{1,3})"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}")
_TAG = re.compile(
    r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}"
)  # <i>, <v Ann>, <00:01.000>, {\an8}


@dataclass(frozen=True)
class Cue:
    """A text on the screen.

    Attributes:
        start, end: seconds.
        text: its lines, without tags.
    """

    start: float
    end: float
    text: str


def read_cues(text: str) -> Iterator[Cue]:
    """The cues of a file's text, in order; both formats are read the same way."""
    times: re.Match | None = None
    texts: list[str] = []
    for line in [*re.split(r"\r\n|\n|\r", text), ""]:
        match = _TIMES.match(line)
        if times and (match or not line.strip()):
            if match and texts and texts[-1].isdecimal():
                texts.pop()  # the number of the next cue, where no blank line parts the two
            start, end = _seconds(times.groups()[:4]), _seconds(times.groups()[4:])
            yield Cue(start, end, "\n".join(texts))
            times, texts = None, []
        if match:
            times = match
        elif times:
            texts.append(clean(_TAG.sub("", line)))


def _seconds(groups: tuple[str | None, ...]) -> float:
    hours, minutes, seconds = (int(group or 0) for group in groups[:3])
    return 3600 * hours + 60 * minutes + seconds + float(f"0.{groups[3]}")
