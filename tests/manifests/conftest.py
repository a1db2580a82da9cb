"""Small corpora that several tests prepare."""

import pytest

from tests.manifests.corpora import empty, film, sound


@pytest.fixture
def wav(tmp_path):
    return str(sound(tmp_path / "a.wav", 1.0))


@pytest.fixture
def corpus(tmp_path):
    """Forty clips, two of them of no use."""
    for i in range(38):
        sound(tmp_path / f"corpus/{i:02d}.wav", 0.3 + i / 100, i)
    empty(tmp_path / "corpus/97.wav")
    film(tmp_path / "corpus/98.mp4", silent=True)
    return tmp_path / "corpus"
