"""Small copies of videos, frame for frame."""

import os

import av
import numpy as np
import pytest

from manifests.compact_video import compact, main, make_copy
from manifests.errors import InputError
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from mmpt_fairseq.data.video import read_frames
from tests.helpers import frame_number, noise, write_audio, write_video
from tests.manifests.corpora import make_audio, turned


@pytest.fixture
def data(tmp_path):
    """A manifest of a whole video, a part of it, a broken one and audio alone."""
    video = write_video(tmp_path / "a.mp4", 90)
    (tmp_path / "b.mp4").write_bytes(b"no video")
    make_audio(tmp_path / "a.wav", 1.0)
    base = {"audio": "../a.wav", "n_frames": 98}
    rows = [
        base | {"id": "whole", "video": "../a.mp4", "video_frames": 90},
        base | {"id": "part", "video": f"{video}:70:20", "video_frames": 20},
        base | {"id": "broken", "video": "../b.mp4", "video_frames": 9},
        base | {"id": "sound"},
    ]
    write_manifest(tmp_path / "data/train.tsv", rows)
    return tmp_path / "data"


def test_copies_have_the_same_frames(data, tmp_path, capsys):
    assert compact(tmp_path / "small", [data]) == (1, 1)
    assert "left unchanged" in capsys.readouterr().err
    manifest = Manifest(data / "train.tsv")
    videos = [manifest.resolve("video", row) for row in range(4)]
    assert videos[0].startswith(f"{data}/../small/")
    assert videos[1] == f"{videos[0]}:70:20"
    assert videos[2:] == [f"{data}/../b.mp4", ""]
    for source, first in ((videos[0], 0), (videos[1], 70)):
        frames = read_frames(source, np.array([0, 13, 19]))
        assert [frame_number(p) for p in frames] == [first, first + 13, first + 19]
    with av.open(videos[0]) as container:
        keys = [i for i, f in enumerate(container.decode(video=0)) if f.key_frame]
        assert keys == list(range(0, 90, 12))
        assert not container.streams.audio


def test_copies_keep_the_rotation(tmp_path):
    path = turned(write_video(tmp_path / "a.mp4", 3), (0, 1, -1, 0))
    assert make_copy((str(path), str(tmp_path / "small.mp4"))) == ""
    frames = [read_frames(str(p), np.array([2])) for p in (path, tmp_path / "small.mp4")]
    assert np.abs(frames[0].astype(int) - frames[1]).mean() < 8


def test_a_replaced_video_is_copied_again(tmp_path):
    job = (str(write_video(tmp_path / "a.mp4", 30)), str(tmp_path / "small.mp4"))
    assert make_copy(job) == ""
    os.utime(job[1], (1, 1))
    write_video(tmp_path / "a.mp4", 20)
    assert make_copy(job) == ""
    with av.open(job[1]) as container:
        assert container.streams.video[0].frames == 20
    # Also one older than the copy, such as from a backup.
    write_video(tmp_path / "a.mp4", 10)
    os.utime(job[0], (9, 9))
    assert make_copy(job) == ""
    with av.open(job[1]) as container:
        assert container.streams.video[0].frames == 10


def test_a_file_without_frames_is_reported(tmp_path):
    write_audio(tmp_path / "a.ogg", noise(1.0))
    copy = tmp_path / "small.mp4"
    assert make_copy((str(tmp_path / "a.ogg"), str(copy))) == "no video track"
    assert not copy.exists()


def test_existing_copies_are_kept(data, tmp_path):
    compact(tmp_path / "small", [data])
    [copy] = (tmp_path / "small").rglob("*.mp4")
    written, manifest = copy.stat().st_mtime_ns, (data / "train.tsv").read_bytes()
    (tmp_path / "small").rename(tmp_path / "moved")
    (tmp_path / "small").symlink_to(tmp_path / "moved")
    main([str(tmp_path / "small"), str(data), "--jobs", "1"])
    assert copy.stat().st_mtime_ns == written
    assert (data / "train.tsv").read_bytes() == manifest


def test_copies_are_not_made_from_copies(data, tmp_path):
    compact(tmp_path / "small", [data], small_side=32)
    for out, side in (("small", 64), ("large", 64), ("large", 32)):
        with pytest.raises(InputError, match=r"whole points to .*/small/.*smaller side of 32; run"):
            compact(tmp_path / out, [data], small_side=side)


def test_manifests_in_a_linked_folder_point_to_the_copies(data, tmp_path):
    (tmp_path / "disk").mkdir()
    data.rename(tmp_path / "disk/data")
    (tmp_path / "a.mp4").rename(tmp_path / "disk/a.mp4")
    data.symlink_to(tmp_path / "disk/data")
    compact(tmp_path / "small", [data])
    copy = Manifest(data / "train.tsv").resolve("video", 0)
    assert copy.endswith("/../../small/" + "/".join(copy.split("/")[-2:]))
    assert len(read_frames(copy, np.array([0, 1]))) == 2


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [((640, 360), 256, (456, 256)), ((96, 64), 256, (96, 64)), ((96, 64), 32, (48, 32))],
)
def test_frame_sizes_of_copies(tmp_path, size, side, expected):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = size
        for _ in range(3):
            frame = np.zeros((size[1], size[0], 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    assert make_copy((str(path), str(tmp_path / "b.mp4")), side) == ""
    with av.open(str(tmp_path / "b.mp4")) as container:
        stream = container.streams.video[0]
        assert ((stream.width, stream.height), stream.frames) == (expected, 3)
