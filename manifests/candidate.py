"""Clips as a corpus offers them, and what inspection found: types shared by recipes and workers.

Nothing here imports fairseq, because worker processes import this module.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# Reasons why a clip is left out, as written to skipped.tsv.
MISSING = "missing file"
UNREADABLE = "unreadable"
NO_AUDIO = "no audio track"
NO_VIDEO = "no video track"
TOO_SHORT = "too short"
TOO_LONG = "too long"
PAST_END = "past the end of its recording"
EMPTY_TEXT = "empty transcript"
NO_TEXT = "no transcript"
OUT_OF_LEXICON = "word out of the lexicon"
DUPLICATE = "duplicate id"
BAD_NAME = "unusable name"
BAD_TIMES = "unusable times"
BAD_TEXT = "unreadable text"
NO_TIER = "no such tier"
BAD_ROW = "unusable row"
NO_FILE = "no file of its own"
ONE_CHANNEL = "one channel of several"
NOT_TWO_SPEAKERS = "not two speakers"
SHARED_VIDEO = "video of a speaker held out"

LONGEST_WITH_TEXT = 60.0  # seconds: the default task.max_source_positions of stages 2 and 3


def piece_id(name: str, place: int) -> str:
    """The id of one of the pieces that a recording is cut into."""
    return f"{name}_{place:04d}"


@dataclass(frozen=True)
class Candidate:
    """A clip that a corpus offers, before its files are inspected.

    Attributes:
        id: unique within its split.
        split: name of the manifest that it belongs to.
        drawn: the corpus has it in ``train``; it was held out for ``valid`` here.
        last_drawn: hold out the last pieces of a recording that will be cut: one in this many, but
            at least one; 0: none.
        audio: path of the audio; may be a video file.
        audio_else: path of the same audio, used where ``audio`` is unusable.
        audio_optional: keep a video without audio as video alone instead of leaving it out.
        video: path of the video; empty where the corpus has none.
        video_optional: keep a file without video as audio alone instead of leaving it out.
        start, seconds: the part of the recording; up to its end if ``seconds`` is None.
        cut: approximate length, in seconds, of the equal pieces to cut a recording into; each
            piece becomes a clip.
        text: the target; None where the corpus has no texts.
        source: video or recording that it comes from, for the leak check.
        columns: further columns of the manifest (speaker, src_text, src_lang, tgt_lang ...).
        fault: (reason, detail) where the recipe already knows that the clip is unusable.
    """

    id: str
    split: str
    audio: str
    drawn: bool = False
    last_drawn: int = field(default=0, repr=False)  # not part of the content key
    audio_else: str = ""
    audio_optional: bool = False
    video: str = ""
    video_optional: bool = False
    start: float = 0.0
    seconds: float | None = None
    cut: float | None = None
    text: str | None = None
    source: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    fault: tuple[str, str] | None = None


@dataclass(frozen=True)
class Limits:
    """Accepted clip lengths in seconds, and whether to decode every file to verify it.

    Attributes:
        shortest: minimum of every clip.
        longest: maximum of every clip.
        longest_text: maximum of a clip with a text if ``longest`` is None; stages 2 and 3 read such
            a clip whole, stage 1 reads its beginning.
        decode: decode every file, also those whose header is exact.
    """

    shortest: float = 0.1
    longest: float | None = None
    longest_text: float | None = None
    decode: bool = False


@dataclass(frozen=True)
class Measured:
    """The result of inspecting a candidate: cells of its row, or why it is left out.

    Attributes:
        samples: length in samples at 16 kHz; without audio, that of audio of the same duration.
        row: the cells that come from the files (audio, video, video_frames).
        reason, detail: empty for a usable clip.
        pieces: those of a recording that was cut; then only ``stamp`` is set besides.
        stamp: sizes and modification times of the inspected files.
    """

    samples: int = 0
    row: dict[str, object] = field(default_factory=dict)
    reason: str = ""
    detail: str = ""
    pieces: tuple[Measured, ...] = ()
    stamp: str = ""
