"""What a stage 1 model makes of a masked clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmpt_fairseq.data.audio import MIN_VARIANCE, read_filterbank
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.errors import InputError
from mmpt_fairseq.modules.conformer import SUBSAMPLING
from mmpt_fairseq.report.probes import Probe, load_probe, usable

GREY = 0.55
Pictures = NDArray[np.float32]  # (T, H, W, 3) in [0, 1]


@dataclass
class MaskedClip:
    """A clip before and after.

    Attributes:
        name: its id.
        sound: ``(T, F)`` log mel energies, rebuilt only where masked.
        masked: ``(T,)``, True = masked.
        pictures: input, masked (grey) and rebuilt, or None without video.
    """

    name: str
    sound: NDArray[np.float32]
    masked: NDArray[np.bool_]
    rebuilt: NDArray[np.float32]
    pictures: tuple[Pictures, Pictures, Pictures] | None


def reconstruct(checkpoint: Path, manifest: Path) -> MaskedClip:
    """Mask and rebuild a clip of a split as stage 1's validation does: one with video if any has.

    Raises:
        InputError: checkpoint, manifest or clip cannot be read, or this model never reconstructs.
    """
    rows = Manifest(manifest)
    row = next((i for i, video in enumerate(rows.column("video")) if video), 0)
    probe = load_probe(checkpoint, manifest)
    clip = usable(probe.dataset[row])
    batch = probe.dataset.collater([clip])["net_input"]
    video, video_mask = batch.get("video"), batch.get("video_mask")
    with torch.no_grad():
        result, _ = probe.model(**batch)
    raw = read_filterbank(rows.resolve("audio", row, probe.task.cfg.audio_root))
    raw = raw[: len(clip.audio)]
    masked = clip.audio_mask.numpy().repeat(SUBSAMPLING)[: len(raw)]
    predicted = result.audio[0].float().reshape(-1, raw.shape[1])[: len(raw)].numpy()
    rebuilt = np.where(masked[:, None], denormalise(predicted, raw, ~masked), raw)
    pictures = None
    if video is not None:
        pictures = _pictures(probe, video, video_mask, result.video)
    return MaskedClip(rows.column("id")[row], raw, masked, rebuilt, pictures)


def reconstructs(criterion: str) -> bool:
    """Whether a model trained by this criterion has learnt to reconstruct."""
    return "masked_reconstruction" in criterion


def denormalise(
    features: NDArray[np.float32], raw: NDArray[np.float32], visible: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Undo :func:`mmpt_fairseq.data.audio.normalise` of ``raw`` by its ``visible`` frames.

    Args:
        features: ``(T, F)``, normalised.
        raw: ``(T, F)`` log mel energies of the clip.
        visible: ``(T,)``, True = the frame counted.
    """
    seen = raw[visible].astype(np.float64)
    scale = np.sqrt(np.maximum(seen.var(axis=0), MIN_VARIANCE))
    return (features * scale + seen.mean(axis=0)).astype(np.float32)


def _pictures(
    probe: Probe, video: Tensor, mask: Tensor, predicted: Tensor
) -> tuple[Pictures, Pictures, Pictures]:
    patches = probe.model.video_encoder.patches
    hidden = mask[..., None]
    original = patches.cut(video)
    grey = original.new_tensor(2 * GREY - 1)
    strips = (
        original,
        torch.where(hidden, grey, original),
        torch.where(hidden, predicted.float(), original),
    )
    return tuple(_to_pictures(patches.join(strip)[0]) for strip in strips)


def _to_pictures(video: Tensor) -> Pictures:
    """``(3, T, H, W)`` in [-1, 1] -> ``(T, H, W, 3)`` in [0, 1]."""
    return ((video.permute(1, 2, 3, 0) + 1) / 2).clamp(0, 1).numpy()


def validation_manifest(data: Path, splits: Sequence[str]) -> Path:
    """The manifest of the first validation split that is there.

    Raises:
        InputError: none is.
    """
    for split in splits:
        if (data / f"{split}.tsv").is_file():
            return data / f"{split}.tsv"
    raise InputError(f"there is no {splits[0]}.tsv in {data}; was the data moved?")
