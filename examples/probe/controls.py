"""What retrieval relies on: recall once more with one thing changed in the pictures or the sound.

Pictures ``(B, C, T, H, W)``, 8-bit; sound ``(B, frames of 10 ms, mels)``. The mouth is looked for
where drawn faces have it, wherever the head is; grey is put in its place or around it.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

GREY = 128
MOUTH = {"height": (0.6, 0.9), "width": (0.3, 0.7)}  # shares of a drawn picture's sides
DELAYS = (10, 20)  # frames

Changed = tuple[Tensor, Tensor]
Change = Callable[[Tensor, Tensor], Changed]


def mouth_hidden(pictures: Tensor, sound: Tensor) -> Changed:
    hidden = pictures.clone()
    hidden[_mouth(pictures)] = GREY
    return hidden, sound


def mouth_alone(pictures: Tensor, sound: Tensor) -> Changed:
    alone, mouth = torch.full_like(pictures, GREY), _mouth(pictures)
    alone[mouth] = pictures[mouth]
    return alone, sound


def still(pictures: Tensor, sound: Tensor) -> Changed:
    return pictures[:, :, :1].expand_as(pictures).contiguous(), sound


def shuffled(pictures: Tensor, sound: Tensor) -> Changed:
    """In one other order, the same for all clips."""
    order = torch.randperm(pictures.shape[2], generator=torch.Generator().manual_seed(0))
    return pictures[:, :, order], sound


def backwards(pictures: Tensor, sound: Tensor) -> Changed:
    return pictures.flip(2), sound


def mirrored(pictures: Tensor, sound: Tensor) -> Changed:
    return pictures.flip(-1), sound


def late(frames: int, pictures: Tensor, sound: Tensor) -> Changed:
    """The sound delayed; what falls off the clip's end stands at its beginning."""
    return pictures, sound.roll(frames, 1)


CONTROLS: dict[str, Change] = {
    "mirrored": mirrored,
    "the mouth alone": mouth_alone,
    "the mouth hidden": mouth_hidden,
    "the first picture instead of all": still,
    "pictures in another order": shuffled,
    "pictures backwards": backwards,
    **{f"the sound {10 * frames} ms late": partial(late, frames) for frames in DELAYS},
}


def _mouth(pictures: Tensor) -> tuple:
    sides = zip(MOUTH.values(), pictures.shape[-2:], strict=True)
    return (..., *(slice(int(a * side), int(b * side)) for (a, b), side in sides))
