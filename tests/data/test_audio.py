import zipfile

import av
import numpy as np
import pytest
from fairseq.data.audio.feature_transforms.utterance_cmvn import UtteranceCMVN

from manifests.errors import UnreadableClip
from mmpt_fairseq.data.audio import (
    ROUNDING_NOISE,
    filterbank,
    floored_filterbank,
    normalise,
    num_frames,
    read_filterbank,
)
from mmpt_fairseq.data.waveform import file_bytes, read_waveform
from tests.helpers import RATE, noise, write_audio, write_video


def kaldi_filterbank(waveform: np.ndarray) -> np.ndarray:
    """Kaldi's fbank in plain numpy: 25/10 ms, Povey window, 80 triangles from 20 Hz to 8 kHz."""
    samples = waveform.astype(np.float64) * 32768
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85

    def mel(hertz):
        return 1127 * np.log(1 + hertz / 700)

    edges = np.linspace(mel(20), mel(8000), 82)
    bins = mel(np.arange(257) * 8000 / 256)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.minimum(rising, falling).clip(min=0)
    rows = []
    for start in range(0, len(samples) - 399, 160):
        frame = samples[start : start + 400] - samples[start : start + 400].mean()
        frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft(frame * window, 512)) ** 2
        rows.append(np.log(np.maximum(triangles @ power, np.finfo(np.float32).eps)))
    return np.array(rows)


@pytest.mark.parametrize("seconds", [0.025, 0.5, 1.2345])
def test_filterbank_matches_kaldi(seconds):
    time = np.arange(round(seconds * RATE)) / RATE
    waveform = noise(seconds) + 0.2 * np.sin(2 * np.pi * (300 + 1500 * time) * time) + 0.01
    expected = kaldi_filterbank(waveform)
    assert filterbank(waveform.astype(np.float32)) == pytest.approx(expected, abs=2e-3)


def test_filterbank_of_silence_and_of_too_short_audio():
    assert filterbank(np.zeros(800, np.float32)) == pytest.approx(
        np.full((3, 80), np.log(np.finfo(np.float32).eps)), abs=1e-5
    )
    assert filterbank(np.zeros(399, np.float32)).shape == (0, 80)


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 559, 560, 561, 16_000, 16_001])
def test_num_frames_matches_filterbank_length(samples):
    assert num_frames(samples) == len(filterbank(np.zeros(samples, np.float32)))


@pytest.mark.parametrize("frames", [20, 300])
def test_normalise_matches_fairseq(frames):
    features = np.random.default_rng(0).normal(-3, 4, (frames, 80)).astype(np.float32)
    expected = UtteranceCMVN()(features.astype(np.float64))
    assert normalise(features) == pytest.approx(expected, abs=1e-4)


def test_digital_silence_is_not_amplified():
    """With constant visible frames, the values of masked speech stay moderate."""
    features = np.full((40, 80), -15.9, np.float32)
    features[20:] = 10.0
    result = normalise(features, np.arange(40) < 20)
    assert np.array_equal(result[:20], np.zeros((20, 80)))
    assert result[20:] == pytest.approx(np.full((20, 80), 25.9 / np.sqrt(0.1)), rel=1e-3)


def test_normalise_uses_visible_frames_only():
    rng = np.random.default_rng(1)
    features = rng.normal(5, 2, (100, 80)).astype(np.float32)
    visible = rng.random(100) < 0.4
    changed = features.copy()
    changed[~visible] = rng.normal(1e4, 1e3, changed[~visible].shape)
    first, second = normalise(features, visible), normalise(changed, visible)
    assert np.array_equal(first[visible], second[visible])
    assert not np.allclose(first[~visible], second[~visible])
    assert first[visible].mean(0) == pytest.approx(np.zeros(80), abs=1e-5)
    assert first[visible].std(0) == pytest.approx(np.ones(80), abs=1e-4)


def test_constant_bins_and_no_visible_frames_give_zeros():
    features = np.random.default_rng(2).normal(size=(50, 80)).astype(np.float32)
    features[:, 7] = -15.942385
    result = normalise(features)
    assert not result[:, 7].any()
    assert result[:, 8].any()
    assert not normalise(features, np.zeros(50, bool)).any()
    assert np.isfinite(normalise(features[:1])).all()


