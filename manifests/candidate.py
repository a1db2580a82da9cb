"""What a corpus offers, and what became of it: the types that pass between recipes and workers.

Nothing here imports fairseq, because spawned workers read this file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# Why a clip is left out; the words that stand in skipped.tsv.
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
BAD_ROW = "unusable row"
NO_FILE = "no file of its own"
ONE_CHANNEL = "one channel of several"
NOT_TWO_SPEAKERS = "not two speakers"
SHARED_VIDEO = "video of a speaker held out"

LONGEST_WITH_TEXT = 60.0  # seconds: the default task.max_source_positions of stages 2 and 3


def piece_id(name: str, place: int) -> str:
    """The id of one of the pieces in which a recording is cut."""
    return f"{name}_{place:04d}"


@dataclass(frozen=True)
class Candidate:
    """A clip that a corpus offers, before anything of it was looked at.

    Attributes:
        id: unique within its split.
        split: name of the manifest that it belongs to.
        drawn: the corpus has it in ``train``; it was drawn for ``valid`` here.
        last_drawn: so were its last pieces, one in so many but at least one; 0: none.
        audio: path of the sound; a video file has it too.
        audio_else: path of the same sound, where ``audio`` cannot be used.
        audio_optional: a video without sound gives its pictures alone instead of being left out.
        video: path of the pictures; empty where the corpus has none.
        video_optional: a file without pictures gives sound alone instead of being left out.
        start, seconds: the part of the recording; to its end where ``seconds`` is None.
        cut: seconds, about, of the equal pieces that a recording is cut in; it then becomes as many
            clips.
        text: the target; None where the corpus has no texts.
        source: video or recording that it comes from, for the leak check.
        columns: further columns of the manifest (speaker, src_text, src_lang, tgt_lang ...).
        fault: (reason, detail) where the recipe knows already that the clip is of no use.
    """

    id: str
    split: str
    audio: str
    drawn: bool = False
    last_drawn: int = field(default=0, repr=False)  # no part of what a clip is known again by
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
    """Lengths that are kept, in seconds; and whether everything is decoded to see that it can be.

    Attributes:
        longest: of every clip.
        longest_text: of a clip with a text, where ``longest`` is None; stages 2 and 3 read such a
            clip whole, stage 1 reads the beginning.
        decode: decode every file, also those whose header is exact.
    """

    shortest: float = 0.1
    longest: float | None = None
    longest_text: float | None = None
    decode: bool = False


@dataclass(frozen=True)
class Measured:
    """A candidate after a look at its files: cells of its row, or why it is left out.

    Attributes:
        samples: length in samples at 16 kHz; without sound, what sound as long would have.
        row: the cells that come from the files (audio, video, video_frames).
        reason, detail: empty for a usable clip.
        pieces: of a recording that was cut; nothing else but ``stamp`` holds then.
        stamp: sizes and times of change of the files that were looked at.
    """

    samples: int = 0
    row: dict[str, object] = field(default_factory=dict)
    reason: str = ""
    detail: str = ""
    pieces: tuple[Measured, ...] = ()
    stamp: str = ""
