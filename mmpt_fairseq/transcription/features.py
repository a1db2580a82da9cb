"""A recording as pieces of features: those of training, computed for each piece by itself."""

from collections.abc import Iterator
from dataclasses import dataclass

from manifests.container import open_container, sound_begins
from manifests.errors import UnreadableClip
from manifests.headers import is_soundfile
from mmpt_fairseq.data.audio import (
    FRAME_LENGTH,
    ROUNDING_NOISE,
    Features,
    floored_filterbank,
    normalise,
)
from mmpt_fairseq.data.waveform import SAMPLE_RATE, Waveform, check_file
from mmpt_fairseq.data.waveform_stream import Samples, Source, waveform_blocks
from mmpt_fairseq.transcription.segments import SoundSegment, segments


@dataclass
class Piece:
    """What the encoder is given at once.

    Attributes:
        start, end: seconds in the recording.
        features: ``(T, F)``, normalised over the piece as over a clip in training.
        silent: nothing in it is louder than the rounding noise of 16 bits.
    """

    start: float
    end: float
    features: Features
    silent: bool


def pieces(source: Source, longest: float) -> Iterator[Piece]:
    """The pieces of a recording in order of time; one where it lasts up to ``longest`` seconds.

    Raises:
        UnreadableClip: some of it cannot be read, when all that can be was given; or it is shorter
            than one frame.
    """
    begins = 0.0
    if not isinstance(source, Samples):
        check_file(source)
        begins = 0.0 if is_soundfile(source) else first_sound(source)
    for segment in cuts(source, longest):
        yield heard(segment, str(source), begins)


def cuts(source: Source, longest: float) -> Iterator[SoundSegment]:
    """The sound of each piece.

    Raises:
        UnreadableClip: some of it cannot be read, when all that can be was given.
    """
    faults: list[UnreadableClip] = []
    readable = _readable(source, faults)
    for segment in segments(readable, longest, shortest=longest / 4):
        if not faults or len(segment.waveform) >= FRAME_LENGTH:
            yield segment
    if faults:
        raise faults[0]


def _readable(source: Source, faults: list[UnreadableClip]) -> Iterator[Waveform]:
    try:
        yield from waveform_blocks(source, pass_over=True)
    except UnreadableClip as fault:
        faults.append(fault)


def first_sound(path: str) -> float:
    """Seconds that a film shows pictures alone; its subtitles count them too."""
    import av

    try:
        with open_container(path) as container:
            return sound_begins(container, next(iter(container.streams.audio), None))
    except (av.error.FFmpegError, OSError):
        return 0.0  # decoding tells what is wrong


def heard(segment: SoundSegment, name: str, begins: float = 0.0) -> Piece:
    """A piece's features; ``begins`` is when, in seconds, the sound does.

    Raises:
        UnreadableClip: ``name`` is shorter than one frame.
    """
    energies = floored_filterbank(segment.waveform, name)
    return Piece(
        start=begins + segment.start / SAMPLE_RATE,
        end=begins + (segment.start + len(segment.waveform)) / SAMPLE_RATE,
        features=normalise(energies),
        silent=bool((energies <= ROUNDING_NOISE).all()),
    )
