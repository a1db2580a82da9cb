"""Stage 1's dataset: filterbanks and video frames of clips, with their masks."""

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from fairseq.data import FairseqDataset
from fairseq.dataclass import FairseqDataclass
from numpy.typing import NDArray
from torch import Tensor

from manifests.errors import UnreadableClip
from mmpt_fairseq.data.audio import (
    FRAMES_PER_SECOND,
    SUBSAMPLING,
    normalise,
    read_filterbank,
    subsampled,
)
from mmpt_fairseq.data.joined_manifest import JoinedManifest
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.masks import random_mask, span_mask, tube_mask
from mmpt_fairseq.data.rows import longest_first
from mmpt_fairseq.data.skipping import SkippedClips, check_length
from mmpt_fairseq.data.video import read_frames, sample_frame_indices, transform_clip

# Audio and video whose durations (seconds) differ by less are taken to be of equal length.
DURATION_TOLERANCE = 0.2


@dataclass
class ClipOptions:
    """How a clip becomes tensors; the task's config has these fields under the same names.

    Attributes:
        max_audio_frames: filterbank frames kept of a clip (paper: 1000).
        random_start: in training, keep them, and the video frames shown with them, from a random
            position; otherwise from the clip's start (paper).
        use_video: read video at all.
        video_num_frames, video_stride, video_size: frames sampled per clip, video frames from one
            to the next, side length in pixels.
        patch_grid: patches of a clip in time, rows and columns; given by the model.
        audio_mask_ratio, video_mask_ratio: fraction masked (paper: 0.6).
        audio_mask_span: length of masked runs in encoder frames (40 ms; paper: 1).
        video_tubes: mask the same patches in all frames (paper: no).
        modality_dropout: fraction of the clips with audio and video in which, in training, one of
            the two is masked completely.
        video_crop_scale: smallest fraction of the frame that a random crop keeps.
    """

    max_audio_frames: int = 1000
    random_start: bool = False
    use_video: bool = True
    video_num_frames: int = 16
    video_stride: int = 4
    video_size: int = 224
    patch_grid: tuple[int, int, int] = (8, 14, 14)
    audio_mask_ratio: float = 0.6
    video_mask_ratio: float = 0.6
    audio_mask_span: int = 1
    video_tubes: bool = False
    modality_dropout: float = 0.0
    video_crop_scale: float = 0.5

    @classmethod
    def from_config(cls, cfg: FairseqDataclass, patch_grid: tuple[int, int, int]) -> "ClipOptions":
        """Take the fields that a task's config has; the others keep their defaults."""
        known = (f.name for f in fields(cls) if hasattr(cfg, f.name))
        return cls(**{name: getattr(cfg, name) for name in known}, patch_grid=patch_grid)

    @property
    def num_patches(self) -> int:
        """Number of space-time patches in a clip."""
        return math.prod(self.patch_grid)

    def mask_audio(self, length: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Sample a mask over encoder frames: ``(length,)``, True = masked."""
        if self.audio_mask_span == 1:
            return random_mask(length, self.audio_mask_ratio, rng)
        return span_mask(length, self.audio_mask_ratio, self.audio_mask_span, rng)

    def mask_video(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Sample a mask over patches: ``(L,)``, True = masked."""
        if self.video_tubes:
            return tube_mask(self.patch_grid, self.video_mask_ratio, rng)
        return random_mask(self.num_patches, self.video_mask_ratio, rng)


@dataclass
class Clip:
    """One clip; the fields of a missing modality are None.

    Attributes:
        audio: ``(T, F)``, normalised by the statistics of the frames that ``audio_mask`` leaves
            visible, or of all frames if it leaves none.
        audio_unmasked: ``(T, F)``, normalised by the statistics of all frames.
        audio_mask: ``(ceil(T / 4),)``, True = masked.
        video: ``(3, T, H, W)``, uint8.
        video_mask: ``(L,)``, True = masked.
    """

    index: int
    audio: Tensor | None = None
    audio_unmasked: Tensor | None = None
    audio_mask: Tensor | None = None
    video: Tensor | None = None
    video_mask: Tensor | None = None


class AVDataset(FairseqDataset):
    """Clips of a manifest; all randomness is a function of (seed, epoch, row) alone.

    Args:
        manifest: rows; an empty ``video`` makes a clip audio-only, an empty ``audio`` video-only.
        options: sizes and mask ratios.
        training: random windows, crops, flips and order; unusable clips are skipped and counted.
            Otherwise everything is fixed and an unusable clip stops the run.
        seed: of all random draws.
        audio_root: what paths are relative to; the manifest's folder by default.
        pairs_only: train only on clips that have both modalities, for an objective that learns
            nothing from the others: these would fill batches of their own at equal cost.
        video_tokens: number of tokens the encoder gets of a clip's video; default: its patches.

    Attributes:
        kinds: ``(rows,)``, 0 with audio and video, 1 audio-only, 2 video-only.
        modality_counts: number of rows with audio and video, audio-only, video-only.
        hours: of audio in all rows used, and what ``max_audio_frames`` keeps of it.
    """

    def __init__(
        self,
        manifest: Manifest | JoinedManifest,
        options: ClipOptions,
        training: bool,
        seed: int = 1,
        audio_root: str | None = None,
        pairs_only: bool = False,
        video_tokens: int | None = None,
    ) -> None:
        self.manifest, self.options = manifest, options
        self.video_tokens = options.num_patches if video_tokens is None else video_tokens
        self.training, self.seed, self.root = training, seed, audio_root
        self.skipped = SkippedClips(len(manifest), tolerate=training)
        # Shared memory, because loader workers outlive an epoch.
        self._epoch = torch.zeros(1, dtype=torch.long).share_memory_()
        has_audio, has_video = manifest.filled("audio", "video").T
        has_video &= options.use_video
        kinds = (has_audio & has_video, has_audio & ~has_video, has_video & ~has_audio)
        self.kinds = np.argmax(kinds, axis=0)
        self.modality_counts = tuple(int(kind.sum()) for kind in kinds)
        self.sizes = self._costs(has_audio, has_video)
        used = has_audio & has_video if pairs_only and training else has_audio
        lengths, per_hour = manifest.n_frames[used].astype(np.int64), 3600 * FRAMES_PER_SECOND
        self.hours = (
            float(lengths.sum() / per_hour),
            float(np.minimum(lengths, options.max_audio_frames).sum() / per_hour),
        )
        self._pairs = np.flatnonzero(has_audio & has_video) if pairs_only and training else None

    def __len__(self) -> int:
        return len(self.manifest)

    def set_epoch(self, epoch: int) -> None:
        self._epoch[0] = epoch if self.training else 0

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        return True

    def _costs(
        self, has_audio: NDArray[np.bool_], has_video: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Cost per clip in filterbank frames; a video token counts 4, as an audio token does.

        Args:
            has_audio, has_video: ``(rows,)``, whether a clip has the modality.
        """
        audio = np.minimum(self.manifest.n_frames, self.options.max_audio_frames).astype(np.int64)
        return audio * has_audio + has_video * self.video_tokens * SUBSAMPLING

    def num_tokens(self, index: int) -> int:
        return int(self.sizes[index])

    def num_tokens_vec(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.sizes[indices]

    def size(self, index: int) -> int:
        return int(self.sizes[index])

    def ordered_indices(self) -> NDArray[np.int64]:
        rows = np.arange(len(self)) if self._pairs is None else self._pairs
        return longest_first(rows, self.sizes, self.training)

    def batch_by_size(self, indices: NDArray[np.int64], **limits) -> list[NDArray[np.int64]]:
        """Batch with fairseq, but clips with both modalities, audio-only and video-only separately.

        A mixed batch would hold video in addition to audio padded to its longest clip, and so cost
        more than the size of its most expensive clip suggests; CLR would have fewer negatives.
        """
        kinds, batches = self.kinds[indices], []
        for kind in np.unique(kinds):
            batches += super().batch_by_size(indices[kinds == kind], **limits)
        return batches

    def __getitem__(self, index: int) -> Clip | UnreadableClip:
        try:
            return self._read(int(index))
        except UnreadableClip as error:
            return self.skipped.report(int(index), self.manifest.where(int(index)), error)

    def _read(self, index: int) -> Clip:
        self.skipped.count_read(index)
        rng = np.random.default_rng([self.seed, int(self._epoch), index])
        options = self.options
        clip, features, mask, start = Clip(index), None, None, 0
        audio_path = self.manifest.resolve("audio", index, self.root)
        if audio_path:
            features = read_filterbank(audio_path)
            declared = int(self.manifest.n_frames[index])
            check_length(len(features), declared, audio_path)  # windows depend on it too
        if options.random_start and self.training:
            frames = int(self.manifest.n_frames[index]) if features is None else len(features)
            start = int(rng.integers(max(0, frames - options.max_audio_frames) + 1))
        if audio_path:
            features = features[start : start + options.max_audio_frames]
            mask = options.mask_audio(subsampled(len(features)), rng)
        video_path = self.manifest.resolve("video", index, self.root) if options.use_video else ""
        if video_path:
            video_rng = rng if self.training else None
            clip.video = self._read_video(index, video_path, video_rng, start, bool(audio_path))
            clip.video_mask = torch.from_numpy(options.mask_video(rng))
        if audio_path and video_path and self.training and rng.random() < options.modality_dropout:
            dropped = mask if rng.random() < 0.5 else clip.video_mask
            dropped[:] = True
        if audio_path:
            visible = ~mask.repeat(SUBSAMPLING)[: len(features)]
            clip.audio = torch.from_numpy(normalise(features, visible if visible.any() else None))
            clip.audio_unmasked = torch.from_numpy(normalise(features))
            clip.audio_mask = torch.from_numpy(mask)
        return clip

    def _read_video(
        self, index: int, path: str, rng: np.random.Generator | None, start: int, has_audio: bool
    ) -> Tensor:
        """Sample and transform the video frames shown during the kept audio, from ``start`` on."""
        options = self.options
        available = int(self.manifest.video_frames[index])
        if available < 1:
            raise UnreadableClip(f"column video_frames says that {path} has no frames")
        frames = max(1, int(self.manifest.n_frames[index]))

        def choose_indices(rate: float | None) -> NDArray[np.int64]:
            first, kept = frame_window(
                available, frames, start, options.max_audio_frames, rate if has_audio else None
            )
            return first + sample_frame_indices(
                kept, options.video_num_frames, options.video_stride, rng
            )

        return transform_clip(
            read_frames(path, choose_indices), options.video_size, rng, options.video_crop_scale
        )

    def collater(self, samples: list[Clip | UnreadableClip]) -> dict:
        """Collate the usable clips, of which A have audio and V have video.

        Returns:
            ``id`` ``(B,)`` rows of the manifest, ``nsentences`` B, ``ntokens`` of both modalities,
            and ``net_input``, the arguments of the model: ``audio``, ``audio_unmasked``
            ``(A, T, F)``, ``audio_lengths`` ``(A,)``, ``audio_mask`` ``(A, ceil(T / 4))``,
            ``audio_rows`` ``(A,)``; ``video`` ``(V, 3, T, H, W)``, ``video_mask`` ``(V, L)``,
            ``video_rows`` ``(V,)``. The keys of a modality that no clip has are missing. Or the
            replacement for a batch that :meth:`SkippedClips.split_usable` returns.
        """
        clips, replacement = self.skipped.split_usable(samples)
        if replacement is not None:
            return replacement
        with_audio = [i for i, c in enumerate(clips) if c.audio is not None]
        with_video = [i for i, c in enumerate(clips) if c.video is not None]
        net_input = {}
        if with_audio:
            audio_clips = [clips[i] for i in with_audio]
            net_input["audio"] = pad([c.audio for c in audio_clips])
            net_input["audio_unmasked"] = pad([c.audio_unmasked for c in audio_clips])
            net_input["audio_lengths"] = torch.tensor([len(c.audio) for c in audio_clips])
            net_input["audio_mask"] = pad([c.audio_mask for c in audio_clips])
            net_input["audio_rows"] = torch.tensor(with_audio)
        if with_video:
            net_input["video"] = torch.stack([clips[i].video for i in with_video])
            net_input["video_mask"] = torch.stack([clips[i].video_mask for i in with_video])
            net_input["video_rows"] = torch.tensor(with_video)
        tokens = sum(len(clips[i].audio_mask) for i in with_audio)
        return {
            "id": torch.tensor([c.index for c in clips]),
            "net_input": net_input,
            "nsentences": len(clips),
            "ntokens": tokens + len(with_video) * self.video_tokens,
        }


def frame_window(
    available: int, frames: int, start: int, max_frames: int, rate: float | None
) -> tuple[int, int]:
    """Index of the first, and number, of the video frames shown during an excerpt of the audio.

    Args:
        available: video frames of the clip.
        frames: filterbank frames (10 ms) of its audio.
        start, max_frames: first filterbank frame and greatest length of the excerpt.
        rate: video frames per second. If it is unknown, or if audio and video are equally long
            within ``DURATION_TOLERANCE``, the excerpt covers the same fraction of both.
    """
    seconds = frames / FRAMES_PER_SECOND
    if not rate or abs(available / rate - seconds) <= DURATION_TOLERANCE:
        rate = available / seconds
    video_per_audio_frame = rate / FRAMES_PER_SECOND
    first = min(round(video_per_audio_frame * start), available - 1)
    return first, min(
        available - first, max(1, round(video_per_audio_frame * min(frames, max_frames)))
    )


def pad(sequences: list[Tensor]) -> Tensor:
    """Stack ``(T, ...)`` to ``(B, longest T, ...)``, zero-padded at the end."""
    return torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
