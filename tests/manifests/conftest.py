"""Small corpora shared by several tests."""

import pytest

from tests.manifests.corpora import empty, make_audio, make_video


@pytest.fixture
def wav(tmp_path):
    return str(make_audio(tmp_path / "a.wav", 1.0))


@pytest.fixture
def corpus(tmp_path):
    """Forty clips, two of them unusable."""
    for i in range(38):
        make_audio(tmp_path / f"corpus/{i:02d}.wav", 0.3 + i / 100, i)
    empty(tmp_path / "corpus/97.wav")
    make_video(tmp_path / "corpus/98.mp4", silent=True)
    return tmp_path / "corpus"
