"""What was said in a file and when: words in segments in a transcript."""

import math
from dataclasses import dataclass, replace


@dataclass
class Word:
    """One word.

    Attributes:
        text: without spaces.
        start, end: seconds in the recording; None where the model has no CTC head to tell,
            or the piece is too short for what was written.
        confidence: geometric mean of its tokens' probabilities, 0 to 1.
    """

    text: str
    start: float | None
    end: float | None
    confidence: float

    def later(self, seconds: float, latest: float) -> "Word":
        """The same word with its times moved on, to ``latest`` at most: the encoder's last frame
        may end behind the sound."""
        if self.start is None or self.end is None:
            return self
        start, end = (min(time + seconds, latest) for time in (self.start, self.end))
        return replace(self, start=start, end=end)


@dataclass
class Segment:
    """A stretch of the recording between two cuts, in seconds, with what was said in it."""

    start: float
    end: float
    words: list[Word]

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def confidence(self) -> float | None:
        """Geometric mean of its words'; None without words."""
        if not self.words:
            return None
        return math.prod(word.confidence ** (1 / len(self.words)) for word in self.words)


@dataclass
class Transcript:
    """A file's segments in order of time; silence has no words.

    Attributes:
        fault: why some of the file could not be heard; empty where all was.
    """

    path: str
    segments: list[Segment]
    fault: str = ""

    @property
    def text(self) -> str:
        """All words, single spaces between them; empty where none was heard."""
        return " ".join(segment.text for segment in self.segments if segment.words)

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.segments[-1].end

    @property
    def words(self) -> list[Word]:
        """All words in order of time."""
        return [word for segment in self.segments for word in segment.words]
