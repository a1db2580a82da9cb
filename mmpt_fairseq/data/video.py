"""Video frames: sampled from a video file, cropped and resized as one clip."""

import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manifests.container import MATROSKA, MP4, frame_converter, open_container, video_stream
from manifests.errors import UnreadableClip, reason_of
from mmpt_fairseq.data.waveform import split_slice

# For gaps of up to this many frames, decoding through is cheaper than seeking.
SEEK_GAP = 64
MAX_MISSING_FRAMES = 3  # headers sometimes declare more frames than there are
# Containers whose packets have frame timestamps, unlike MPEG program streams and AVI.
SEEKABLE = {MP4, MATROSKA}

# (path, mtime) -> whether the frame rate is constant. Reading the index takes 0.1 s for 2 h.
_constant_rate: dict[tuple[str, int], bool] = {}

Indices = NDArray[np.int64]
Frames = NDArray[np.uint8]  # (T, height, width, 3)
DecodedFrames = dict[int, NDArray[np.uint8]]  # frame index -> (height, width, 3)


def sample_frame_indices(
    available: int, num_frames: int, stride: int, rng: np.random.Generator | None
) -> NDArray[np.int64]:
    """Sample ``num_frames`` frame indices, ``stride`` apart, from ``available`` frames.

    The window has a random position, or is centred without ``rng``. A video too short for it is
    sampled evenly over its whole length instead (frames repeat if there are too few).
    """
    span = (num_frames - 1) * stride + 1
    if available < span:
        return np.linspace(0, available - 1, num_frames).round().astype(np.int64)
    slack = available - span
    start = slack // 2 if rng is None else int(rng.integers(slack + 1))
    return start + stride * np.arange(num_frames)


def read_frames(source: str, indices: Indices | Callable[[float | None], Indices]) -> Frames:
    """Decode the frames at ``indices`` (sorted, from 0) as RGB.

    Args:
        source: a path, or ``path:first:count`` for a slice of a longer video, in frames.
        indices: or a function that returns them, given the average frame rate, or None if the
            file does not state it.

    Returns:
        ``(len(indices), height, width, 3)``. If the file ends up to ``MAX_MISSING_FRAMES`` early,
        its last frame is repeated.

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
            decoded = _decode_frames(path, container, stream, {int(i) for i in indices})
            if not decoded:
                raise UnreadableClip(f"{path} has no decodable frame")
            final = max(decoded)
            clip = np.stack([decoded.get(int(i), decoded[final]) for i in indices])
    except UnreadableClip:
        raise
    except Exception as error:  # PyAV raises many types for damaged files
        raise UnreadableClip(f"{path} cannot be read as video: {reason_of(error)}") from None
    if indices[-1] > final + MAX_MISSING_FRAMES:
        raise UnreadableClip(
            f"{path} ends after {final + 1} frames, but number {indices[-1] + 1} was to be read; "
            "it is truncated or damaged, or its video_frames is wrong"
        )
    return clip


def _decode_frames(path: str, container, stream, wanted: set[int]) -> DecodedFrames:
    stream.thread_type = "NONE"  # loader workers already run in parallel
    if min(wanted) > SEEK_GAP and container.format.name in SEEKABLE:
        timestamps = _timestamps(path, container, stream)
        if min(wanted) < len(timestamps):
            # Timestamps are presentation times; backward seeks to a key frame at or before one.
            container.seek(int(timestamps[min(wanted)]), stream=stream, backward=True)
            # Keep one generator: it may hold further frames when it yields the first.
            frames = container.decode(stream)
            first = next(frames, None)
            index = (
                len(timestamps) if first is None else int(np.searchsorted(timestamps, first.pts))
            )
            if index <= min(wanted) and timestamps[index] == first.pts:
                return _collect(chain([first], frames), wanted, index)
            container.seek(0, stream=stream, backward=True)
    return _collect(container.decode(stream), wanted, 0)


def _timestamps(path: str, container, stream) -> NDArray[np.int64]:
    """Sorted timestamps of a file's frames; empty if they do not identify the frames."""
    # Only mp4 lists the duration of each frame; other headers' rates are not reliable.
    if container.format.name == MP4 and stream.average_rate:
        step = 1 / (stream.average_rate * stream.time_base)
        if step == int(step) and _has_constant_rate(path, stream, int(step)):
            return (stream.start_time or 0) + int(step) * np.arange(stream.frames)
    return _packet_timestamps(path, os.stat(path).st_mtime_ns)


