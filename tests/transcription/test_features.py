"""Pieces of recordings: which of them are silent."""

import numpy as np
import pytest

from mmpt_fairseq.transcription.features import pieces
from tests.helpers import RATE, noise, write_audio

STEP = 1 / 32768  # of 16-bit samples
TIME = np.arange(2 * RATE)


def dither() -> np.ndarray:
    """Silence quantised with triangular dither: -1, 0 and 1 steps."""
    draws = np.random.default_rng(0).uniform(-0.5, 0.5, (2, len(TIME)))
    return STEP * np.round(draws.sum(0))


def opposite() -> np.ndarray:
    """Channels of opposite phase; their mean is at most one step."""
    left = np.round(noise(2.0) / STEP) * STEP
    return np.stack([left, -left + dither()], axis=1)


SILENT = {
    "zeros": np.zeros(2 * RATE),
    "offset": np.full(2 * RATE, 0.1),
    "dither": dither(),
    "tone of one step": STEP * np.round(np.sin(0.1 * TIME)),
    "opposite channels": opposite(),
}
AUDIBLE = {"noise": noise(2.0), "tone of ten steps": 10 * STEP * np.sin(0.1 * TIME)}


@pytest.mark.parametrize("name", [*SILENT, *AUDIBLE])
def test_rounding_and_dither_are_silent(tmp_path, name):
    """A model would invent text for them."""
    path = write_audio(tmp_path / "a.wav", {**SILENT, **AUDIBLE}[name])
    [piece] = pieces(str(path), 20.0)
    assert piece.silent == (name in SILENT)


def test_recording_is_silent_in_pieces(tmp_path):
    path = write_audio(tmp_path / "a.flac", np.concatenate([noise(6.0), *[dither()] * 7]))
    silent = [piece.silent for piece in pieces(str(path), 4.0)]
    assert not silent[0]
    assert all(silent[-2:])
