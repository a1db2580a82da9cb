from types import SimpleNamespace

import numpy as np
import pytest
import torch

from manifests.errors import UnreadableClip
from mmpt_fairseq.data.video import (
    _UprightConverter,
    read_frames,
    sample_frame_indices,
    transform_clip,
)
from tests.helpers import frame_number, write_audio, write_video
from tests.manifests.corpora import hidden, turned


def numbers(path, indices):
    return [frame_number(p) for p in read_frames(str(path), np.array(indices))]


# A long GOP, one whose last GOP has two frames (the decoder returns them together), and containers
# with unreliable timestamps.
FILES = {
    "long.mp4": {"gop": 250},
    "two_left.mp4": {"gop": 99},
    "a.mkv": {"gop": 30},
    "stream.mpg": {"codec": "mpeg1video", "gop": 15},
    "a.ts": {"gop": 30},
    "a.avi": {"gop": 30},
}


@pytest.mark.parametrize("name", FILES)
def test_reading_is_frame_exact(tmp_path, name):
    path = write_video(tmp_path / name, 200, **FILES[name])
    for start in (0, 1, 63, 64, 65, 98, 99, 100, 150, 194):
        indices = [start, start + 1, start + 1, start + 5]
        assert numbers(path, indices) == indices
    for start in (197, 198, 199):
        assert numbers(path, [start, 199]) == [start, 199]


def test_reading_is_frame_exact_at_a_varying_rate(tmp_path):
    times = np.cumsum(np.where(np.arange(200) < 80, 33, 66))
    path = write_video(tmp_path / "a.mp4", 200, gop=30, rate=30, times=times)
    assert numbers(path, [70, 100, 150]) == [70, 100, 150]
    assert numbers(path, [150, 199]) == [150, 199]


def test_reading_is_frame_exact_if_slow_and_fast_parts_have_the_nominal_average_rate(tmp_path):
    durations = np.repeat([40, 80, 20, 40], [175, 25, 50, 50])
    path = write_video(tmp_path / "a.mp4", 300, gop=30, times=np.cumsum(durations) - 40)
    for start in (100, 174, 186, 201, 215, 260, 296):
        assert numbers(path, [start, start + 3]) == [start, start + 3]


def test_reading_is_frame_exact_if_an_mkv_declares_a_wrong_rate(tmp_path):
    times = np.cumsum(np.where(np.arange(200) < 80, 33, 66))
    path = write_video(tmp_path / "a.mkv", 200, gop=30, rate=30, times=times)
    assert numbers(path, [70, 100, 150]) == [70, 100, 150]
    assert numbers(path, [150, 199]) == [150, 199]


def test_reading_is_frame_exact_if_an_edit_list_hides_frames(tmp_path):
    path = hidden(write_video(tmp_path / "a.mp4", 250, gop=60), 3.0)
    for start in (0, 64, 70, 150):
        assert numbers(path, [start, start + 3]) == [75 + start, 78 + start]


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)])
def test_rotation_metadata_is_applied(tmp_path, matrix):
    path = write_video(tmp_path / "a.mp4", 1)
    image = read_frames(str(path), np.array([0]))[0]
    found = read_frames(str(turned(path, matrix)), np.array([0]))[0]
    a, b, c, d = matrix
    for x, y in ((5, 5), (60, 3), (20, 40), (37, 62)):
        # The matrix maps (x, y), here relative to the centre, to the displayed position.
        right, down = a * (x - 31.5) + c * (y - 31.5), b * (x - 31.5) + d * (y - 31.5)
        assert np.array_equal(found[int(down + 31.5), int(right + 31.5)], image[y, x])


