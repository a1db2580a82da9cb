"""Stage 1's dataset: filterbanks and pictures of a clip, with their masks, from a manifest."""

from dataclasses import dataclass

import numpy as np
import torch
from fairseq.data import FairseqDataset
from numpy.typing import NDArray
from torch import Tensor

from mmpt_fairseq.data.audio import NUM_MEL_BINS, normalise, read_filterbank
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.skipping import SkippedClips
from mmpt_fairseq.data.video import read_frames, sample_frame_indices, transform_clip
from mmpt_fairseq.errors import UnreadableClip
from mmpt_fairseq.modules.conformer import SUBSAMPLING, subsampled
from mmpt_fairseq.modules.masking import random_mask


@dataclass
class ClipOptions:
    """How a clip becomes tensors.

    Attributes:
        max_frames: filterbank frames kept from the start (paper: 1000).
        video: read pictures at all.
        num_frames, stride, size: pictures per clip, frames between them, pixels on a side.
        num_patches: space-time patches in a clip.
        audio_mask_ratio, video_mask_ratio: shares masked (paper: 0.6).
        crop_scale: smallest share of the picture that a random crop keeps.
    """

    max_frames: int = 1000
    video: bool = True
    num_frames: int = 16
    stride: int = 4
    size: int = 224
    num_patches: int = 1568
    audio_mask_ratio: float = 0.6
    video_mask_ratio: float = 0.6
    crop_scale: float = 0.5


@dataclass
class Clip:
    """One clip.

    Attributes:
        audio: ``(T, F)`` normalised by the frames that ``audio_mask`` leaves visible.
        audio_unmasked: ``(T, F)`` normalised by all of them.
        audio_mask: ``(ceil(T / 4),)``, True = masked.
        video: ``(3, T, H, W)`` in [-1, 1], or None.
        video_mask: ``(L,)``, True = masked, or None.
    """

    index: int
    audio: Tensor
    audio_unmasked: Tensor
    audio_mask: Tensor
    video: Tensor | None = None
    video_mask: Tensor | None = None


class AVDataset(FairseqDataset):
    """Clips of a manifest. Every draw is a function of (seed, epoch, row) and nothing else.

    Args:
        manifest: rows; those with an empty ``video`` give sound alone.
        options: sizes and mask ratios.
        training: random windows, crops, flips, order; unusable clips are skipped and counted.
            Otherwise everything is fixed and an unusable clip stops the run.
        seed: of all draws.
        audio_root: what paths are relative to; the manifest's folder by default.
    """

    def __init__(
        self,
        manifest: Manifest,
        options: ClipOptions,
        training: bool,
        seed: int = 1,
        audio_root: str | None = None,
    ) -> None:
        self.manifest, self.options = manifest, options
        self.training, self.seed, self.root = training, seed, audio_root
        self.skipped = SkippedClips(tolerate=training)
        # Shared memory, because loader workers outlive an epoch.
        self._epoch = torch.zeros(1, dtype=torch.long).share_memory_()
        self.sizes = self._costs()

    def __len__(self) -> int:
        return len(self.manifest)

    def set_epoch(self, epoch: int) -> None:
        self._epoch[0] = epoch if self.training else 0

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        return True

    def _costs(self) -> NDArray[np.int64]:
        """Tokens per clip in filterbank frames; a video patch counts like an audio token's four."""
        audio = np.minimum(self.manifest.n_frames, self.options.max_frames).astype(np.int64)
        if not self.options.video:
            return audio
        has_video = np.fromiter((bool(v) for v in self.manifest.column("video")), bool, len(self))
        return audio + has_video * self.options.num_patches * SUBSAMPLING

    def num_tokens(self, index: int) -> int:
        return int(self.sizes[index])

    def num_tokens_vec(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.sizes[indices]

    def size(self, index: int) -> int:
        return int(self.sizes[index])

    def ordered_indices(self) -> NDArray[np.int64]:
        """Longest first; among equals at random in training (fairseq seeds numpy per epoch)."""
        order = np.random.permutation(len(self)) if self.training else np.arange(len(self))
        return order[np.argsort(-self.sizes[order], kind="stable")]

    def __getitem__(self, index: int) -> Clip | UnreadableClip:
        try:
            return self._read(int(index))
        except UnreadableClip as error:
            return self.skipped.report(self.manifest.where(int(index)), error)

    def _read(self, index: int) -> Clip:
        self.skipped.count_read()
        rng = np.random.default_rng([self.seed, int(self._epoch), index])
        options = self.options
        features = read_filterbank(self.manifest.resolve("audio", index, self.root))
        features = features[: options.max_frames]
        mask = random_mask(subsampled(len(features)), options.audio_mask_ratio, rng)
        visible = ~mask.repeat(SUBSAMPLING)[: len(features)]
        clip = Clip(
            index,
            torch.from_numpy(normalise(features, visible)),
            torch.from_numpy(normalise(features)),
            torch.from_numpy(mask),
        )
        path = self.manifest.resolve("video", index, self.root)
        if path and options.video:
            clip.video = self._read_video(index, path, rng if self.training else None)
            masked = random_mask(options.num_patches, options.video_mask_ratio, rng)
            clip.video_mask = torch.from_numpy(masked)
        return clip

    def _read_video(self, index: int, path: str, rng: np.random.Generator | None) -> Tensor:
        options = self.options
        available = int(self.manifest.video_frames[index])
        if available < 1:
            raise UnreadableClip(f"column video_frames says that {path} holds no picture")
        # No picture from beyond the sound that is kept: the two must tell of the same moments.
        share = min(1.0, options.max_frames / max(1, int(self.manifest.n_frames[index])))
        available = max(1, round(available * share))
        wanted = sample_frame_indices(available, options.num_frames, options.stride, rng)
        frames = read_frames(path, wanted)
        return transform_clip(frames, options.size, rng, options.crop_scale)

    def collater(self, samples: list[Clip | UnreadableClip]) -> dict:
        """Batch of the usable clips, in fairseq's form."""
        clips, replacement = self.skipped.sort_out(samples)
        if replacement is not None:
            return replacement
        lengths = torch.tensor([len(c.audio) for c in clips])
        with_video = [i for i, c in enumerate(clips) if c.video is not None]
        net_input = {
            "audio": pad_frames([c.audio for c in clips]),
            "audio_unmasked": pad_frames([c.audio_unmasked for c in clips]),
            "audio_lengths": lengths,
            "audio_mask": torch.nn.utils.rnn.pad_sequence(
                [c.audio_mask for c in clips], batch_first=True
            ),
        }
        if with_video:
            net_input["video"] = torch.stack([clips[i].video for i in with_video])
            net_input["video_mask"] = torch.stack([clips[i].video_mask for i in with_video])
            net_input["video_rows"] = torch.tensor(with_video)
        return {
            "id": torch.tensor([c.index for c in clips]),
            "net_input": net_input,
            "nsentences": len(clips),
            "ntokens": int(subsampled(lengths).sum()) + len(with_video) * self.options.num_patches,
        }


def pad_frames(features: list[Tensor]) -> Tensor:
    """Stack ``(T, F)`` clips to ``(B, longest T, F)`` with zeros behind."""
    if not features:
        return torch.zeros(0, 1, NUM_MEL_BINS)
    return torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
