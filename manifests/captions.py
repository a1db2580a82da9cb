"""Subtitles: cues of SubRip (.srt) and WebVTT (.vtt) files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from manifests.text import clean

SUFFIXES = (".srt", ".vtt")
_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{2})[,.](\d{3})"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}")
_TAG = re.compile(
    r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}"
)  # <i>, <v Ann>, <00:01.000>, {\an8}


@dataclass(frozen=True)
class Cue:
    """A text on the screen.

    Attributes:
        start, end: seconds.
    """

    start: float
    end: float
    text: str


def read_cues(path: Path) -> list[Cue]:
    """The cues with their times, in order; both formats are read the same way."""
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    return list(_cues(text.replace("\r\n", "\n").replace("\r", "\n").split("\n")))


def _cues(lines: list[str]) -> Iterator[Cue]:
    times: re.Match | None = None
    texts: list[str] = []
    for line in [*lines, ""]:
        match = _TIMES.match(line)
        if times and (match or not line.strip()):
            start, end = _seconds(times.groups()[:4]), _seconds(times.groups()[4:])
            yield Cue(start, end, clean(" ".join(texts)))
            times, texts = None, []
        if match:
            times = match
        elif times:
            texts.append(_TAG.sub("", line))


def _seconds(groups: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, milliseconds = (int(group or 0) for group in groups)
    return 3600 * hours + 60 * minutes + seconds + milliseconds / 1000
