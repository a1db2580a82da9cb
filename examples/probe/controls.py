"""Controls for retrieval: recall is measured again with one thing changed in the video or audio.

Video is ``(B, C, T, H, W)``, 8-bit; audio is ``(B, frames of 10 ms, mels)``. The mouth region is
the fixed area that contains the mouth of drawn faces at any head position; it, or all but it, is
painted grey.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

GREY = 128
MOUTH_REGION = {"height": (0.6, 0.9), "width": (0.3, 0.7)}  # fractions of a drawn frame's sides
DELAYS = (10, 20)  # filterbank frames

Changed = tuple[Tensor, Tensor]
Change = Callable[[Tensor, Tensor], Changed]


def mouth_hidden(video: Tensor, audio: Tensor) -> Changed:
    hidden = video.clone()
    hidden[_mouth(video)] = GREY
    return hidden, audio


def mouth_alone(video: Tensor, audio: Tensor) -> Changed:
    alone, mouth = torch.full_like(video, GREY), _mouth(video)
    alone[mouth] = video[mouth]
    return alone, audio


def still(video: Tensor, audio: Tensor) -> Changed:
    return video[:, :, :1].expand_as(video).contiguous(), audio


def shuffled(video: Tensor, audio: Tensor) -> Changed:
    """Video frames in one random order, the same for all clips."""
    order = torch.randperm(video.shape[2], generator=torch.Generator().manual_seed(0))
    return video[:, :, order], audio


def backwards(video: Tensor, audio: Tensor) -> Changed:
    return video.flip(2), audio


def mirrored(video: Tensor, audio: Tensor) -> Changed:
    return video.flip(-1), audio


def late(frames: int, video: Tensor, audio: Tensor) -> Changed:
    """Audio delayed by ``frames``; what is shifted past the clip's end wraps to its start."""
    return video, audio.roll(frames, 1)


CONTROLS: dict[str, Change] = {
    "mirrored": mirrored,
    "only the mouth region": mouth_alone,
    "all but the mouth region": mouth_hidden,
    "first frame repeated": still,
    "frames shuffled": shuffled,
    "frames reversed": backwards,
    **{f"audio {10 * frames} ms late": partial(late, frames) for frames in DELAYS},
}


def _mouth(video: Tensor) -> tuple:
    sides = zip(MOUTH_REGION.values(), video.shape[-2:], strict=True)
    return (..., *(slice(int(a * side), int(b * side)) for (a, b), side in sides))
