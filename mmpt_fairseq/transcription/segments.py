"""Segmentation of long recordings at their quietest points, into lengths a model can process."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mmpt_fairseq.data.audio import FRAME_SHIFT, SUBSAMPLING
from mmpt_fairseq.data.waveform import SAMPLE_RATE, Waveform

# Samples per encoder frame. Cutting at whole frames loses none: a piece of n frames yields n
# encoder frames, although its last 25 ms windows extend beyond its end.
ENCODER_SHIFT = SUBSAMPLING * FRAME_SHIFT
QUIET_FRAMES = 30  # filterbank frames (10 ms) over which a pause is measured


@dataclass
class AudioSegment:
    """A contiguous part of a recording.

    Attributes:
        start: index of its first sample in the recording.
        waveform: ``(samples,)`` at 16 kHz.
    """

    start: int
    waveform: Waveform


def segments(
    blocks: Iterable[Waveform], longest: float = 20.0, shortest: float = 5.0
) -> Iterator[AudioSegment]:
    """Cut a stream into consecutive segments without gaps or overlaps.

    A recording of up to ``longest`` seconds is not cut. Otherwise each cut is in the middle of the
    quietest 0.3 s in the allowed range, at a multiple of the encoder frame. At most ``longest`` +
    ``shortest`` seconds and one block are buffered.

    Args:
        blocks: ``(samples,)`` at 16 kHz.
        longest, shortest: bounds of a segment in seconds; ``longest`` at least twice ``shortest``.
    """
    most, least = round(longest * SAMPLE_RATE), round(shortest * SAMPLE_RATE)
    if not 0 < 2 * least <= most:
        raise ValueError(f"longest={longest} must be at least twice shortest={shortest}, above 0")
    start, buffer = 0, np.zeros(0, np.float32)
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while len(buffer) >= most + least:
            cut = quietest(buffer, least, most)
            yield AudioSegment(start, buffer[:cut])
            start, buffer = start + cut, buffer[cut:]
    if len(buffer) > most:
        cut = quietest(buffer, least, min(most, len(buffer) - least))
        yield AudioSegment(start, buffer[:cut])
        start, buffer = start + cut, buffer[cut:]
    if len(buffer):
        yield AudioSegment(start, buffer)


def quietest(waveform: Waveform, low: int, high: int) -> int:
    """The middle of the quietest 0.3 s of ``waveform[low:high]``; the median one if tied.

    Returns:
        A sample index, rounded to a multiple of the encoder frame.
    """
    frames = (high - low) // FRAME_SHIFT
    if frames < QUIET_FRAMES:
        return _whole_frames((low + high) // 2)
    stretch = waveform[low : low + frames * FRAME_SHIFT].astype(np.float64)
    power = (stretch.reshape(frames, FRAME_SHIFT) ** 2).mean(axis=1)
    sums = np.concatenate([[0.0], np.cumsum(power)])
    smooth = sums[QUIET_FRAMES:] - sums[:-QUIET_FRAMES]
    # Differences of cumulative sums have rounding noise in digital silence.
    candidates = np.flatnonzero(smooth <= smooth.min() + 1e-9 * sums[-1])
    middle = candidates[len(candidates) // 2] + QUIET_FRAMES // 2
    return _whole_frames(low + int(middle) * FRAME_SHIFT)


def _whole_frames(samples: int) -> int:
    """Round to the nearest multiple of the encoder frame, in samples."""
    return round(samples / ENCODER_SHIFT) * ENCODER_SHIFT
