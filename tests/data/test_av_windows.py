"""Which part of a clip stage 1 hears and sees: the same moments of both."""

import numpy as np
import pytest
import torch

from mmpt_fairseq.data.audio import normalise, read_filterbank
from mmpt_fairseq.data.av_dataset import frame_window
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from mmpt_fairseq.data.video import read_frames
from tests.data.test_av_dataset import dataset
from tests.helpers import clips, noise, write_audio, write_video


def lengths_told(tmp_path):
    """A clip with sound and pictures of 88 frames, and again without its sound."""
    manifest = clips(tmp_path, [0.9], video=True)
    both = dict(zip(manifest.columns, manifest.fields(0), strict=True))
    write_manifest(tmp_path / "told.tsv", [both, {**both, "id": "pictures", "audio": ""}])
    return Manifest(tmp_path / "told.tsv", silent=True)


def test_a_length_without_sound_bounds_the_pictures_and_costs_nothing(tmp_path, monkeypatch):
    """Of 88 frames and 30 pictures 60 and 20 are kept, at random places where that is asked for."""
    manifest, seen = lengths_told(tmp_path), []

    def read(path, wanted):
        return read_frames(path, lambda rate: seen.append(wanted(rate)) or seen[-1])

    monkeypatch.setattr("mmpt_fairseq.data.av_dataset.read_frames", read)
    assert manifest.n_frames.tolist() == [88, 88]
    assert dataset(manifest).sizes.tolist() == [60 + 128, 128]
    assert dataset(manifest, use_video=False).sizes.tolist() == [60, 0]
    both, pictures = (dataset(manifest, training=False)[i] for i in range(2))
    assert torch.equal(both.video, pictures.video)
    for random_start in (False, True):
        seen.clear()
        for epoch in range(1, 25):
            dataset(manifest, epoch=epoch, random_start=random_start)[1]
        assert any(w.max() >= 20 for w in seen) is random_start
        assert max(w.max() for w in seen) < 30


@pytest.mark.parametrize(
    ("sound", "pictures", "start", "expected"),
    [
        (2.0, 150, 0, range(50)),  # pictures go on when the sound has ended
        (12.0, 100, 0, range(100)),  # 4 s of sound are kept, and pictures last 4 s
        (12.0, 100, 200, range(50, 100)),  # from 2 s on there are 2 s of them
        (12.0, 100, 700, range(99, 100)),  # none is shown any more: the last one
        (12.0, 301, 200, range(50, 150)),  # both last as long
    ],
)
def test_pictures_are_those_beside_the_sound_however_long_each_lasts(
    sound, pictures, start, expected
):
    """At 25 pictures a second, of the 400 frames that are kept from ``start`` on."""
    first, kept = frame_window(pictures, round(100 * sound), start, 400, 25.0)
    assert range(first, first + kept) == expected


def test_pictures_after_the_sound_are_not_drawn(tmp_path, monkeypatch):
    """Of a film of 1.2 s those of the first 0.4 s, as its rate says; without sound all may be."""
    write_audio(tmp_path / "a.wav", noise(0.4))
    write_video(tmp_path / "a.mp4", 30)
    both = {"id": "a", "audio": "a.wav", "n_frames": 38, "video": "a.mp4", "video_frames": 30}
    write_manifest(tmp_path / "train.tsv", [both, {**both, "id": "b", "audio": ""}])
    drawn = {0: set(), 1: set()}

    def read(path, wanted):
        return read_frames(path, lambda rate: drawn[row].update(found := wanted(rate)) or found)

    monkeypatch.setattr("mmpt_fairseq.data.av_dataset.read_frames", read)
    for row in (0, 1):
        for epoch in range(1, 25):
            dataset(Manifest(tmp_path / "train.tsv", silent=True), epoch=epoch)[row]
    assert max(drawn[0]) < 10
    assert max(drawn[1]) > 25


def test_a_random_start_is_that_of_sound_and_pictures(tmp_path, monkeypatch):
    """Of 88 frames and 30 pictures 60 and 20 are kept, from the same place."""
    manifest, seen = clips(tmp_path, [0.3, 0.5, 0.9], video=True), []

    def read(path, wanted):
        return read_frames(path, lambda rate: seen.append(wanted(rate)) or seen[-1])

    monkeypatch.setattr("mmpt_fairseq.data.av_dataset.read_frames", read)
    features = read_filterbank(manifest.resolve("audio", 2))
    places = [normalise(features[start : start + 60]) for start in range(len(features) - 59)]
    starts = set()
    for epoch in range(1, 25):
        clip = dataset(manifest, epoch=epoch, random_start=True)[2]
        [start] = [i for i, p in enumerate(places) if np.array_equal(clip.audio_unmasked, p)]
        first = 30 * start / len(features)
        assert first - 0.5 <= seen[-1].min()
        assert seen[-1].max() < first + 30 * 60 / len(features) + 0.5
        starts.add(start)
    assert len(starts) > 12
    assert max(starts) - min(starts) > 20
    evaluated = dataset(manifest, training=False, random_start=True)[2]
    assert np.array_equal(evaluated.audio_unmasked, places[0])
    short = dataset(manifest, random_start=True)[0]  # 28 frames
    whole = normalise(read_filterbank(manifest.resolve("audio", 0)))
    assert np.array_equal(short.audio_unmasked, whole)
