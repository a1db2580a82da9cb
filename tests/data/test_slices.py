"""Parts of long recordings: what a slice reads is what the whole has there."""

import av
import numpy as np
import pytest

from mmpt_fairseq.data.video import read_frames
from mmpt_fairseq.data.waveform import read_waveform
from tests.helpers import RATE, noise, picture_number, write_video


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Twelve seconds with numbered pictures and sound."""
    path = tmp_path_factory.mktemp("slices") / "long.mp4"
    return str(write_video(path, 300, gop=25, audio=noise(12)))


@pytest.mark.parametrize("start", [0, 100, 8_000, 16_001, 70_000, 150_000, 190_000])
def test_sound_of_a_part_of_a_video(recording, start):
    whole = read_waveform(recording)
    part = read_waveform(f"{recording}:{start}:5000")
    np.testing.assert_allclose(part, whole[start : start + 5000], atol=1e-6)


def test_a_part_is_found_by_seeking(recording, monkeypatch):
    sought = []
    seek = av.container.InputContainer.seek

    class Container:
        """Passes on to the container and notes the seeks."""

        def __init__(self, container):
            self._container = container

        def __getattr__(self, name):
            return getattr(self._container, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._container.close()

        def seek(self, *args, **kwargs):
            sought.append(args[0])
            return seek(self._container, *args, **kwargs)

    opened = av.open
    monkeypatch.setattr(av, "open", lambda path: Container(opened(path)))
    read_waveform(f"{recording}:{8 * RATE}:{RATE}")
    assert sought == [8 * RATE - RATE // 2]


def test_pictures_of_a_part_of_a_video(recording):
    pictures = read_frames(f"{recording}:200:50", np.array([0, 7, 49]))
    assert [picture_number(p) for p in pictures] == [200, 207, 249]
    beyond = read_frames(f"{recording}:200:50", np.array([0, 60]))
    assert picture_number(beyond[1]) == 249
