"""Pictures: sampled frames of a video file, cropped and resized as one clip."""

import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manifests.container import MATROSKA, MP4, open_container, picture_converter, video_stream
from manifests.errors import UnreadableClip, reason_of
from mmpt_fairseq.data.waveform import split_slice

# Decoding on is cheaper than seeking for gaps of up to this many frames.
SEEK_GAP = 64
TOO_MANY = 3  # pictures more than there are that headers promise now and then
# Where packets carry the time of their picture; not so in MPEG program streams and AVI.
SEEKABLE = {MP4, MATROSKA}

# What the index of a film says, which of two hours takes a tenth of a second to read.
_even: dict[tuple[str, int], bool] = {}

Indices = NDArray[np.int64]
Frames = NDArray[np.uint8]  # (pictures, height, width, 3)
Pictures = dict[int, NDArray[np.uint8]]  # number -> (height, width, 3)


def sample_frame_indices(
    available: int, num_frames: int, stride: int, rng: np.random.Generator | None
) -> NDArray[np.int64]:
    """Indices of ``num_frames`` pictures, ``stride`` apart, from ``available`` ones.

    The window starts at random, or in the middle without ``rng``. A video too short for it is
    sampled evenly over its whole length instead (pictures repeat if there are too few).
    """
    span = (num_frames - 1) * stride + 1
    if available < span:
        return np.linspace(0, available - 1, num_frames).round().astype(np.int64)
    slack = available - span
    start = slack // 2 if rng is None else int(rng.integers(slack + 1))
    return start + stride * np.arange(num_frames)


def read_frames(source: str, indices: Indices | Callable[[float | None], Indices]) -> Frames:
    """Decode the pictures at ``indices`` (sorted, counted from the first) as RGB.

    Args:
        source: a path, or ``path:first:count`` for a part of a longer video, in pictures.
        indices: or what chooses them, told how many pictures a second there are on average, None
            where the file does not say.

    Returns:
        ``(len(indices), height, width, 3)``. Where the file ends up to ``TOO_MANY`` pictures
        early, its last one stands in.

    Raises:
        UnreadableClip: no such file, no video track, nothing decodable, or it ends earlier.
    """
    path, first, count = split_slice(source)
    if not os.path.isfile(path):
        raise UnreadableClip(f"there is no video file {path}")
    try:
        with open_container(path) as container:
            stream = video_stream(container)
            if stream is None:
                raise UnreadableClip(f"{path} has no video track")
            if callable(indices):
                indices = indices(float(stream.average_rate) if stream.average_rate else None)
            indices = first + (indices if count < 0 else np.minimum(indices, count - 1))
            pictures = _decode_pictures(path, container, stream, {int(i) for i in indices})
            if not pictures:
                raise UnreadableClip(f"{path} holds no decodable picture")
            final = max(pictures)
            clip = np.stack([pictures.get(int(i), pictures[final]) for i in indices])
    except UnreadableClip:
        raise
    except Exception as error:  # PyAV raises many kinds over damaged files: all are this file's
        raise UnreadableClip(f"{path} cannot be read as video: {reason_of(error)}") from None
    if indices[-1] > final + TOO_MANY:
        raise UnreadableClip(
            f"{path} ends after {final + 1} pictures, and number {indices[-1] + 1} was to be read; "
            "it was cut off or is damaged, or video_frames is wrong"
        )
    return clip


def _decode_pictures(path: str, container, stream, wanted: set[int]) -> Pictures:
    stream.thread_type = "NONE"  # loader workers are the parallelism
    if min(wanted) > SEEK_GAP and container.format.name in SEEKABLE:
        stamps = _stamps(path, container, stream)
        if min(wanted) < len(stamps):
            # A stamp is when a picture appears; no later key frame is sought.
            container.seek(int(stamps[min(wanted)]), stream=stream, backward=True)
            # One generator to the end: it may hold further pictures when it yields the first.
            frames = container.decode(stream)
            first = next(frames, None)
            index = len(stamps) if first is None else int(np.searchsorted(stamps, first.pts))
            if index <= min(wanted) and stamps[index] == first.pts:
                return _collect(chain([first], frames), wanted, index)
            container.seek(0, stream=stream, backward=True)
    return _collect(container.decode(stream), wanted, 0)


def _stamps(path: str, container, stream) -> NDArray[np.int64]:
    """Timestamps of a file's pictures, sorted; empty where pictures cannot be told by them."""
    # Only mp4 lists how long each picture lasts; elsewhere the header's rate is a promise.
    if container.format.name == MP4 and stream.average_rate:
        step = 1 / (stream.average_rate * stream.time_base)
        if step == int(step) and _evenly_decoded(path, stream, int(step)):
            return (stream.start_time or 0) + int(step) * np.arange(stream.frames)
    return _packet_stamps(path, os.stat(path).st_mtime_ns)


