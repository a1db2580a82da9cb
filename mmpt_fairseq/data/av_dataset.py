"""Stage 1's dataset: filterbanks and pictures of a clip, with their masks, from a manifest."""

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
    FRAMES_A_SECOND,
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

# Seconds between the ends of sound and pictures that are as long, but for rounding.
SAME_LENGTH = 0.2


@dataclass
class ClipOptions:
    """How a clip becomes tensors; the task's config has what is said here under the same names.

    Attributes:
        max_audio_frames: filterbank frames kept of a clip (paper: 1000).
        random_start: keep them from anywhere in the clip, in training, and as large a part of its
            pictures; otherwise from its start (paper).
        use_video: read pictures at all.
        video_num_frames, video_stride, video_size: pictures per clip, frames of the video from one
            to the next, pixels on a side.
        patch_grid: patches of a clip in time, rows and columns; the model says it.
        audio_mask_ratio, video_mask_ratio: shares masked (paper: 0.6).
        audio_mask_span: masked encoder frames (40 ms) come in runs of so many (paper: 1).
        video_tubes: mask the same places in all pictures (paper: no).
        modality_dropout: share of the clips with sound and pictures in which all of the one or
            all of the other is masked, in training.
        video_crop_scale: smallest share of the picture that a random crop keeps.
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
        """What a task's config says of clips; what it does not mention keeps its default."""
        known = (f.name for f in fields(cls) if hasattr(cfg, f.name))
        return cls(**{name: getattr(cfg, name) for name in known}, patch_grid=patch_grid)

    @property
    def num_patches(self) -> int:
        """Space-time patches in a clip."""
        return math.prod(self.patch_grid)

    def mask_audio(self, length: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """``(length,)`` encoder frames, True = masked."""
        if self.audio_mask_span == 1:
            return random_mask(length, self.audio_mask_ratio, rng)
        return span_mask(length, self.audio_mask_ratio, self.audio_mask_span, rng)

    def mask_video(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """``(L,)`` patches, True = masked."""
        if self.video_tubes:
            return tube_mask(self.patch_grid, self.video_mask_ratio, rng)
        return random_mask(self.num_patches, self.video_mask_ratio, rng)


@dataclass
class Clip:
    """One clip; what it lacks is None.

    Attributes:
        audio: ``(T, F)`` normalised by the frames that ``audio_mask`` leaves visible; by all of
            them if it leaves none.
        audio_unmasked: ``(T, F)`` normalised by all of them.
        audio_mask: ``(ceil(T / 4),)``, True = masked.
        video: ``(3, T, H, W)``, 8 bit.
        video_mask: ``(L,)``, True = masked.
    """

    index: int
    audio: Tensor | None = None
    audio_unmasked: Tensor | None = None
    audio_mask: Tensor | None = None
    video: Tensor | None = None
    video_mask: Tensor | None = None


class AVDataset(FairseqDataset):
    """Clips of a manifest. Every draw is a function of (seed, epoch, row) and nothing else.

    Args:
        manifest: rows; those with an empty ``video`` give sound alone, those with an empty
            ``audio`` pictures alone.
        options: sizes and mask ratios.
        training: random windows, crops, flips, order; unusable clips are skipped and counted.
            Otherwise everything is fixed and an unusable clip stops the run.
        seed: of all draws.
        audio_root: what paths are relative to; the manifest's folder by default.
        pairs_alone: training draws only the clips that have both, for an objective to which others
            say nothing: equal in cost, they would make batches of their own.
        video_tokens: that a clip's pictures are to the encoder, its patches by default.

    Attributes:
        kinds: ``(rows,)``, 0 with sound and video, 1 with sound alone, 2 with video alone.
        modality_counts: rows with sound and video, with sound alone, with video alone.
        hours: of sound in all rows that are drawn, and of what ``max_audio_frames`` keeps of it.
    """

    def __init__(
        self,
        manifest: Manifest | JoinedManifest,
        options: ClipOptions,
        training: bool,
        seed: int = 1,
        audio_root: str | None = None,
        pairs_alone: bool = False,
        video_tokens: int | None = None,
    ) -> None:
        self.manifest, self.options = manifest, options
        self.video_tokens = options.num_patches if video_tokens is None else video_tokens
        self.training, self.seed, self.root = training, seed, audio_root
        self.skipped = SkippedClips(len(manifest), tolerate=training)
        # Shared memory, because loader workers outlive an epoch.
        self._epoch = torch.zeros(1, dtype=torch.long).share_memory_()
        sound, video = manifest.filled("audio", "video").T
        video &= options.use_video
        kinds = (sound & video, sound & ~video, video & ~sound)
        self.kinds = np.argmax(kinds, axis=0)
        self.modality_counts = tuple(int(kind.sum()) for kind in kinds)
        self.sizes = self._costs(sound, video)
        drawn = sound & video if pairs_alone and training else sound
        heard, in_hours = manifest.n_frames[drawn].astype(np.int64), 3600 * FRAMES_A_SECOND
        self.hours = (
            float(heard.sum() / in_hours),
            float(np.minimum(heard, options.max_audio_frames).sum() / in_hours),
        )
        self._pairs = np.flatnonzero(sound & video) if pairs_alone and training else None

    def __len__(self) -> int:
        return len(self.manifest)

    def set_epoch(self, epoch: int) -> None:
        self._epoch[0] = epoch if self.training else 0

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        return True

    def _costs(self, sound: NDArray[np.bool_], video: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Tokens per clip in filterbank frames; one of video counts like an audio token's four.

        Args:
            sound, video: ``(rows,)``, whether a clip has it.
        """
        audio = np.minimum(self.manifest.n_frames, self.options.max_audio_frames).astype(np.int64)
        return audio * sound + video * self.video_tokens * SUBSAMPLING

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
        """fairseq's, for clips with both, with sound alone and with video alone each by themselves.

        In a batch of several kinds a long sound would be padded to and pictures would come on top,
        more than its most expensive clip tells; and CLR would have fewer negatives.
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
        sound = self.manifest.resolve("audio", index, self.root)
        if sound:
            features = read_filterbank(sound)
            told = int(self.manifest.n_frames[index])
            check_length(len(features), told, sound)  # windows are drawn by it too
        if options.random_start and self.training:
            frames = int(self.manifest.n_frames[index]) if features is None else len(features)
            start = int(rng.integers(max(0, frames - options.max_audio_frames) + 1))
        if sound:
            features = features[start : start + options.max_audio_frames]
            mask = options.mask_audio(subsampled(len(features)), rng)
        path = self.manifest.resolve("video", index, self.root) if options.use_video else ""
        if path:
            chance = rng if self.training else None
            clip.video = self._read_video(index, path, chance, start, bool(sound))
            clip.video_mask = torch.from_numpy(options.mask_video(rng))
        if sound and path and self.training and rng.random() < options.modality_dropout:
            dropped = mask if rng.random() < 0.5 else clip.video_mask
            dropped[:] = True
        if sound:
            visible = ~mask.repeat(SUBSAMPLING)[: len(features)]
            clip.audio = torch.from_numpy(normalise(features, visible if visible.any() else None))
            clip.audio_unmasked = torch.from_numpy(normalise(features))
            clip.audio_mask = torch.from_numpy(mask)
        return clip

    def _read_video(
        self, index: int, path: str, rng: np.random.Generator | None, start: int, heard: bool
    ) -> Tensor:
        """Of the pictures that are shown beside what is kept of the sound, from ``start`` on."""
        options = self.options
        available = int(self.manifest.video_frames[index])
        if available < 1:
            raise UnreadableClip(f"column video_frames says that {path} holds no picture")
        frames = max(1, int(self.manifest.n_frames[index]))

        def wanted(rate: float | None) -> NDArray[np.int64]:
            first, kept = frame_window(
                available, frames, start, options.max_audio_frames, rate if heard else None
            )
            return first + sample_frame_indices(
                kept, options.video_num_frames, options.video_stride, rng
            )

        return transform_clip(
            read_frames(path, wanted), options.video_size, rng, options.video_crop_scale
        )

    def collater(self, samples: list[Clip | UnreadableClip]) -> dict:
        """Batch of the usable clips, of which A have audio and V have video.

        Returns:
            ``id`` ``(B,)`` rows of the manifest, ``nsentences`` B, ``ntokens`` of both modalities,
            and ``net_input``, the arguments of the model: ``audio``, ``audio_unmasked``
            ``(A, T, F)``, ``audio_lengths`` ``(A,)``, ``audio_mask`` ``(A, ceil(T / 4))``,
            ``audio_rows`` ``(A,)``; ``video`` ``(V, 3, T, H, W)``, ``video_mask`` ``(V, L)``,
            ``video_rows`` ``(V,)``. Nothing of a modality that no clip has; an empty batch, or one
            that stops an evaluation, where clips cannot be used.
        """
        clips, replacement = self.skipped.split_usable(samples)
        if replacement is not None:
            return replacement
        with_audio = [i for i, c in enumerate(clips) if c.audio is not None]
        with_video = [i for i, c in enumerate(clips) if c.video is not None]
        net_input = {}
        if with_audio:
            heard = [clips[i] for i in with_audio]
            net_input["audio"] = pad([c.audio for c in heard])
            net_input["audio_unmasked"] = pad([c.audio_unmasked for c in heard])
            net_input["audio_lengths"] = torch.tensor([len(c.audio) for c in heard])
            net_input["audio_mask"] = pad([c.audio_mask for c in heard])
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
    available: int, frames: int, start: int, most: int, rate: float | None
) -> tuple[int, int]:
    """First and number of the pictures that are shown with a part of a clip's sound.

    Args:
        available: pictures of the clip.
        frames: of 10 ms, of its sound.
        start, most: the part's first frame, and how many there are of it at most.
        rate: pictures a second. Where both last as long within ``SAME_LENGTH``, or none is known,
            the part of the pictures is that of the sound.
    """
    seconds = frames / FRAMES_A_SECOND
    if not rate or abs(available / rate - seconds) <= SAME_LENGTH:
        rate = available / seconds
    a_frame = rate / FRAMES_A_SECOND
    first = min(round(a_frame * start), available - 1)
    return first, min(available - first, max(1, round(a_frame * min(frames, most))))


def pad(sequences: list[Tensor]) -> Tensor:
    """Stack ``(T, ...)`` to ``(B, longest T, ...)`` with zeros behind."""
    return torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
