"""A masked clip and its reconstruction, as the report shows them."""

import numpy as np

from mmpt_fairseq.data.audio import normalise, read_filterbank
from mmpt_fairseq.report.reconstruction import denormalise, reconstruct


def test_a_masked_clip_is_reconstructed_where_masked_only(stages, corpora):
    clip = reconstruct(stages / "pretraining" / "checkpoint_best.pt", corpora / "av" / "valid.tsv")
    filterbank = read_filterbank(str(corpora / "av" / "0.wav"))
    assert np.array_equal(clip.filterbank, filterbank)
    assert np.array_equal(clip.reconstructed[~clip.masked], filterbank[~clip.masked])
    assert not np.isclose(clip.reconstructed[clip.masked], filterbank[clip.masked]).all()
    assert 0.4 < clip.masked.mean() < 0.8
    original, masked, rebuilt = clip.frames
    grey = np.isclose(masked, 0.55).all(-1)
    assert 0.4 < grey.mean() < 0.8
    assert np.array_equal(rebuilt[~grey], original[~grey])


def test_denormalise_inverts_normalise():
    rng = np.random.default_rng(0)
    features = rng.normal(5, 3, (50, 80)).astype(np.float32)
    features[:, 3] = 2.0  # constant: normalised with the minimum variance
    visible = rng.random(50) < 0.4
    back = denormalise(normalise(features, visible), features, visible)
    assert np.allclose(back, features, atol=1e-4)
