"""Slices of long recordings equal the same part of the whole."""

import av
import numpy as np
import pytest

from mmpt_fairseq.data import waveform
from mmpt_fairseq.data.video import read_frames
from mmpt_fairseq.data.waveform import read_waveform
from tests.helpers import RATE, frame_number, noise, write_video


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """12 s of numbered video frames and audio."""
    path = tmp_path_factory.mktemp("slices") / "long.mp4"
    return str(write_video(path, 300, gop=25, audio=noise(12)))


@pytest.mark.parametrize("start", [0, 100, 8_000, 16_001, 70_000, 150_000, 190_000])
def test_audio_slice_of_a_video_equals_the_whole(recording, start):
    whole = read_waveform(recording)
    part = read_waveform(f"{recording}:{start}:5000")
    np.testing.assert_allclose(part, whole[start : start + 5000], atol=1e-6)


KINDS = [("a.mkv", "aac"), ("a.webm", "libopus"), ("a.mkv", "pcm_s16le"), ("a.mkv", "libmp3lame")]
KINDS += [("a.mkv", "ac3"), ("a.ts", "aac"), ("a.ts", "mp2")]


@pytest.mark.parametrize(("name", "codec"), KINDS)
def test_audio_slices_of_other_containers_are_aligned(name, codec, tmp_path, monkeypatch):
    """Their timestamps are coarser than samples, and little outside the slice is decoded."""
    path, rate = str(tmp_path / name), 48_000
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        converter = av.AudioResampler(stream.format, "mono", rate)
        for part in np.split(noise(30.0, rate=rate)[None], 1500, axis=1):
            frame = av.AudioFrame.from_ndarray(part, "fltp", "mono")
            frame.sample_rate = rate
            for converted in converter.resample(frame):
                container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
    decoded, blocks = [], waveform._fill_gaps
    monkeypatch.setattr(
        waveform, "_fill_gaps", lambda f, rate: (decoded.append(b) or b for b in blocks(f, rate))
    )

    def read(*part):
        return np.concatenate([b for b, _ in waveform.container_blocks(path, name, *part)])

    whole = read()
    for start in (100, 130_001, 700_000, 1_200_003):
        decoded.clear()
        part = read(start, rate)
        assert len(part) == rate
        lags = range(-50, 51)
        correlations = [
            np.corrcoef(part[100:-100], whole[start + 100 + i :][: rate - 200])[0, 1] for i in lags
        ]
        assert lags[int(np.argmax(correlations))] == 0
        assert max(correlations) > 0.85  # AAC synthesises part of the noise
        assert sum(map(len, decoded)) < 8 * rate  # clusters in mkv last 5 s


def test_slice_of_a_track_of_one_packet(tmp_path):
    """Without frames to identify a position by, the whole track is decoded."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        samples = np.round(noise(3.0)[None] * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
    whole = read_waveform(str(path))
    assert np.array_equal(read_waveform(f"{path}:32000:8000"), whole[32_000:40_000])


def test_audio_slice_is_found_by_seeking(recording, monkeypatch):
    seeks = []
    seek = av.container.InputContainer.seek

    class Container:
        """Wraps a container and records its seeks."""

        def __init__(self, container):
            self._container = container

        def __getattr__(self, name):
            return getattr(self._container, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._container.close()

        def seek(self, *args, **kwargs):
            seeks.append(args[0])
            return seek(self._container, *args, **kwargs)

    opened = av.open
    monkeypatch.setattr(av, "open", lambda path: Container(opened(path)))
    read_waveform(f"{recording}:{8 * RATE}:{RATE}")
    assert seeks == [8 * RATE - RATE // 2]


def test_frames_of_a_video_slice_are_counted_from_its_start(recording):
    frames = read_frames(f"{recording}:200:50", np.array([0, 7, 49]))
    assert [frame_number(p) for p in frames] == [200, 207, 249]
    beyond = read_frames(f"{recording}:200:50", np.array([0, 60]))
    assert frame_number(beyond[1]) == 249
