"""A file as pieces of features: those of training, computed for each piece by itself."""

from collections.abc import Iterator
from dataclasses import dataclass

from mmpt_fairseq.data.audio import ROUNDING_NOISE, Features, floored_filterbank, normalise
from mmpt_fairseq.data.waveform import SAMPLE_RATE
from mmpt_fairseq.data.waveform_stream import waveform_blocks
from mmpt_fairseq.transcription.segments import Segment, segments


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


def pieces(path: str, longest: float) -> Iterator[Piece]:
    """The pieces of a file in order of time; one alone where it lasts up to ``longest`` seconds.

    Raises:
        UnreadableClip: the file cannot be read to its end, or is shorter than one frame.
    """
    for segment in cuts(path, longest):
        yield heard(segment, path)


def cuts(path: str, longest: float) -> Iterator[Segment]:
    """The sound of each piece.

    Raises:
        UnreadableClip: the file cannot be read to its end.
    """
    return segments(waveform_blocks(path), longest, shortest=longest / 4)


def heard(segment: Segment, name: str) -> Piece:
    """A piece's features.

    Raises:
        UnreadableClip: ``name`` is shorter than one frame.
    """
    energies = floored_filterbank(segment.waveform, name)
    return Piece(
        start=segment.start / SAMPLE_RATE,
        end=(segment.start + len(segment.waveform)) / SAMPLE_RATE,
        features=normalise(energies),
        silent=bool((energies <= ROUNDING_NOISE).all()),
    )
