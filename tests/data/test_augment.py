import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from manifests.errors import InputError
from mmpt_fairseq.data.augment import Augmentation, add_noise, change_speed
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from mmpt_fairseq.data.rows import check_skipped
from mmpt_fairseq.data.skipping import SkippedClips
from mmpt_fairseq.data.waveform import read_waveform
from tests.helpers import RATE, clips, noise, write_audio

DEFAULTS = {
    "speeds": [1.0],
    "noise_manifest": None,
    "noise_probability": 0.5,
    "noise_snr": [0.0, 20.0],
    "noise_sources": 1,
}


def decibels(waveform: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)))


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_speed_changes_time_and_pitch(speed):
    seconds = np.arange(RATE) / RATE
    changed = change_speed(np.sin(2 * np.pi * 440 * seconds).astype(np.float32), speed)
    assert len(changed) == pytest.approx(RATE / speed, abs=1)
    spectrum = np.abs(np.fft.rfft(changed))
    assert spectrum.argmax() * RATE / len(changed) == pytest.approx(440 * speed, abs=2)


@pytest.mark.parametrize("snr", [-5.0, 0.0, 15.0])
def test_noise_is_added_at_the_requested_snr(snr):
    speech, interference = noise(1.0, seed=1), 7 * noise(1.0, seed=2)
    added = add_noise(speech, interference, snr) - speech
    assert decibels(speech) - decibels(added) == pytest.approx(snr, abs=0.01)
    assert np.corrcoef(added, interference)[0, 1] == pytest.approx(1, abs=1e-4)


def test_silent_speech_and_silent_noise_change_nothing():
    speech, silence = noise(0.2), np.zeros(RATE // 5, np.float32)
    assert np.array_equal(add_noise(speech, silence, 0.0), speech)
    assert np.array_equal(add_noise(silence, speech, 0.0), silence)


def test_16_bit_rounding_noise_is_treated_as_silence(tmp_path):
    """A signal below half a quantisation step leaves a few samples of one step each."""
    rng = np.random.default_rng(0)
    silence = np.rint(0.3 * rng.standard_normal(RATE)).astype(np.int16)
    assert set(silence.tolist()) == {-1, 0, 1}
    write_audio(tmp_path / "silent.wav", silence)
    write_audio(tmp_path / "loud.wav", 3e-4 * rng.standard_normal(RATE))  # ten quantisation steps
    rows = [{"id": n, "audio": f"{n}.wav", "n_frames": 98} for n in ("silent", "loud")]
    write_manifest(tmp_path / "noise.tsv", rows)
    write_manifest(tmp_path / "silence.tsv", rows[:1])
    speech = noise(1.0, seed=9)
    silent = Augmentation(noises=Manifest(tmp_path / "silence.tsv"), probability=1.0, sources=2)
    assert np.array_equal(silent(speech, rng), speech)
    read = read_waveform(str(tmp_path / "silent.wav"))
    assert np.array_equal(add_noise(speech, read, 0.0), speech)
    assert np.array_equal(add_noise(read, speech, 0.0), read)
    # In a mix it contributes nothing.
    mixed = Augmentation(noises=Manifest(tmp_path / "noise.tsv"), sources=1)
    powers = [np.mean(mixed._draw_noise(RATE, rng) ** 2) for _ in range(20)]
    assert {round(float(power), 3) for power in powers} == {0.0, 1.0}


def test_augmentation_is_determined_by_the_generator(tmp_path):
    """SNRs are within range, all speeds occur, noise has its probability, seeds reproduce."""
    noises = clips(tmp_path, [0.3, 2.0, 0.5])
    augmentation = Augmentation((0.9, 1.0), noises, 0.5, (5.0, 10.0), sources=2)
    speech = noise(1.0, seed=9)
    lengths, noisy = [], 0
    for seed in range(60):
        once, again = (augmentation(speech, np.random.default_rng([1, 2, seed])) for _ in "ab")
        assert np.array_equal(once, again)
        clean = change_speed(speech, 0.9) if len(once) > len(speech) else speech
        lengths.append(len(once))
        if not np.array_equal(once, clean):
            noisy += 1
            ratio = decibels(clean) - decibels(once - clean)
            assert 4.99 <= ratio <= 10.01
    assert len(set(lengths)) == 2
    assert 15 < noisy < 45


def test_babble_is_a_sum_of_clips_of_equal_power(tmp_path):
    noises = clips(tmp_path, [0.3, 2.0, 0.5])
    generator = np.random.default_rng(0)
    for sources in (1, 4):
        mixed = Augmentation(noises=noises, sources=sources)._draw_noise(RATE, generator)
        assert np.mean(mixed**2) == pytest.approx(sources, rel=0.6)
    assert len(mixed) == RATE


def test_an_unreadable_noise_clip_is_replaced_and_named_once(tmp_path, caplog):
    """It is not charged to the speech, whose rows a long training would then run out of."""
    noises = clips(tmp_path, [0.3, 2.0, 0.5])
    (tmp_path / noises.column("audio")[1]).unlink()
    augmentation = Augmentation(noises=noises, probability=1.0)
    speech = noise(0.1)
    for seed in range(40):
        assert not np.array_equal(augmentation(speech, np.random.default_rng(seed)), speech)
    assert caplog.text.count(f"skipped {noises.where(1)}") == 1
    assert (augmentation.skipped.skipped, augmentation.skipped.read) == (1, 3)


def test_many_unreadable_noise_clips_stop_training(tmp_path):
    rows = [{"id": str(n), "audio": "none.wav", "n_frames": 5} for n in range(40)]
    write_manifest(tmp_path / "noise.tsv", rows)
    augmentation = Augmentation(noises=Manifest(tmp_path / "noise.tsv"), probability=1.0)
    dataset = SimpleNamespace(
        manifest=None, skipped=SkippedClips(5, tolerate=True), augmentation=augmentation
    )
    check_skipped(dataset)
    speech = noise(0.1)
    for seed in range(3):
        assert np.array_equal(augmentation(speech, np.random.default_rng(seed)), speech)
    with pytest.raises(InputError, match="noise clips could not be used so far, more than 5%"):
        check_skipped(dataset)


def test_default_config_gives_no_augmentation():
    assert Augmentation.from_config(SimpleNamespace(**DEFAULTS)) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speeds": [0.1]}, r"task\.speeds=\[0\.1\]"),
        ({"speeds": []}, r"task\.speeds"),
        ({"noise_snr": [20, 0]}, "lowest and the highest"),
        ({"noise_probability": 2.0}, "between 0 and 1"),
        ({"noise_sources": 0}, "at least 1"),
        ({"noise_manifest": "nowhere.tsv"}, "no file task.noise_manifest=nowhere.tsv"),
    ],
)
def test_invalid_settings_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Augmentation.from_config(SimpleNamespace(**{**DEFAULTS, **options}))


