"""Concatenated blocks equal the waveform read at once, for any format, rate and length."""

import av
import numpy as np
import pytest

from manifests.errors import UnreadableClip
from manifests.recording import inspect
from mmpt_fairseq.data import waveform_stream
from mmpt_fairseq.data.waveform import read_waveform
from mmpt_fairseq.data.waveform_stream import as_source, duration, resampled_blocks, waveform_blocks
from tests.helpers import noise, write_audio, write_video

SECONDS = 2.3


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    monkeypatch.setattr(waveform_stream, "BLOCK_SECONDS", 1)
    monkeypatch.setattr(waveform_stream, "READ_SECONDS", 1)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_blocks_of_audio_files_equal_the_whole(tmp_path, name, rate):
    stereo = np.stack([noise(SECONDS, seed, rate) for seed in (0, 1)], axis=1)
    path = str(write_audio(tmp_path / name, stereo, rate))
    blocks = list(waveform_blocks(path))
    assert len(blocks) >= 2
    assert max(map(len, blocks)) < 2.1 * 16_000
    whole = read_waveform(path)
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)
    assert duration(path) == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("codec", ["libx264", "mpeg1video"])
def test_blocks_of_video_audio_equal_the_whole(tmp_path, codec):
    suffix = "mp4" if codec == "libx264" else "mpg"
    path = str(tmp_path / f"a.{suffix}")
    if suffix == "mp4":
        write_video(tmp_path / "a.mp4", 30, audio=noise(SECONDS))
    else:
        _write_mpg(path)
    blocks = np.concatenate(list(waveform_blocks(path)))
    np.testing.assert_allclose(blocks, read_waveform(path), atol=1e-6)
    # The codecs pad their last frame.
    assert len(blocks) == pytest.approx(SECONDS * 16_000, rel=0.05)


def _write_mpg(path: str) -> None:
    """Write an MPEG program stream with MP2 audio at 44.1 kHz, the format of GRID."""
    rate = 44_100
    with av.open(path, "w") as container:
        stream = container.add_stream("mp2", rate=rate, layout="stereo")
        data = (noise(SECONDS, rate=rate)[None].repeat(2, 0) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(
            data.T.reshape(1, -1).copy(), format="s16", layout="stereo"
        )
        frame.sample_rate = rate
        for packet in stream.encode(frame):
            container.mux(packet)
        container.mux(stream.encode(None))


def test_blocks_of_an_ogg_that_starts_late_equal_the_whole(tmp_path):
    """As cut from a stream; libsndfile decodes its first second differently after a seek."""
    path, rate = str(tmp_path / "a.ogg"), 48_000
    with av.open(path, "w") as container:
        stream = container.add_stream("libopus", rate=rate, layout="mono")
        for i, part in enumerate(np.split(noise(3.0, rate=rate)[None], 150, axis=1)):
            frame = av.AudioFrame.from_ndarray(part, "flt", "mono")
            frame.sample_rate, frame.pts = rate, rate + i * part.shape[1]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    blocks = np.concatenate(list(waveform_blocks(path)))
    np.testing.assert_allclose(blocks, read_waveform(path), atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000, 7_919])
@pytest.mark.parametrize("sizes", [(5,) * 300, (70_000, 1, 3_000), (100_000,), (441, 8000, 9)])
def test_resampling_in_blocks_equals_resampling_at_once(rate, sizes):
    from scipy.signal import resample_poly

    waveform = noise(sum(sizes) / rate, rate=rate)
    blocks = np.split(waveform, np.cumsum(sizes)[:-1])
    found = np.concatenate(list(resampled_blocks((block, rate) for block in blocks)))
    divisor = np.gcd(rate, 16_000)
    whole = resample_poly(waveform, 16_000 // divisor, rate // divisor)
    assert len(found) == len(whole)
    np.testing.assert_allclose(found, whole, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_all_samples_before_damage_are_returned(tmp_path, rate):
    path = write_audio(tmp_path / "a.flac", noise(6.0, rate=rate), rate)
    whole = read_waveform(str(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
    blocks = []
    with pytest.raises(UnreadableClip, match="lost sync"):
        blocks.extend(waveform_blocks(str(path)))
    # The read of one second that meets the damage is lost.
    found = np.concatenate(blocks)
    assert len(found) == 3 * 16_000
    np.testing.assert_allclose(found[:-100], whole[: len(found) - 100], atol=1e-6)


@pytest.mark.parametrize("suffix", ["wav", "au"])  # read by libsndfile and by FFmpeg
def test_implausible_rates_are_refused(tmp_path, suffix):
    """As in a corrupt header: converting them could take gigabytes."""
    for rate in (1, 999, 768_001, 2**31 - 1):
        path = str(write_audio(tmp_path / f"a.{suffix}", noise(0.1), rate))
        reason = f"a sample rate of {rate} Hz is not between 1000 and 768000"
        for read in (read_waveform, lambda path: list(waveform_blocks(path))):
            with pytest.raises(UnreadableClip, match=rf"a\.{suffix} cannot .*: {reason}"):
                read(path)
        assert inspect(path).fault == ("unreadable", reason)
        inspect.cache_clear()
        with pytest.raises(UnreadableClip, match=f"samples cannot .*: {reason}"):
            as_source(noise(0.1), rate, "samples")
    for rate in (1000, 22_257, 768_000):
        path = str(write_audio(tmp_path / f"a.{suffix}", noise(0.1), rate))
        assert len(read_waveform(path)) == -(-1600 * 16_000 // rate)
        assert (inspect(path).rate, inspect(path).samples) == (rate, 1600)
        inspect.cache_clear()


def test_unusable_files_raise_errors_with_the_reason(tmp_path):
    (tmp_path / "text.wav").write_text("this is no audio")
    (tmp_path / "empty.wav").write_bytes(b"")
    write_audio(tmp_path / "none.wav", np.zeros(0))
    write_audio(tmp_path / "nan.wav", np.full(99_000, np.nan, np.float32), subtype="FLOAT")
    write_video(tmp_path / "mute.mp4", 5)
    errors = {
        "text.wav": "cannot be read as audio",
        "empty.wav": "zero bytes",
        "none.wav": "holds no samples",
        "nan.wav": "not numbers",
        "mute.mp4": "no audio track",
        "missing.wav": "there is no audio file",
        "": "is a folder",
    }
    for name, error in errors.items():
        with pytest.raises(UnreadableClip, match=error):
            list(waveform_blocks(str(tmp_path / name)))
    assert duration(str(tmp_path / "text.wav")) is None
    assert duration(str(tmp_path / "missing.mp4")) is None


@pytest.mark.real_data
def test_real_damaged_files_raise_errors(real_data):
    files = sorted((real_data / "broken").glob("*.flac"))
    assert files
    for path in files:
        with pytest.raises(UnreadableClip, match=path.name):
            list(waveform_blocks(str(path)))


@pytest.mark.real_data
def test_blocks_of_a_real_mpg_equal_the_whole(real_data):
    path = str(next((real_data / "grid" / "original").glob("*.mpg")))
    blocks = np.concatenate(list(waveform_blocks(path)))
    np.testing.assert_allclose(blocks, read_waveform(path), atol=1e-6)