def _evenly_decoded(path: str, stream, step: int) -> bool:
    """Whether all its pictures come ``step`` apart; on average those of slow and fast parts may."""
    film = (path, os.stat(path).st_mtime_ns)
    if film not in _even:
        if len(_even) == 1024:
            _even.clear()
        stamps = np.fromiter((entry.timestamp for entry in stream.index_entries), np.int64)
        _even[film] = bool((np.diff(stamps) == step).all())
    return _even[film]


@lru_cache(maxsize=32)  # clips of one film follow each other in stage 1's evaluation
def _packet_stamps(path: str, changed: int) -> NDArray[np.int64]:
    """By the packets, which are read through and not decoded."""
    with open_container(path) as container:
        stream = video_stream(container)
        if stream.codec_context.name == "vp8":  # some of its packets are never shown
            return np.zeros(0, np.int64)
        packets = (p for p in container.demux(stream) if p.size and not p.is_discard)
        stamps = np.array([-1 if p.pts is None else p.pts for p in packets], np.int64)
    stamps.sort()
    unknown = not len(stamps) or stamps[0] < 0 or not np.diff(stamps).all()
    return np.zeros(0, np.int64) if unknown else stamps


def _collect(frames: Iterable, wanted: set[int], index: int) -> Pictures:
    """RGB of the wanted pictures, and of the last one decoded should the file end early.

    All have the size of the first of them: a film that was joined, or sent, may change it.

    Args:
        index: number of the first of ``frames``.
    """
    pictures, newest, final, upright = {}, None, max(wanted), _Upright()
    for frame in frames:
        if index in wanted:
            pictures[index] = upright(frame)
        if index >= final:
            return pictures
        newest, index = (index, frame), index + 1
    if newest is not None:
        pictures[newest[0]] = upright(newest[1])
    return pictures


class _Upright:
    """A film's pictures, ``(height, width, 3)``, turned as players turn what a telephone took.

    All are as large as the first, turned, is.
    """

    def __init__(self) -> None:
        self._convert, self._size = picture_converter(), None

    def __call__(self, frame) -> NDArray[np.uint8]:
        turns = round(frame.rotation / 90)
        order = -1 if turns % 2 else 1  # width and height of what lies on its side are exchanged
        self._size = self._size or (frame.width, frame.height)[::order]
        picture = self._convert(frame, *self._size[::order], "rgb24").to_ndarray()
        return np.rot90(picture, turns)  # anticlockwise in FFmpeg too


def transform_clip(
    frames: NDArray[np.uint8],
    size: int,
    rng: np.random.Generator | None = None,
    min_scale: float = 0.5,
    flip: bool = True,
) -> Tensor:
    """One random resized crop (aspect 3/4 to 4/3) and flip for the whole clip.

    Without ``rng``: the short side is resized and the centre kept.

    Args:
        frames: ``(T, H, W, 3)``, 8 bit.

    Returns:
        ``(3, T, size, size)``, 8 bit.
    """
    height, width = frames.shape[1:3]
    top, left, h, w = _crop_box(height, width, rng, min_scale)
    clip = torch.from_numpy(np.ascontiguousarray(frames[:, top : top + h, left : left + w]))
    clip = clip.permute(0, 3, 1, 2)
    if (h, w) != (size, size):  # in 8 bit, as decoded: several times as fast as in float
        clip = torch.nn.functional.interpolate(
            clip, (size, size), mode="bilinear", antialias=True, align_corners=False
        )
    if rng is not None and flip and rng.random() < 0.5:
        clip = clip.flip(-1)
    return clip.transpose(0, 1).contiguous()


def _crop_box(
    height: int, width: int, rng: np.random.Generator | None, min_scale: float
) -> tuple[int, int, int, int]:
    """Top, left, height and width (Inception-style random resized crop, arXiv 1409.4842).

    Where no box of ten fits, one of the last one's shape, as large as the picture lets it be.
    """
    if rng is None:
        side = min(height, width)
        return (height - side) // 2, (width - side) // 2, side, side
    for _ in range(10):
        area = height * width * rng.uniform(min_scale, 1.0)
        aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        h, w = (max(1, round(np.sqrt(side))) for side in (area / aspect, area * aspect))
        if h <= height and w <= width:
            break
    else:
        shrink = min(height / h, width / w)
        h, w = max(1, int(h * shrink)), max(1, int(w * shrink))
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    return int(top), int(left), int(h), int(w)
