"""Transcripts: the words of a file in segments, with times."""

import math
from dataclasses import dataclass, replace


@dataclass
class Word:
    """One word.

    Attributes:
        text: without spaces.
        start, end: seconds in the recording; None if the model has no CTC head to align with, or
            the piece is too short for the hypothesis.
        confidence: geometric mean of its tokens' probabilities, 0 to 1.
    """

    text: str
    start: float | None
    end: float | None
    confidence: float

    def later(self, seconds: float, latest: float) -> "Word":
        """The word shifted by ``seconds``, its times limited to ``latest``.

        The encoder's last frame may end after the audio.
        """
        if self.start is None or self.end is None:
            return self
        start, end = (min(time + seconds, latest) for time in (self.start, self.end))
        return replace(self, start=start, end=end)


@dataclass
class Segment:
    """The words of a part of the recording between two cuts; times in seconds."""

    start: float
    end: float
    words: list[Word]

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def confidence(self) -> float | None:
        """Geometric mean of the word confidences; None without words."""
        if not self.words:
            return None
        return math.prod(word.confidence ** (1 / len(self.words)) for word in self.words)


@dataclass
class Transcript:
    """A file's segments in temporal order; silent ones have no words.

    Attributes:
        fault: why part of the file could not be read; empty if all was read.
    """

    path: str
    segments: list[Segment]
    fault: str = ""

    @property
    def text(self) -> str:
        """All words, separated by single spaces; empty if none was recognised."""
        return " ".join(segment.text for segment in self.segments if segment.words)

    @property
    def duration(self) -> float:
        """End of the last segment in seconds."""
        return self.segments[-1].end

    @property
    def words(self) -> list[Word]:
        """All words in temporal order."""
        return [word for segment in self.segments for word in segment.words]
