"""Pictures of stage 1 in TensorBoard while it trains: the page's, of a clip of the validation."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tensorboardX import SummaryWriter
from torch import Tensor

from mmpt_fairseq.models.av_pretraining import AVPretrainingModel
from mmpt_fairseq.report.figures import (
    draw_frames,
    draw_sound,
    drawing,
    frames_height,
    to_pixels,
)
from mmpt_fairseq.report.reconstruction import MaskedClip, rebuild


def add_reconstruction(
    folder: str | Path, model: AVPretrainingModel, batch: dict[str, Tensor], update: int
) -> None:
    """Add spectrogram and frames of one clip: input, masked, reconstructed.

    Args:
        folder: of the event files.
        model: in evaluation mode.
        batch: the model's input; its first clip with video is shown.
    """
    pictures, writer = reconstruction_pixels(rebuild(model, batch)), _writer(str(folder))
    for name, pixels in pictures.items():
        writer.add_image(f"reconstruction/{name}", pixels, update, dataformats="HWC")
    writer.flush()


@cache
def _writer(folder: str) -> SummaryWriter:
    """One for all validations of a training: each would else begin a file of its own."""
    return SummaryWriter(folder)


def reconstruction_pixels(clip: MaskedClip) -> dict[str, NDArray[np.uint8]]:
    """``sound`` and ``frames`` as ``(H, W, 3)``, whichever the clip has."""
    pixels = {}
    if clip.sound is not None:
        with drawing(8.0, 4.6) as figure:
            draw_sound(figure, clip.sound, clip.masked, clip.rebuilt, clip.told)
            pixels["sound"] = to_pixels(figure)
    if clip.pictures is not None:
        with drawing(8.0, frames_height(len(clip.pictures[0]))) as figure:
            draw_frames(figure, *clip.pictures, clip.told)
            pixels["frames"] = to_pixels(figure)
    return pixels
