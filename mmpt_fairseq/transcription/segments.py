"""Long recordings are cut where they are quietest, into pieces that a model can hold."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mmpt_fairseq.data.audio import FRAME_SHIFT, SUBSAMPLING
from mmpt_fairseq.data.waveform import SAMPLE_RATE, Waveform

# Samples to a frame of the encoder. Pieces of whole frames join without losing any: a piece of n
# frames is n frames in the encoder too, though its last 25 ms windows reach past its end.
ENCODER_SHIFT = SUBSAMPLING * FRAME_SHIFT
QUIET_FRAMES = 30  # of 10 ms: how long a pause must be to count as one


@dataclass
class SoundSegment:
    """A stretch of a recording.

    Attributes:
        start: its first sample's place in the recording.
        waveform: ``(samples,)`` at 16 kHz.
    """

    start: int
    waveform: Waveform


def segments(
    blocks: Iterable[Waveform], longest: float = 20.0, shortest: float = 5.0
) -> Iterator[SoundSegment]:
    """Cut a stream so that nothing is lost and nothing is heard twice.

    What lasts up to ``longest`` seconds stays whole. Otherwise each cut is in the middle of the
    quietest 0.3 s within reach, at a whole number of encoder frames. No more than the two lengths
    together and a block is held.

    Args:
        blocks: ``(samples,)`` at 16 kHz.
        longest, shortest: bounds of a piece in seconds; ``longest`` at least twice ``shortest``.
    """
    most, least = round(longest * SAMPLE_RATE), round(shortest * SAMPLE_RATE)
    if not 0 < 2 * least <= most:
        raise ValueError(f"longest={longest} must be at least twice shortest={shortest}, above 0")
    start, held = 0, np.zeros(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= most + least:
            cut = quietest(held, least, most)
            yield SoundSegment(start, held[:cut])
            start, held = start + cut, held[cut:]
    if len(held) > most:
        cut = quietest(held, least, min(most, len(held) - least))
        yield SoundSegment(start, held[:cut])
        start, held = start + cut, held[cut:]
    if len(held):
        yield SoundSegment(start, held)


def quietest(waveform: Waveform, low: int, high: int) -> int:
    """The middle of the quietest 0.3 s of ``waveform[low:high]``; of several, the middle one.

    Returns:
        A sample, rounded to a whole number of encoder frames.
    """
    frames = (high - low) // FRAME_SHIFT
    if frames < QUIET_FRAMES:
        return _whole_frames((low + high) // 2)
    stretch = waveform[low : low + frames * FRAME_SHIFT].astype(np.float64)
    power = (stretch.reshape(frames, FRAME_SHIFT) ** 2).mean(axis=1)
    sums = np.concatenate([[0.0], np.cumsum(power)])
    smooth = sums[QUIET_FRAMES:] - sums[:-QUIET_FRAMES]
    # Differences of cumulative sums leave rounding noise where all is silent.
    candidates = np.flatnonzero(smooth <= smooth.min() + 1e-9 * sums[-1])
    middle = candidates[len(candidates) // 2] + QUIET_FRAMES // 2
    return _whole_frames(low + int(middle) * FRAME_SHIFT)


def _whole_frames(samples: int) -> int:
    """The nearest whole number of encoder frames, in samples."""
    return round(samples / ENCODER_SHIFT) * ENCODER_SHIFT
