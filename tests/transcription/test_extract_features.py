"""Features of files: those of the encoder, one every 40 ms, however long the file is."""

import numpy as np
import pytest
import torch

from manifests.errors import InputError
from mmpt_fairseq.data.audio import normalise, num_frames, read_filterbank, subsampled
from tests.helpers import RATE, noise, write_audio


@torch.no_grad()
def test_features_match_the_encoder(recogniser, tmp_path):
    path = str(write_audio(tmp_path / "a.wav", noise(1.5)))
    features = torch.from_numpy(normalise(read_filterbank(path)))[None]
    encoded = recogniser.encoder(features, torch.tensor([features.size(1)]), keep_layers=True)
    found = recogniser.extract_features(path)
    np.testing.assert_array_equal(found, encoded.states[0].numpy())
    assert found.shape == (37, 16)
    for layer in range(3):
        of_layer = recogniser.extract_features(path, layer=layer)
        np.testing.assert_array_equal(of_layer, encoded.layers[layer][0].numpy())
    np.testing.assert_array_equal(recogniser.extract_features(path, layer=2), found)
    with pytest.raises(InputError, match="layer 3 is not between 0 and the encoder's 2"):
        recogniser.extract_features(path, layer=3)


@pytest.mark.parametrize("samples", [19.9 * RATE, 20.01 * RATE, 61.737 * RATE])
def test_frame_count_of_a_long_file_matches_one_piece(recogniser, tmp_path, samples):
    waveform = noise(samples / RATE)
    path = write_audio(tmp_path / "a.wav", waveform)
    found = recogniser.extract_features(path, layer=0)
    assert len(found) == subsampled(num_frames(len(waveform)))


def test_features_of_a_long_file_are_aligned_in_time(recogniser, tmp_path):
    """Tones in two minutes of silence, each starting at a frame boundary."""
    waveform = np.zeros(130 * RATE, np.float32)
    begins = np.arange(140, 130 * 25 - 25, 183)  # frames, about 7 s apart
    tone = 0.3 * np.sin(2 * np.pi * 700 * np.arange(RATE // 2) / RATE)
    for begin in begins:
        waveform[640 * begin :][: len(tone)] += tone.astype(np.float32)
    found = recogniser.extract_features(write_audio(tmp_path / "a.wav", waveform), layer=0)
    assert len(found) == 130 * 25
    change = np.linalg.norm(np.diff(found, axis=0), axis=1)
    changed = np.flatnonzero(change > 0.01 * change.max())
    early = [begin - changed[changed >= begin - 6][0] for begin in begins]
    # The lookahead of a state is six filterbank frames of 25 ms each, so the second state before
    # each tone is the first one affected by it, in all cases.
    assert set(early) == {3}