@pytest.mark.parametrize(
    ("name", "kwargs", "tolerance"),
    [
        ("a.wav", {}, 1e-4),
        ("a.wav", {"subtype": "FLOAT"}, 1e-7),
        ("a.flac", {}, 1e-4),
        ("a.ogg", {}, 0.02),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}, 0.05),
        ("a.mp3", {}, 0.02),
    ],
)
def test_audio_formats_are_decoded(tmp_path, name, kwargs, tolerance):
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    read = read_waveform(str(write_audio(tmp_path / name, wave, **kwargs)))
    assert read.dtype == np.float32
    assert len(read) == RATE
    assert read[1000:-1000] == pytest.approx(wave[1000:-1000], abs=tolerance)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
def test_audio_is_downmixed_and_resampled_to_16_khz(tmp_path, rate):
    time = np.arange(rate) / rate
    left, right = np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * 1000 * time)
    write_audio(tmp_path / "a.wav", 0.4 * np.stack([left, right], 1), rate, subtype="FLOAT")
    time = np.arange(RATE) / RATE
    expected = 0.2 * (np.sin(2 * np.pi * 440 * time) + np.sin(2 * np.pi * 1000 * time))
    read = read_waveform(str(tmp_path / "a.wav"))
    assert len(read) == RATE
    assert read[500:-500] == pytest.approx(expected[500:-500], abs=2e-3)


def test_audio_track_of_a_video_is_decoded(tmp_path):
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE).astype(np.float32)
    path = write_video(tmp_path / "a.mp4", 50, audio=wave)
    read = read_waveform(str(path))
    assert abs(len(read) - len(wave)) <= 2048  # AAC works in blocks of 1024
    spectrum = np.abs(np.fft.rfft(read[4000:20_000]))
    assert spectrum.argmax() == 440
    assert read[4000:20_000].std() == pytest.approx(0.3 / np.sqrt(2), rel=0.02)


def test_stereo_audio_is_equally_loud_from_video_and_wav(tmp_path):
    """Both formats are downmixed to the mean of the channels."""
    left = 0.8 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE).astype(np.float32)
    both = np.stack([left, 0.5 * left])
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=RATE, layout="stereo")
        frame = av.AudioFrame.from_ndarray(both, format="fltp", layout="stereo")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    write_audio(tmp_path / "a.wav", both.T, subtype="FLOAT")
    loudness = [read_waveform(str(tmp_path / n))[4000:20_000].std() for n in ("a.mp4", "a.wav")]
    assert loudness[0] == pytest.approx(loudness[1], rel=0.03)


def test_slices_of_recordings_and_zip_archives_are_read(tmp_path):
    wave = noise(1.0)
    write_audio(tmp_path / "a.wav", wave, subtype="FLOAT")
    assert np.array_equal(read_waveform(f"{tmp_path}/a.wav:4000:1000"), wave[4000:5000])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.wav", "a.wav")
    size = (tmp_path / "a.wav").stat().st_size
    offset = (tmp_path / "a.zip").read_bytes().index(b"RIFF")
    assert np.array_equal(read_waveform(f"{tmp_path}/a.zip:{offset}:{size}"), wave)


def test_slice_of_a_compressed_recording_is_resampled(tmp_path):
    wave = noise(2.0, rate=48_000)
    write_audio(tmp_path / "a.flac", wave, 48_000)
    read = read_waveform(f"{tmp_path}/a.flac:24000:48000")
    write_audio(tmp_path / "part.flac", wave[24_000:72_000], 48_000)
    assert np.array_equal(read, read_waveform(str(tmp_path / "part.flac")))


def test_cached_features_are_read(tmp_path):
    features = np.random.default_rng(0).normal(size=(9, 80))
    np.save(tmp_path / "a.npy", features)
    assert np.array_equal(read_filterbank(f"{tmp_path}/a.npy"), features.astype(np.float32))