def test_frames_of_concatenated_videos_get_the_size_of_the_first(tmp_path):
    parts = [write_video(tmp_path / f"{size}.ts", 20, size=size) for size in (64, 96)]
    (tmp_path / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = read_frames(str(tmp_path / "a.ts"), np.array([3, 19, 20, 38]))
    assert clip.shape == (4, 64, 64, 3)
    assert [frame_number(image) for image in clip] == [3, 19, 0, 18]
    assert read_frames(str(tmp_path / "a.ts"), np.array([25])).shape == (1, 96, 96, 3)


def test_frames_with_changing_rotation_get_the_shape_of_the_first():
    """As metadata may say for a phone that was rotated while recording."""

    class Frame:
        def __init__(self, width, height, rotation):
            self.width, self.height, self.rotation = width, height, rotation

    convert = _UprightConverter()
    convert._convert = lambda frame, width, height, kind: SimpleNamespace(
        to_ndarray=lambda: np.zeros((height, width, 3), np.uint8)
    )
    for frame in (Frame(64, 48, 90), Frame(64, 48, 0), Frame(32, 20, 270), Frame(48, 64, 180)):
        assert convert(frame).shape == (64, 48, 3)


def test_last_frame_replaces_missing_declared_frames(tmp_path):
    for name in ("a.mp4", "a.mpg"):
        codec = "mpeg1video" if name.endswith("mpg") else "libx264"
        path = write_video(tmp_path / name, 80, codec=codec)
        assert numbers(path, [3, 79, 80, 82]) == [3, 79, 79, 79]
        assert numbers(path, [78, 81]) == [78, 79]
        assert numbers(path, [81, 82]) == [79, 79]
        with pytest.raises(UnreadableClip, match="ends after 80 frames, but number 84 was"):
            numbers(path, [3, 83])


def test_unusable_files_raise_errors_with_the_reason(tmp_path):
    write_audio(tmp_path / "audio.wav", np.zeros(1000))
    (tmp_path / "text.mp4").write_text("hello " * 50)
    (tmp_path / "empty.mp4").write_bytes(b"")
    reasons = {
        "missing.mp4": "there is no video file",
        "audio.wav": "no video track",
        "text.mp4": "cannot be read as video",
        "empty.mp4": "cannot be read as video",
    }
    for name, reason in reasons.items():
        with pytest.raises(UnreadableClip, match=reason) as caught:
            read_frames(str(tmp_path / name), np.array([0]))
        assert name in str(caught.value)


def test_random_windows_cover_all_positions_in_the_video():
    rng = np.random.default_rng(0)
    starts = set()
    for _ in range(300):
        indices = sample_frame_indices(50, 4, 5, rng)
        assert np.diff(indices).tolist() == [5, 5, 5]
        starts.add(int(indices[0]))
    assert starts == set(range(50 - 15))


def test_windows_without_rng_are_centred():
    assert sample_frame_indices(50, 4, 5, None).tolist() == [17, 22, 27, 32]
    assert sample_frame_indices(16, 4, 5, None).tolist() == [0, 5, 10, 15]
    assert sample_frame_indices(7, 4, 5, None).tolist() == [0, 2, 4, 6]
    assert sample_frame_indices(2, 4, 5, np.random.default_rng(0)).tolist() == [0, 0, 1, 1]
    assert sample_frame_indices(1, 3, 5, None).tolist() == [0, 0, 0]


def ramp(frames=3, height=40, width=60):
    """Identical frames: red encodes the column, green the row."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = 4 * np.arange(width), 4 * np.arange(height)[:, None]
    return np.stack([image] * frames)


def test_all_frames_of_a_clip_get_the_same_crop_and_flip():
    flipped, corners = 0, set()
    for seed in range(40):
        clip = transform_clip(ramp(), 16, np.random.default_rng(seed), min_scale=0.5)
        assert clip.shape == (3, 3, 16, 16)
        assert torch.equal(clip[:, :1].expand_as(clip), clip)
        pixels = clip[:, 0].float() / 4
        columns, rows = pixels[0].mean(0), pixels[1].mean(1)
        assert bool((rows.diff() > 0).all())
        right = bool((columns.diff() > 0).all())
        assert right or bool((columns.diff() < 0).all())
        flipped += not right
        width, height = abs(columns[-1] - columns[0]) * 16 / 15, (rows[-1] - rows[0]) * 16 / 15
        assert 0.42 < float(width * height) / (40 * 60) <= 1.05
        assert 0.65 < float(width / height) < 1.5
        corners.add((round(float(columns.min())), round(float(rows.min()))))
    assert 8 < flipped < 32
    assert len(corners) > 20


def test_crops_of_a_panorama_cover_all_positions():
    """No allowed aspect covers half of the frame; each crop is as large as the height permits."""
    positions = set()
    for seed in range(40):
        clip = transform_clip(ramp(1, 15, 60), 15, np.random.default_rng(seed), flip=False)
        columns, rows = clip[0].float().mean((0, 1)) / 4, clip[1].float().mean((0, 2)) / 4
        width, height = (columns[-1] - columns[0]) * 15 / 14, (rows[-1] - rows[0]) * 15 / 14
        assert 12 < float(height) < 17
        assert 0.65 < float(width / height) < 1.5
        positions.add(round(float(columns.min())))
    assert len(positions) > 15
    assert min(positions) < 10
    assert max(positions) > 35


def test_same_seed_gives_the_same_crop():
    first, second = (transform_clip(ramp(), 16, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(first, second)


def test_evaluation_crops_the_centre():
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)
    clip = transform_clip(frames, 40)
    expected = frames[:, :, 10:50].transpose(3, 0, 1, 2)
    assert np.array_equal(clip.numpy(), expected)
    smaller = transform_clip(frames, 20)
    assert smaller.shape == (3, 2, 20, 20)
    assert smaller.float().mean().item() == pytest.approx(expected.mean(), abs=1)


@pytest.mark.real_data
def test_seeking_in_real_videos_matches_full_decoding(real_data):
    paths = [
        *sorted((real_data / "grid" / "original").glob("*.mpg"))[:2],
        *sorted((real_data / "grid" / "video").glob("*.mp4"))[:2],
    ]
    for path in paths:
        whole = read_frames(str(path), np.arange(74))
        for start in (0, 30, 65, 66, 70, 73):
            found = read_frames(str(path), np.array([start, 73]))
            assert np.array_equal(found, whole[[start, 73]])
    assert len(paths) == 4