def test_noise_settings_without_a_manifest_give_a_warning(caplog):
    disabled = {**DEFAULTS, "noise_probability": 0.0, "noise_snr": [0, 5]}
    assert Augmentation.from_config(SimpleNamespace(**disabled)) is None
    assert "without a noise manifest" not in caplog.text
    configured = {**DEFAULTS, "speeds": [0.9, 1.1], "noise_snr": [0, 5]}
    assert Augmentation.from_config(SimpleNamespace(**configured)).noises is None
    assert "no effect without a noise manifest; set task" in caplog.text


@pytest.mark.parametrize("kind", ["npy", "zip"])
def test_noise_manifest_with_cached_features_is_refused(tmp_path, kind):
    """For ``.npy`` files and for ZIP archives, as fairseq's recipes write them."""
    np.save(tmp_path / "0.npy", np.zeros((50, 80), np.float32))
    wave = write_audio(tmp_path / "0.wav", noise(0.5))
    sources = {"features": "0.npy", "audio": "0.wav"}
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_STORED) as archive:
            for path in (tmp_path / "0.npy", wave):
                archive.write(path, path.name)
        content = (tmp_path / "all.zip").read_bytes()
        for name, path in (("features", tmp_path / "0.npy"), ("audio", wave)):
            data = path.read_bytes()
            sources[name] = f"all.zip:{content.index(data)}:{len(data)}"
    for name, source in sources.items():
        row = {"id": "n", "audio": source, "n_frames": 50}
        write_manifest(tmp_path / f"{name}.tsv", [row])
    settings = {**DEFAULTS, "noise_manifest": str(tmp_path / "features.tsv")}
    with pytest.raises(InputError, match=r"features\.tsv, line 2 \(n\) holds cached features"):
        Augmentation.from_config(SimpleNamespace(**settings))
    settings["noise_manifest"] = str(tmp_path / "audio.tsv")
    augmentation = Augmentation.from_config(SimpleNamespace(**settings))
    assert augmentation._draw_noise(RATE, np.random.default_rng(0)).any()