def test_unusable_files_raise_errors_with_the_reason(tmp_path):
    np.save(tmp_path / "narrow.npy", np.zeros((5, 40), np.float32))
    np.save(tmp_path / "letters.npy", np.full((5, 80), "a"))
    np.save(tmp_path / "nan.npy", np.full((5, 80), np.nan))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "narrow.npy").read_bytes()[:200])
    header = (tmp_path / "narrow.npy").read_bytes()
    (tmp_path / "header.npy").write_bytes(header.replace(b"}", b"(", 1))
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("hello " * 50)
    (tmp_path / "text.mp4").write_text("hello " * 50)
    (tmp_path / "text.mp3").write_text("hello")
    write_audio(tmp_path / "none.wav", np.zeros(0))
    write_audio(tmp_path / "short.wav", np.zeros(399))
    write_audio(tmp_path / "long.wav", noise(1.0))
    broken = noise(0.1)
    broken[700] = np.nan
    write_audio(tmp_path / "broken.wav", broken, subtype="FLOAT")
    write_video(tmp_path / "silent.mp4", 5)
    (tmp_path / "a.zip").write_bytes(b"PK" * 20)
    reasons = {
        "missing.wav": "there is no audio file",
        "missing.npy": "there is no audio file",
        "narrow.npy": r"\(5, 40\), not \(frames, 80\)",
        "letters.npy": "finite",
        "nan.npy": "finite",
        "cut.npy": "not a readable .npy",
        "header.npy": "not a readable .npy",
        "long.wav:\u00b2:5": "there is no audio file",
        "empty.wav": "zero bytes",
        "text.wav": "cannot be read as audio",
        "text.mp4": "cannot be read as audio",
        "text.mp3": "its content does not match its file name",
        "none.wav": "no samples",
        "short.wav": "less than one 25 ms frame",
        "short.wav:100:0": "no samples",
        "long.wav:15000:2700": "past the end of the recording: only 1000 of its samples",
        "broken.wav": "not numbers",
        "silent.mp4": "no audio track",
        "a.zip": "needs :offset:length",
        "a.zip:30:20": "past the end",
        "a.zip:0:20": "cannot be read as audio",
    }
    for name, reason in reasons.items():
        with pytest.raises(UnreadableClip, match=reason) as caught:
            read_filterbank(f"{tmp_path}/{name}")
        assert name.split(":")[0] in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [1e20, 1e30])
def test_samples_without_finite_energies_are_refused(tmp_path, scale):
    """As in a corrupt float WAV, or of an array that was scaled by mistake."""
    waveform = noise(1.0)
    waveform[700] = scale
    path = write_audio(tmp_path / "a.wav", waveform, subtype="FLOAT")
    with pytest.raises(UnreadableClip, match=r"a\.wav holds samples as large as"):
        read_filterbank(str(path))
    with pytest.raises(UnreadableClip, match="the array holds samples as large as"):
        floored_filterbank(noise(1.0) * np.float32(scale), "the array")
    loud = floored_filterbank(noise(1.0) * np.float32(1e6), "the array")
    assert np.isfinite(loud).all()


def test_mp3_with_an_absurd_declared_length_is_refused(tmp_path):
    path = write_audio(tmp_path / "a.mp3", noise(2.0))
    data = bytearray(path.read_bytes())
    frames = data.index(b"Xing") + 8  # after the flags
    data[frames : frames + 4] = b"\x7f\xff\xff\xff"
    path.write_bytes(data)
    with pytest.raises(UnreadableClip, match=r"a\.mp3 cannot .* longer than memory"):
        read_waveform(str(path))


def test_io_errors_raise_unreadable_clip(tmp_path):
    """As from a network disk. Tests may run as root, who can read any file, so a folder is used."""
    (tmp_path / "a.npy").mkdir()
    with pytest.raises(UnreadableClip, match=r"a\.npy cannot be read: Is a directory"):
        file_bytes(str(tmp_path / "a.npy"))
    (tmp_path / "a.zip").write_bytes(b"PK")
    for part in ("0:99999999999999", "99999999999999999999:5", "0:99999999999999999999"):
        with pytest.raises(UnreadableClip, match=r"a\.zip"):
            read_filterbank(f"{tmp_path}/a.zip:{part}")


@pytest.mark.real_data
def test_real_damaged_files_are_read_or_refused(real_data):
    outcomes = []
    for path in sorted((real_data / "broken").glob("*.flac")):
        try:
            outcomes.append(np.isfinite(read_filterbank(str(path))).all())
        except UnreadableClip as error:
            outcomes.append(path.name in str(error))
    assert outcomes == [True] * len(outcomes)
    assert len(outcomes) > 5


@pytest.mark.real_data
def test_audio_and_video_of_real_videos_are_equally_long(real_data):
    paths = [
        *sorted((real_data / "grid" / "original").glob("*.mpg"))[:3],
        *sorted((real_data / "grid" / "video").glob("*.mp4"))[:3],
    ]
    for path in paths:
        assert len(read_waveform(str(path))) / RATE == pytest.approx(3.0, abs=0.1)
    assert len(paths) == 6


def test_digital_silence_is_floored_at_rounding_noise(tmp_path):
    """The floor is the log energy of 16-bit rounding noise, averaged over the mel bins."""
    waveform = noise(1.0)
    waveform[8000:] = 0
    silent = read_filterbank(str(write_audio(tmp_path / "a.wav", waveform)))[60:]
    assert np.array_equal(silent, np.full_like(silent, ROUNDING_NOISE))
    rounding = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32) / 32768
    assert filterbank(rounding).mean() == pytest.approx(ROUNDING_NOISE, abs=0.2)
