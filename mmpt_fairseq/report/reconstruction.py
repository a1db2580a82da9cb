"""Reconstruction of a masked clip by a stage 1 model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manifests.errors import InputError
from mmpt_fairseq.data.audio import MIN_VARIANCE, SUBSAMPLING, read_filterbank, subsampled
from mmpt_fairseq.models.av_pretraining import AVPretrainingModel
from mmpt_fairseq.modules.vit import VideoPatches, scaled
from mmpt_fairseq.report.probes import Probe, load_probe, usable_item

GREY = 0.55  # of masked regions in video frames and spectrograms
Frames = NDArray[np.float32]  # (T, H, W, 3) in [0, 1]


@dataclass
class MaskedClip:
    """A clip and its reconstruction, in the scale of the model's input or as log mel energies.

    Attributes:
        name: the clip's id.
        filterbank: ``(T, F)``; None without audio, like ``masked`` and ``reconstructed``.
        masked: ``(T,)``, True = masked.
        reconstructed: ``(T, F)``, the model's output where masked, else ``filterbank``.
        frames: video frames: input, masked (grey) and reconstructed; None without video.
        true_stats: masked patches have their true mean and scale (``model.normalise_targets``).
    """

    name: str = ""
    filterbank: NDArray[np.float32] | None = None
    masked: NDArray[np.bool_] | None = None
    reconstructed: NDArray[np.float32] | None = None
    frames: tuple[Frames, Frames, Frames] | None = None
    true_stats: bool = False


def reconstruct(checkpoint: Path, manifest: Path) -> MaskedClip:
    """Mask and reconstruct a clip as in stage 1's validation: the first with video, else the first.

    Raises:
        InputError: checkpoint, manifest or clip cannot be read, or the model does not reconstruct.
    """
    probe = load_probe(checkpoint, manifest)
    rows = probe.dataset.manifest
    row = next((i for i, video in enumerate(rows.column("video")) if video), 0)
    return reconstruct_row(probe, row)


def reconstruct_row(probe: Probe, row: int) -> MaskedClip:
    """Mask and reconstruct a row of the probe's split, with the audio as log mel energies.

    Raises:
        UnreadableClip: the clip cannot be used.
    """
    rows = probe.dataset.manifest
    batch = probe.dataset.collater([usable_item(probe.dataset[row])])["net_input"]
    clip = replace(reconstruct_batch(probe.model, batch), name=rows.column("id")[row])
    if clip.filterbank is None:
        return clip
    raw = read_filterbank(rows.resolve("audio", row, probe.task.cfg.audio_root))
    raw, masked = raw[: len(clip.filterbank)], clip.masked
    # A short clip without any visible frame was normalised as a whole.
    seen = ~masked | masked.all()
    reconstructed = np.where(masked[:, None], denormalise(clip.reconstructed, raw, seen), raw)
    return replace(clip, filterbank=raw, reconstructed=reconstructed)


@torch.no_grad()
def reconstruct_batch(model: AVPretrainingModel, batch: dict[str, Tensor]) -> MaskedClip:
    """Reconstruct :func:`first_clip` of a batch, in the scale of the model's input.

    Args:
        model: in evaluation mode.
        batch: the model's input, as built by the dataset's collater.
    """
    batch = first_clip(batch)
    result, _ = model(**batch)
    clip = MaskedClip(true_stats=model.normalise_targets)
    if result.audio is not None:
        clip.filterbank = batch["audio"][0].float().cpu().numpy()
        frames, bins = clip.filterbank.shape
        masked = batch["audio_mask"][0].cpu().numpy()
        clip.masked = masked.repeat(SUBSAMPLING)[:frames]
        predicted = result.audio[0].float().cpu().reshape(-1, bins)[:frames].numpy()
        clip.reconstructed = np.where(clip.masked[:, None], predicted, clip.filterbank)
    if result.video is not None:
        patches = model.video_encoder.patches
        clip.frames = _masked_frames(patches, batch["video"], batch["video_mask"], result.video)
    return clip


def first_clip(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Select one clip of a batch, without padding: the first with video, else the first."""
    row = int(batch["video_rows" if "video_rows" in batch else "audio_rows"][0])
    clip = {}
    for modality in ("audio", "video"):
        rows = batch.get(f"{modality}_rows")
        for index in [] if rows is None else (rows == row).nonzero().flatten().tolist():
            parts = {name: x for name, x in batch.items() if name.startswith(modality)}
            clip |= {name: x[index : index + 1] for name, x in parts.items()}
            clip[f"{modality}_rows"] = torch.zeros_like(rows[:1])
    if "audio" in clip:
        frames = int(clip["audio_lengths"])
        clip["audio"] = clip["audio"][:, :frames]
        clip["audio_unmasked"] = clip["audio_unmasked"][:, :frames]
        clip["audio_mask"] = clip["audio_mask"][:, : subsampled(frames)]
    return clip


def denormalise(
    features: NDArray[np.float32], raw: NDArray[np.float32], visible: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Undo :func:`mmpt_fairseq.data.audio.normalise`, using the ``visible`` frames of ``raw``.

    Args:
        features: ``(T, F)``, normalised.
        raw: ``(T, F)`` log mel energies of the clip.
        visible: ``(T,)``, True = used for the statistics.
    """
    seen = raw[visible].astype(np.float64)
    scale = np.sqrt(np.maximum(seen.var(axis=0), MIN_VARIANCE))
    return (features * scale + seen.mean(axis=0)).astype(np.float32)


def _masked_frames(
    patches: VideoPatches, video: Tensor, mask: Tensor, predicted: Tensor
) -> tuple[Frames, Frames, Frames]:
    hidden = mask[..., None]
    original = scaled(patches.patchify(video)).float()
    grey = original.new_tensor(2 * GREY - 1)
    strips = (
        original,
        torch.where(hidden, grey, original),
        torch.where(hidden, predicted.float(), original),
    )
    return tuple(_to_frames(patches.unpatchify(strip)[0]) for strip in strips)


def _to_frames(video: Tensor) -> Frames:
    """``(3, T, H, W)`` in [-1, 1] -> ``(T, H, W, 3)`` in [0, 1]."""
    return ((video.permute(1, 2, 3, 0) + 1) / 2).clamp(0, 1).cpu().numpy()


def validation_manifest(data: Path, splits: Sequence[str]) -> Path:
    """The manifest of the first validation split that exists.

    Raises:
        InputError: none exists.
    """
    for split in splits:
        if (data / f"{split}.tsv").is_file():
            return data / f"{split}.tsv"
    raise InputError(f"there is no {splits[0]}.tsv in {data}; was the data moved?")
