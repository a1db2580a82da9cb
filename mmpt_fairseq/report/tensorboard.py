"""TensorBoard images during stage 1: the report's reconstruction of a validation clip."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tensorboardX import SummaryWriter
from torch import Tensor

from mmpt_fairseq.models.av_pretraining import AVPretrainingModel
from mmpt_fairseq.report.figures import (
    draw_frames,
    draw_spectrograms,
    frames_height,
    styled_figure,
    to_pixels,
)
from mmpt_fairseq.report.reconstruction import MaskedClip, reconstruct_batch


def add_reconstruction(
    folder: str | Path, model: AVPretrainingModel, batch: dict[str, Tensor], update: int
) -> None:
    """Add spectrogram and video frames of one clip: input, masked, reconstructed.

    Args:
        folder: folder of the event files.
        model: in evaluation mode.
        batch: the model's input; its first clip with video is shown.
        update: global step of the images.
    """
    images, writer = reconstruction_pixels(reconstruct_batch(model, batch)), _writer(str(folder))
    for name, pixels in images.items():
        writer.add_image(f"reconstruction/{name}", pixels, update, dataformats="HWC")
    writer.flush()


@cache
def _writer(folder: str) -> SummaryWriter:
    """One writer per training, so that not every validation starts a new event file."""
    return SummaryWriter(folder)


def reconstruction_pixels(clip: MaskedClip) -> dict[str, NDArray[np.uint8]]:
    """Images ``sound`` and ``frames`` as ``(H, W, 3)``, as available in the clip."""
    pixels = {}
    if clip.filterbank is not None:
        with styled_figure(8.0, 4.6) as figure:
            draw_spectrograms(
                figure, clip.filterbank, clip.masked, clip.reconstructed, clip.true_stats
            )
            pixels["sound"] = to_pixels(figure)
    if clip.frames is not None:
        with styled_figure(8.0, frames_height(len(clip.frames[0]))) as figure:
            draw_frames(figure, *clip.frames, clip.true_stats)
            pixels["frames"] = to_pixels(figure)
    return pixels
