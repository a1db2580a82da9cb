"""Features of a recording in pieces, each computed as for a training clip."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from manifests.container import find_audio_start, open_container
from manifests.errors import UnreadableClip
from manifests.headers import is_soundfile
from mmpt_fairseq.data.audio import FRAME_LENGTH, Features, floored_filterbank, normalise
from mmpt_fairseq.data.waveform import SAMPLE_RATE, check_file
from mmpt_fairseq.data.waveform_stream import (
    FULL_SCALE,
    Samples,
    Source,
    until_fault,
    waveform_blocks,
)
from mmpt_fairseq.transcription.segments import AudioSegment, segments

# Peak to peak. Energies do not tell: those of dither exceed their floor in some mel bins.
SILENT_RANGE = 4 / FULL_SCALE


@dataclass
class Piece:
    """One encoder input.

    Attributes:
        start, end: seconds in the recording.
        features: ``(T, F)``, normalised over the piece as over a clip in training.
        silent: it varies by no more than rounding and dither to 16 bits do, about any offset.
    """

    start: float
    end: float
    features: Features
    silent: bool


def pieces(source: Source, longest: float) -> Iterator[Piece]:
    """Yield the pieces of a recording in order; one if it lasts up to ``longest`` seconds.

    Raises:
        UnreadableClip: part of it cannot be read (raised after the readable pieces), or it is
            shorter than one frame.
    """
    offset = 0.0
    if not isinstance(source, Samples):
        check_file(source)
        offset = 0.0 if is_soundfile(source) else audio_start(source)
    for segment in cut_recording(source, longest):
        yield to_piece(segment, str(source), offset)


def cut_recording(source: Source, longest: float) -> Iterator[AudioSegment]:
    """Yield the audio of each piece.

    Raises:
        UnreadableClip: part of it cannot be read (raised after the readable pieces).
    """
    faults: list[UnreadableClip] = []
    readable = until_fault(waveform_blocks(source, skip_damaged=True), faults)
    for segment in segments(readable, longest, shortest=longest / 4):
        if not faults or len(segment.waveform) >= FRAME_LENGTH:
            yield segment
    if faults:
        raise faults[0]


def audio_start(path: str) -> float:
    """Start of a video's audio in seconds; subtitles count time from the start of the video."""
    import av

    try:
        with open_container(path) as container:
            return find_audio_start(container, next(iter(container.streams.audio), None))
    except (av.error.FFmpegError, OSError):
        return 0.0  # decoding will report the error


def to_piece(segment: AudioSegment, name: str, offset: float = 0.0) -> Piece:
    """Compute a piece's features; the audio starts ``offset`` seconds into the recording.

    Raises:
        UnreadableClip: the audio of ``name`` is shorter than one frame.
    """
    energies = floored_filterbank(segment.waveform, name)
    return Piece(
        start=offset + segment.start / SAMPLE_RATE,
        end=offset + (segment.start + len(segment.waveform)) / SAMPLE_RATE,
        features=normalise(energies),
        silent=bool(np.ptp(segment.waveform) <= SILENT_RANGE),
    )
