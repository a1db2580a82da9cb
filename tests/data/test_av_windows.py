"""Stage 1 reads audio and video from the same part of a clip."""

import numpy as np
import pytest
import torch

from mmpt_fairseq.data.audio import normalise, read_filterbank
from mmpt_fairseq.data.av_dataset import frame_window
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from mmpt_fairseq.data.video import read_frames
from tests.data.test_av_dataset import dataset
from tests.helpers import clips, noise, write_audio, write_video


def clips_with_declared_length(tmp_path):
    """A clip of 88 filterbank frames with audio and video, and again video-only."""
    manifest = clips(tmp_path, [0.9], video=True)
    both = dict(zip(manifest.columns, manifest.fields(0), strict=True))
    write_manifest(tmp_path / "declared.tsv", [both, {**both, "id": "video", "audio": ""}])
    return Manifest(tmp_path / "declared.tsv", allow_video_only=True)


def test_n_frames_of_a_video_only_clip_bounds_its_frames_but_not_its_cost(tmp_path, monkeypatch):
    """60 of 88 filterbank and 20 of 30 video frames are kept, with random_start from anywhere."""
    manifest, seen = clips_with_declared_length(tmp_path), []

    def read(path, choose_indices):
        return read_frames(path, lambda rate: seen.append(choose_indices(rate)) or seen[-1])

    monkeypatch.setattr("mmpt_fairseq.data.av_dataset.read_frames", read)
    assert manifest.n_frames.tolist() == [88, 88]
    assert dataset(manifest).sizes.tolist() == [60 + 128, 128]
    assert dataset(manifest, use_video=False).sizes.tolist() == [60, 0]
    both, video_only = (dataset(manifest, training=False)[i] for i in range(2))
    assert torch.equal(both.video, video_only.video)
    for random_start in (False, True):
        seen.clear()
        for epoch in range(1, 25):
            dataset(manifest, epoch=epoch, random_start=random_start)[1]
        assert any(w.max() >= 20 for w in seen) is random_start
        assert max(w.max() for w in seen) < 30


@pytest.mark.parametrize(
    ("seconds", "available", "start", "expected"),
    [
        (2.0, 150, 0, range(50)),  # the video is longer than the audio
        (12.0, 100, 0, range(100)),  # 4 s of audio are kept, and the video has 4 s
        (12.0, 100, 200, range(50, 100)),  # from 2 s on there are 2 s of video
        (12.0, 100, 700, range(99, 100)),  # the video has ended: its last frame
        (12.0, 301, 200, range(50, 150)),  # both are equally long
    ],
)
def test_frame_window_covers_the_frames_shown_during_the_audio(seconds, available, start, expected):
    """At 25 fps, during the 400 filterbank frames kept from ``start`` on."""
    first, kept = frame_window(available, round(100 * seconds), start, 400, 25.0)
    assert range(first, first + kept) == expected


def test_frames_after_the_end_of_the_audio_are_not_sampled(tmp_path, monkeypatch):
    """0.4 s of a 1.2 s video, by its frame rate; without audio, frames from all of it."""
    write_audio(tmp_path / "a.wav", noise(0.4))
    write_video(tmp_path / "a.mp4", 30)
    both = {"id": "a", "audio": "a.wav", "n_frames": 38, "video": "a.mp4", "video_frames": 30}
    write_manifest(tmp_path / "train.tsv", [both, {**both, "id": "b", "audio": ""}])
    sampled = {0: set(), 1: set()}

    def read(path, choose_indices):
        return read_frames(
            path, lambda rate: sampled[row].update(indices := choose_indices(rate)) or indices
        )

    monkeypatch.setattr("mmpt_fairseq.data.av_dataset.read_frames", read)
    for row in (0, 1):
        for epoch in range(1, 25):
            dataset(Manifest(tmp_path / "train.tsv", allow_video_only=True), epoch=epoch)[row]
    assert max(sampled[0]) < 10
    assert max(sampled[1]) > 25


def test_random_start_applies_to_audio_and_video(tmp_path, monkeypatch):
    """60 of 88 filterbank and 20 of 30 video frames are kept, from the same position."""
    manifest, seen = clips(tmp_path, [0.3, 0.5, 0.9], video=True), []

    def read(path, choose_indices):
        return read_frames(path, lambda rate: seen.append(choose_indices(rate)) or seen[-1])

    monkeypatch.setattr("mmpt_fairseq.data.av_dataset.read_frames", read)
    features = read_filterbank(manifest.resolve("audio", 2))
    positions = [normalise(features[start : start + 60]) for start in range(len(features) - 59)]
    starts = set()
    for epoch in range(1, 25):
        clip = dataset(manifest, epoch=epoch, random_start=True)[2]
        [start] = [i for i, p in enumerate(positions) if np.array_equal(clip.audio_unmasked, p)]
        first = 30 * start / len(features)
        assert first - 0.5 <= seen[-1].min()
        assert seen[-1].max() < first + 30 * 60 / len(features) + 0.5
        starts.add(start)
    assert len(starts) > 12
    assert max(starts) - min(starts) > 20
    evaluated = dataset(manifest, training=False, random_start=True)[2]
    assert np.array_equal(evaluated.audio_unmasked, positions[0])
    short = dataset(manifest, random_start=True)[0]  # 28 frames
    whole = normalise(read_filterbank(manifest.resolve("audio", 0)))
    assert np.array_equal(short.audio_unmasked, whole)
