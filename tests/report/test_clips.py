"""Audio embedded in the report."""

import io
import shutil
from types import SimpleNamespace

import numpy as np
import soundfile

from manifests.features import cache_features
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.waveform import read_waveform
from mmpt_fairseq.report.clips import _flac


def test_audio_of_a_clip_with_cached_features(corpora, tmp_path):
    shutil.copytree(corpora / "asr", tmp_path / "asr")
    path = tmp_path / "asr" / "train.tsv"
    expected = read_waveform(Manifest(path).resolve("audio", 3))
    cache_features(tmp_path / "features.zip", [path.parent])
    flac = _flac(SimpleNamespace(manifest=Manifest(path)), 3)
    samples, rate = soundfile.read(io.BytesIO(flac), dtype="float32")
    assert rate == 16_000
    np.testing.assert_allclose(samples, expected, atol=1 / 32_000)
