"""Segments are contiguous, within the length bounds and cut in pauses."""

import numpy as np
import pytest

from mmpt_fairseq.transcription.segments import quietest, segments
from mmpt_fairseq.transcription.transcript import Word
from tests.helpers import RATE, noise


def blocks(waveform: np.ndarray, size: int) -> list[np.ndarray]:
    return np.split(waveform, range(size, len(waveform), size))


@pytest.mark.parametrize("seconds", [0.01, 4.0, 8.0, 8.01, 9.9, 10.0, 10.1, 30.0, 61.7])
@pytest.mark.parametrize("size", [1_600, 160_000])
def test_segments_are_contiguous_and_within_bounds(seconds, size):
    waveform = noise(seconds)
    found = list(segments(iter(blocks(waveform, size)), longest=8, shortest=2))
    np.testing.assert_array_equal(np.concatenate([s.waveform for s in found]), waveform)
    lengths = [len(s.waveform) for s in found]
    assert [s.start for s in found] == [0, *np.cumsum(lengths)[:-1]]
    assert all(s.start % 640 == 0 for s in found)  # 40 ms, one encoder frame
    assert max(lengths) <= 8 * RATE
    if seconds <= 8:
        assert len(found) == 1
    else:
        assert min(lengths) >= 2 * RATE


def test_cuts_are_in_pauses():
    """For any block size of the stream."""
    waveform = noise(40)
    pauses = [(6.0, 6.4), (12.3, 12.8), (18.0, 18.4), (24.9, 25.3), (31.0, 31.5), (36.2, 36.6)]
    for start, end in pauses:
        waveform[int(start * RATE) : int(end * RATE)] *= 0.01
    found = {}
    for size in (1_000, 50_000, len(waveform)):
        cuts = [s.start / RATE for s in segments(iter(blocks(waveform, size)), 8, 2)][1:]
        assert len(cuts) >= 5
        assert all(any(start < cut < end for start, end in pauses) for cut in cuts)
        found[size] = cuts
    assert len(set(map(tuple, found.values()))) == 1


def test_quietest_is_the_middle_of_silence():
    waveform = noise(10)
    waveform[4 * RATE : 6 * RATE] = 0
    assert quietest(waveform, 0, len(waveform)) / RATE == pytest.approx(5.0, abs=0.02)
    assert quietest(np.zeros(10 * RATE, np.float32), 0, 10 * RATE) / RATE == pytest.approx(
        5, abs=0.1
    )
    assert quietest(waveform, 1_400, 1_500) == 1_280  # shorter than a pause


def test_inconsistent_length_bounds_are_rejected():
    with pytest.raises(ValueError, match="twice"):
        list(segments([noise(1)], longest=8, shortest=5))


def test_word_times_are_limited_to_the_recording():
    """The encoder's last frame may end after it."""
    word = Word("yes", 1.0, 1.04, 0.5)
    assert word.later(2.0, 9.0) == Word("yes", 3.0, 3.04, 0.5)
    assert word.later(2.0, 3.025) == Word("yes", 3.0, 3.025, 0.5)
    untimed = Word("yes", None, None, 0.5)
    assert untimed.later(2.0, 3.0) == untimed