def _has_constant_rate(path: str, stream, step: int) -> bool:
    """Whether all frames are ``step`` apart, and not just on average over slow and fast parts."""
    key = (path, os.stat(path).st_mtime_ns)
    if key not in _constant_rate:
        if len(_constant_rate) == 1024:
            _constant_rate.clear()
        timestamps = np.fromiter((entry.timestamp for entry in stream.index_entries), np.int64)
        _constant_rate[key] = bool((np.diff(timestamps) == step).all())
    return _constant_rate[key]


@lru_cache(maxsize=32)  # clips of one video are consecutive in stage 1's evaluation
def _packet_timestamps(path: str, mtime: int) -> NDArray[np.int64]:
    """Timestamps from the packets, which are read but not decoded."""
    with open_container(path) as container:
        stream = video_stream(container)
        if stream.codec_context.name == "vp8":  # some of its packets are not displayed
            return np.zeros(0, np.int64)
        packets = (p for p in container.demux(stream) if p.size and not p.is_discard)
        timestamps = np.array([-1 if p.pts is None else p.pts for p in packets], np.int64)
    timestamps.sort()
    unknown = not len(timestamps) or timestamps[0] < 0 or not np.diff(timestamps).all()
    return np.zeros(0, np.int64) if unknown else timestamps


def _collect(frames: Iterable, wanted: set[int], index: int) -> DecodedFrames:
    """Convert the wanted frames to RGB, and the last one decoded if the file ends early.

    All get the size of the first: concatenated or streamed videos may change theirs.

    Args:
        index: of the first of ``frames``.
    """
    decoded, newest, final, convert = {}, None, max(wanted), _UprightConverter()
    for frame in frames:
        if index in wanted:
            decoded[index] = convert(frame)
        if index >= final:
            return decoded
        newest, index = (index, frame), index + 1
    if newest is not None:
        decoded[newest[0]] = convert(newest[1])
    return decoded


class _UprightConverter:
    """Convert a video's frames to RGB ``(height, width, 3)``, applying their rotation metadata.

    All get the size of the first one after rotation.
    """

    def __init__(self) -> None:
        self._convert, self._size = frame_converter(), None

    def __call__(self, frame) -> NDArray[np.uint8]:
        turns = round(frame.rotation / 90)
        step = -1 if turns % 2 else 1  # a quarter turn swaps width and height
        self._size = self._size or (frame.width, frame.height)[::step]
        image = self._convert(frame, *self._size[::step], "rgb24").to_ndarray()
        return np.rot90(image, turns)  # anticlockwise, as in FFmpeg


def transform_clip(
    frames: NDArray[np.uint8],
    size: int,
    rng: np.random.Generator | None = None,
    min_scale: float = 0.5,
    flip: bool = True,
) -> Tensor:
    """Apply one random resized crop (aspect 3/4 to 4/3) and flip to the whole clip.

    Without ``rng``: the central square is cropped and resized.

    Args:
        frames: ``(T, H, W, 3)``, uint8.

    Returns:
        ``(3, T, size, size)``, uint8.
    """
    height, width = frames.shape[1:3]
    top, left, h, w = _crop_box(height, width, rng, min_scale)
    clip = torch.from_numpy(np.ascontiguousarray(frames[:, top : top + h, left : left + w]))
    clip = clip.permute(0, 3, 1, 2)
    if (h, w) != (size, size):  # in uint8, as decoded: several times as fast as in float
        clip = torch.nn.functional.interpolate(
            clip, (size, size), mode="bilinear", antialias=True, align_corners=False
        )
    if rng is not None and flip and rng.random() < 0.5:
        clip = clip.flip(-1)
    return clip.transpose(0, 1).contiguous()


def _crop_box(
    height: int, width: int, rng: np.random.Generator | None, min_scale: float
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop (Inception-style, arXiv 1409.4842).

    If none of ten boxes fits, the last one is shrunk to fit the frame.
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
