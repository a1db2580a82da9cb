"""Pictures: sampled frames of a video file, cropped and resized as one clip."""

import os

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmpt_fairseq.data.waveform import split_slice
from mmpt_fairseq.errors import UnreadableClip, reason_of

# Decoding on is cheaper than seeking for gaps of up to this many frames.
SEEK_GAP = 64
# Containers (FFmpeg's names) whose timestamps count from the first picture.
SEEKABLE = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}


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


def read_frames(source: str, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Decode the pictures at ``indices`` (sorted, counted from the first) as RGB.

    Args:
        source: a path, or ``path:first:count`` for a part of a longer video, in pictures.

    Returns:
        ``(len(indices), height, width, 3)``. Where the file ends before the last index, its
        last picture stands in: headers promise a frame too many now and then.

    Raises:
        UnreadableClip: no such file, no video track, or nothing decodable.
    """
    import av

    path, first, count = split_slice(source)
    indices = first + (indices if count < 0 else np.minimum(indices, count - 1))
    if not os.path.isfile(path):
        raise UnreadableClip(f"there is no video file {path}")
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise UnreadableClip(f"{path} has no video track")
            wanted = {int(i) for i in indices}
            pictures = _decode_pictures(container, wanted)
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, UnreadableClip):
            raise
        raise UnreadableClip(f"{path} cannot be read as video: {reason_of(error)}") from None
    if not pictures:
        raise UnreadableClip(f"{path} holds no decodable picture")
    last = pictures[max(pictures)]
    return np.stack([pictures.get(int(i), last) for i in indices])


def _decode_pictures(container, wanted: set[int]) -> dict[int, NDArray[np.uint8]]:
    stream = container.streams.video[0]
    stream.thread_type = "NONE"  # loader workers are the parallelism
    if min(wanted) > SEEK_GAP and _can_seek(container, stream):
        seconds = min(wanted) / stream.average_rate + (stream.start_time or 0) * stream.time_base
        container.seek(int(seconds / stream.time_base), stream=stream, backward=True)
        # One generator to the end: it may hold further pictures when it yields the first.
        frames = container.decode(stream)
        first = next(frames, None)
        if first is not None and first.time is not None:
            index = round(float((first.time - _start(stream)) * stream.average_rate))
            if index <= min(wanted):
                return _collect(frames, wanted, index + 1, {index: first})
        container.seek(0, stream=stream, backward=True)
    return _collect(container.decode(stream), wanted, 0, {})


def _can_seek(container, stream) -> bool:
    """Whether a picture's time tells its number; where it does not, all is decoded through.

    It does not in MPEG program streams and AVI, nor where the frame rate varies.
    """
    return (
        container.format.name in SEEKABLE
        and bool(stream.average_rate)
        and stream.average_rate == stream.base_rate
    )


def _start(stream) -> float:
    return float((stream.start_time or 0) * stream.time_base)


def _collect(frames, wanted: set[int], index: int, early: dict) -> dict[int, NDArray[np.uint8]]:
    """RGB of the wanted pictures, and of the last one decoded should the file end early."""
    pictures = {i: f.to_ndarray(format="rgb24") for i, f in early.items()}
    newest, final = None, max(wanted)
    for frame in frames:
        if index in wanted:
            pictures[index] = frame.to_ndarray(format="rgb24")
        if index >= final:
            return pictures
        newest, index = (index, frame), index + 1
    if newest is not None:
        pictures[newest[0]] = newest[1].to_ndarray(format="rgb24")
    return pictures


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
        ``(3, T, size, size)`` in [-1, 1].
    """
    height, width = frames.shape[1:3]
    top, left, h, w = _crop_box(height, width, rng, min_scale)
    clip = torch.from_numpy(np.ascontiguousarray(frames[:, top : top + h, left : left + w]))
    clip = clip.permute(0, 3, 1, 2).float()
    if (h, w) != (size, size):
        clip = torch.nn.functional.interpolate(
            clip, (size, size), mode="bilinear", antialias=True, align_corners=False
        )
    if rng is not None and flip and rng.random() < 0.5:
        clip = clip.flip(-1)
    return (clip / 127.5 - 1.0).transpose(0, 1).contiguous()


def _crop_box(
    height: int, width: int, rng: np.random.Generator | None, min_scale: float
) -> tuple[int, int, int, int]:
    """Top, left, height and width (Inception-style random resized crop, arXiv 1409.4842)."""
    if rng is not None:
        for _ in range(10):
            area = height * width * rng.uniform(min_scale, 1.0)
            aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
            h, w = round(np.sqrt(area / aspect)), round(np.sqrt(area * aspect))
            if 0 < h <= height and 0 < w <= width:
                top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
                return int(top), int(left), int(h), int(w)
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side
