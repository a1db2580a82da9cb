"""What a stage 1 model makes of a masked clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmpt_fairseq.data.audio import MIN_VARIANCE, read_filterbank
from mmpt_fairseq.errors import InputError
from mmpt_fairseq.models.av_pretraining import AVPretrainingModel
from mmpt_fairseq.modules.conformer import SUBSAMPLING, subsampled
from mmpt_fairseq.modules.vit import VideoPatches, scaled
from mmpt_fairseq.report.probes import Probe, load_probe, usable

GREY = 0.55  # of what is masked, in pictures and spectrograms
Pictures = NDArray[np.float32]  # (T, H, W, 3) in [0, 1]


@dataclass
class Rebuilt:
    """A clip of a batch before and after, in the scale of the model's input.

    Attributes:
        sound: ``(T, F)`` normalised log mel energies; None without sound, as all of these.
        masked: ``(T,)``, True = masked.
        predicted: ``(T, F)``, visible frames too.
        pictures: input, masked (grey) and rebuilt where masked, or None without video.
        told: each hidden patch's mean and scale are the true ones (``model.normalise_targets``).
    """

    sound: NDArray[np.float32] | None = None
    masked: NDArray[np.bool_] | None = None
    predicted: NDArray[np.float32] | None = None
    pictures: tuple[Pictures, Pictures, Pictures] | None = None
    told: bool = False


@dataclass
class MaskedClip:
    """A clip before and after.

    Attributes:
        name: its id.
        sound: ``(T, F)`` log mel energies, rebuilt only where masked; None without sound.
        masked: ``(T,)``, True = masked.
        pictures: input, masked (grey) and rebuilt, or None without video.
        told: as of :class:`Rebuilt`.
    """

    name: str
    sound: NDArray[np.float32] | None
    masked: NDArray[np.bool_] | None
    rebuilt: NDArray[np.float32] | None
    pictures: tuple[Pictures, Pictures, Pictures] | None
    told: bool = False


def reconstruct(checkpoint: Path, manifest: Path) -> MaskedClip:
    """Mask and rebuild a clip of a split as stage 1's validation does: one with video if any has.

    Raises:
        InputError: checkpoint, manifest or clip cannot be read, or this model never reconstructs.
    """
    probe = load_probe(checkpoint, manifest)
    rows = probe.dataset.manifest
    row = next((i for i, video in enumerate(rows.column("video")) if video), 0)
    return reconstruct_row(probe, row)


def reconstruct_row(probe: Probe, row: int) -> MaskedClip:
    """The same of one row.

    Raises:
        UnreadableClip: the clip cannot be used.
    """
    rows = probe.dataset.manifest
    batch = probe.dataset.collater([usable(probe.dataset[row])])["net_input"]
    rebuilt = rebuild(probe.model, batch)
    name = rows.column("id")[row]
    if rebuilt.sound is None:
        return MaskedClip(name, None, None, None, rebuilt.pictures, rebuilt.told)
    raw = read_filterbank(rows.resolve("audio", row, probe.task.cfg.audio_root))
    raw, masked = raw[: len(rebuilt.sound)], rebuilt.masked
    # Where nothing of a short clip is visible, all of it was normalised.
    seen = ~masked | masked.all()
    sound = np.where(masked[:, None], denormalise(rebuilt.predicted, raw, seen), raw)
    return MaskedClip(name, raw, masked, sound, rebuilt.pictures, rebuilt.told)


@torch.no_grad()
def rebuild(model: AVPretrainingModel, batch: dict[str, Tensor]) -> Rebuilt:
    """What the model, in evaluation mode, makes of one clip of a batch: the first with video.

    Args:
        batch: the model's input, as the dataset's collater makes it.
    """
    batch = first_clip(batch)
    result, _ = model(**batch)
    rebuilt = Rebuilt(told=model.normalise_targets)
    if result.audio is not None:
        rebuilt.sound = batch["audio"][0].float().cpu().numpy()
        frames, bins = rebuilt.sound.shape
        masked = batch["audio_mask"][0].cpu().numpy()
        rebuilt.masked = masked.repeat(SUBSAMPLING)[:frames]
        predicted = result.audio[0].float().cpu().reshape(-1, bins)
        rebuilt.predicted = predicted[:frames].numpy()
    if result.video is not None:
        patches = model.video_encoder.patches
        rebuilt.pictures = _pictures(patches, batch["video"], batch["video_mask"], result.video)
    return rebuilt


def first_clip(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part of a batch that is one clip, without padding: the first with video if any has."""
    row = int(batch["video_rows" if "video_rows" in batch else "audio_rows"][0])
    clip = {}
    for modality in ("audio", "video"):
        rows = batch.get(f"{modality}_rows")
        for index in [] if rows is None else (rows == row).nonzero().flatten().tolist():
            of_it = {name: x for name, x in batch.items() if name.startswith(modality)}
            clip |= {name: x[index : index + 1] for name, x in of_it.items()}
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
    patches: VideoPatches, video: Tensor, mask: Tensor, predicted: Tensor
) -> tuple[Pictures, Pictures, Pictures]:
    hidden = mask[..., None]
    original = scaled(patches.cut(video)).float()
    grey = original.new_tensor(2 * GREY - 1)
    strips = (
        original,
        torch.where(hidden, grey, original),
        torch.where(hidden, predicted.float(), original),
    )
    return tuple(_to_pictures(patches.join(strip)[0]) for strip in strips)


def _to_pictures(video: Tensor) -> Pictures:
    """``(3, T, H, W)`` in [-1, 1] -> ``(T, H, W, 3)`` in [0, 1]."""
    return ((video.permute(1, 2, 3, 0) + 1) / 2).clamp(0, 1).cpu().numpy()


def validation_manifest(data: Path, splits: Sequence[str]) -> Path:
    """The manifest of the first validation split that is there.

    Raises:
        InputError: none is.
    """
    for split in splits:
        if (data / f"{split}.tsv").is_file():
            return data / f"{split}.tsv"
    raise InputError(f"there is no {splits[0]}.tsv in {data}; was the data moved?")
