"""Task of stage 1: audio-visual pre-training without labels."""

import logging
import os
from dataclasses import dataclass, field
from typing import Optional

import numpy as np
import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.distributed.utils import get_data_parallel_world_size, get_global_rank
from fairseq.tasks import FairseqTask, register_task
from omegaconf import II, MISSING

from manifests.errors import InputError, exit_on_input_error
from mmpt_fairseq.criterions.retrieval import Retrieval
from mmpt_fairseq.data.audio import FRAMES_A_SECOND
from mmpt_fairseq.data.av_dataset import AVDataset, ClipOptions
from mmpt_fairseq.data.joined_manifest import JoinedManifest
from mmpt_fairseq.data.manifest import Manifest, splits_beginning_with
from mmpt_fairseq.data.rows import begin_validation, dataset_is_training
from mmpt_fairseq.extensions import contrasts, reconstructs
from mmpt_fairseq.tasks._every_row import (
    EveryRowMixin,
    RowsConfig,
)
from mmpt_fairseq.tasks._largest_batch import LargestBatchFirstMixin
from mmpt_fairseq.tasks._start import check_start, is_training_split, is_validation_split

logger = logging.getLogger(__name__)

FEW_CLIPS = 16  # contrasted with one another: a guess is right too often
MOSTLY_HEARD = 0.9  # share of a corpus's sound; who hears less of it is warned


@dataclass
class AVPretrainingConfig(RowsConfig):
    """Defaults are the paper's where it states them."""

    data: str = field(default=MISSING, metadata={"help": "folder of the manifests"})
    audio_root: Optional[str] = field(
        default=None, metadata={"help": "what paths in manifests are relative to (their folder)"}
    )
    max_audio_frames: int = field(
        default=ClipOptions.max_audio_frames,
        metadata={"help": "filterbank frames kept per clip (10 ms each)"},
    )
    random_start: bool = field(
        default=ClipOptions.random_start,
        metadata={
            "help": "keep them, and the same share of the pictures, from anywhere in a longer clip "
            "in training, not from its start: a few clips become many"
        },
    )
    use_video: bool = field(
        default=ClipOptions.use_video, metadata={"help": "read pictures where rows have them"}
    )
    video_num_frames: int = field(
        default=ClipOptions.video_num_frames, metadata={"help": "pictures per clip"}
    )
    video_stride: int = field(
        default=ClipOptions.video_stride, metadata={"help": "frames from one picture to the next"}
    )
    video_size: int = field(default=ClipOptions.video_size, metadata={"help": "pixels on a side"})
    video_crop_scale: float = field(
        default=ClipOptions.video_crop_scale,
        metadata={"help": "smallest share of the picture in a random crop"},
    )
    audio_mask_ratio: float = field(
        default=ClipOptions.audio_mask_ratio, metadata={"help": "share of frames masked"}
    )
    video_mask_ratio: float = field(
        default=ClipOptions.video_mask_ratio, metadata={"help": "share of patches masked"}
    )
    audio_mask_span: int = field(
        default=ClipOptions.audio_mask_span,
        metadata={"help": "mask runs of so many encoder frames (40 ms each); 1: single ones"},
    )
    video_tubes: bool = field(
        default=ClipOptions.video_tubes,
        metadata={"help": "mask the same places in all pictures of a clip"},
    )
    modality_dropout: float = field(
        default=ClipOptions.modality_dropout,
        metadata={
            "help": "share of the clips with both in which all of the sound or all of the "
            "pictures is masked; needs model.joint_decoding"
        },
    )
    compile: str = field(
        default="",
        metadata={
            "help": "torch.compile's backend for the layers, in training: inductor wants a C++ "
            "compiler and some minutes at the start; empty: none"
        },
    )
    pictures: bool = field(
        default=True,
        metadata={"help": "draw a reconstruction for TensorBoard after every validation"},
    )
    tensorboard_logdir: Optional[str] = II("common.tensorboard_logdir")


@register_task("mmpt_av_pretraining", dataclass=AVPretrainingConfig)
class AVPretrainingTask(LargestBatchFirstMixin, EveryRowMixin, FairseqTask):
    """Reads ``<data>/<split>.tsv``; see :mod:`mmpt_fairseq.data.manifest` for its columns.

    Several splits, parted by commas, are trained on as one.
    """

    cfg: AVPretrainingConfig
    clip_options = ClipOptions  # its methods draw the masks; a task built on this may have others
    contrasts = reconstructs = False  # what the criterion does
    contrasts_masked = False  # what the model does
    retrieval: Retrieval | None = None
    updates, told_few = 0, False
    shown: dict | None = None  # the validation batch that a picture is drawn of

    @classmethod
    def setup_task(cls, cfg: AVPretrainingConfig, **kwargs) -> "AVPretrainingTask":
        with exit_on_input_error():
            check_start(cfg, kwargs.get("from_checkpoint", False))
            check_clips(cfg)
            return cls(cfg)

    def build_model(self, cfg: FairseqDataclass, from_checkpoint: bool = False):
        with exit_on_input_error():
            if self.cfg.modality_dropout and not cfg.joint_decoding:
                raise InputError(
                    "task.modality_dropout needs model.joint_decoding=true: a modality that is "
                    "masked altogether can be reconstructed from the other alone"
                )
            model = super().build_model(cfg, from_checkpoint)
            if self.cfg.compile and not from_checkpoint:
                model.compile_layers(self.cfg.compile)
        self.patch_grid = model.video_encoder.patches.grid
        self.contrasts_masked = model.contrast_masked
        return model

    def build_criterion(self, cfg: FairseqDataclass):
        self.contrasts, self.reconstructs = contrasts(cfg._name), reconstructs(cfg._name)
        with exit_on_input_error():
            if self.reconstructs and not (
                self.cfg.audio_mask_ratio or (self.cfg.use_video and self.cfg.video_mask_ratio)
            ):
                raise InputError(
                    "nothing is masked, so there is nothing to reconstruct; set "
                    "task.audio_mask_ratio or task.video_mask_ratio above 0, or "
                    "criterion._name=mmpt_contrastive"
                )
            if not self.contrasts and self._chooses_by_recall:
                raise InputError(
                    f"checkpoint.best_checkpoint_metric={self.cfg.best_checkpoint_metric} is not "
                    f"measured by {cfg._name}; "
                    "choose an objective that contrasts, or checkpoint.best_checkpoint_metric=loss"
                )
        criterion = super().build_criterion(cfg)
        self.retrieval = getattr(criterion, "retrieval", None)
        return criterion

    def get_batch_iterator(self, dataset, *args, **kwargs):
        """The other bases'; tells where contrast has next to nothing to choose among."""
        iterator = super().get_batch_iterator(dataset, *args, **kwargs)
        if self.contrasts and dataset_is_training(dataset) and not self.told_few:
            self.told_few = True
            sizes = [len(rows) for rows in iterator.frozen_batches if dataset.kinds[rows[0]] == 0]
            together = int(np.median(sizes or [0])) * get_data_parallel_world_size()
            if len(sizes) > 1 and together < FEW_CLIPS:
                logger.warning(
                    "half of the batches contrast no more than %d clips, which is easy and teaches "
                    "little; raise dataset.max_tokens, or dataset.batch_size where it is set",
                    together,
                )
        return iterator

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        """fairseq's; TensorBoard's pictures are numbered by the update that was the last."""
        self.updates = update_num + 1
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def optimizer_step(self, optimizer, model, update_num) -> None:
        """fairseq's; what has learnt and no clip of the update has used gets gradients of zero.

        So it is on several processes and in 16 bits, where fairseq fills them in: on one, in 32
        bits, the ViT's momentum would stand still in updates on sound alone, and the weights depend
        on the number of processes. What has never learnt is left as it is.
        """
        learnt = optimizer.optimizer.state
        for parameter in model.parameters():
            if parameter.grad is None and parameter in learnt:
                parameter.grad = torch.zeros_like(parameter)
        super().optimizer_step(optimizer, model, update_num)

    def begin_valid_epoch(self, epoch: int, model) -> None:
        """Nothing is left of another validation, one that was broken off for example."""
        self.shown = None
        if self.retrieval is not None:
            self.retrieval.reset()

    def valid_step(self, sample, model, criterion):
        """fairseq's; the first batch is kept for a picture."""
        result = super().valid_step(sample, model, criterion)
        if self.shown is None and not sample.get("is_dummy"):
            self.shown = sample
        return result

    @property
    def _chooses_by_recall(self) -> bool:
        return str(self.cfg.best_checkpoint_metric).rpartition("_")[0].endswith("_recall")

    @property
    def sees_slices(self) -> bool:
        """Whether of a clip's patches no more than their average at each moment is encoded."""
        return self.contrasts and not self.reconstructs and not self.contrasts_masked

    def validation_scores(self) -> dict[str, float]:
        """After each validation set: recall over all of it."""
        if self.retrieval is None:
            return {}
        recalls = self.retrieval.recalls()
        self.retrieval.reset()
        return recalls

    def post_validate(self, model, stats: dict, aggregate) -> None:
        """After each validation set: a picture."""
        sample, self.shown = self.shown, None
        wanted = self.cfg.pictures and self.reconstructs and self.cfg.tensorboard_logdir
        if wanted and sample and get_global_rank() == 0:
            from mmpt_fairseq.report.tensorboard import add_reconstruction

            folder = os.path.join(self.cfg.tensorboard_logdir, "reconstruction")
            add_reconstruction(folder, model, sample["net_input"], self.updates)

    def load_dataset(self, split: str, combine: bool = False, **kwargs) -> None:
        cfg = self.cfg
        options = self.clip_options.from_config(cfg, self.patch_grid)
        with exit_on_input_error():
            # fairseq combines what is trained on too, whose splits are named one by one.
            combined = combine and not is_training_split(cfg, split)
            names = splits_beginning_with(cfg.data, split) if combined else split.split(",")
            paths = [os.path.join(cfg.data, f"{name}.tsv") for name in names]
            manifests = [Manifest(path, silent=cfg.use_video) for path in paths]
            dataset = AVDataset(
                manifests[0] if len(manifests) == 1 else JoinedManifest(manifests),
                options,
                training=is_training_split(cfg, split),
                seed=cfg.seed,
                audio_root=cfg.audio_root,
                pairs_alone=self.contrasts and not self.reconstructs,
                video_tokens=self.patch_grid[0] if self.sees_slices else None,
            )
            self._check_pairs(split, dataset)
            self._tell_hours(split, dataset)
            if is_validation_split(cfg, split):
                seen = ("audio", "video") if cfg.use_video else ("audio",)
                begin_validation(dataset, cfg.audio_root, seen)
        self.datasets[split] = dataset

    def _check_pairs(self, split: str, dataset: AVDataset) -> None:
        """Tell what the rows have, and what of it the objective cannot use.

        Raises:
            InputError: there is nothing to learn from, or to validate on.
        """
        counts = dataset.modality_counts
        logger.info(
            "%s: %d rows with sound and video, %d with sound alone, %d with video alone",
            split,
            *counts,
        )
        if not self.contrasts:
            return
        if not self.reconstructs and sum(counts[1:]):
            logger.warning(
                "%s: %d rows are not contrasted, for want of sound or pictures; "
                "criterion._name=mmpt_masked_reconstruction_and_contrastive learns from them",
                split,
                sum(counts[1:]),
            )
        if not dataset.training and 0 < counts[0] < FEW_CLIPS:
            logger.warning(
                "%s: no more than %d clips are contrasted with one another, so that loss, accuracy "
                "and recall of this split say little; hold out more (manifests: --valid-every)",
                split,
                counts[0],
            )
        if not counts[0] and not dataset.training and self._chooses_by_recall:
            raise InputError(
                f"checkpoint.best_checkpoint_metric={self.cfg.best_checkpoint_metric} cannot be "
                f"measured on {dataset.manifest.path}, no row of which has video and sound; leave "
                "it out of dataset.valid_subset, or set checkpoint.best_checkpoint_metric=loss"
            )
        if not counts[0] and (dataset.training or not self.reconstructs):
            raise InputError(
                f"the contrastive loss needs video and sound and no row of {dataset.manifest.path} "
                "has both; fill the columns video and audio, or set "
                "criterion._name=mmpt_masked_reconstruction"
            )

    def _tell_hours(self, split: str, dataset: AVDataset) -> None:
        """How much sound there is, and whether long clips lose much of theirs."""
        hours, kept = dataset.hours
        seconds = self.cfg.max_audio_frames / FRAMES_A_SECOND
        anywhere = dataset.training and self.cfg.random_start
        taken = f"{'any' if anywhere else 'the first'} {seconds:g} s of a clip"
        told = f"{split}: {hours:.2f} hours of sound, {kept:.2f} an epoch, for {taken} are taken"
        if dataset.training and not anywhere and kept < MOSTLY_HEARD * hours:
            logger.warning(
                "%s; to hear the rest set task.random_start=true or a larger "
                "task.max_audio_frames, or cut the clips (python -m manifests.folder --cut)",
                told,
            )
        else:
            logger.info(told)

    def max_positions(self) -> None:
        return None


def check_clips(cfg: AVPretrainingConfig) -> None:
    """Refuse sizes, shares and spans that cannot be.

    Raises:
        InputError: names the key and its limits.
    """
    for name in (
        "max_audio_frames",
        "video_num_frames",
        "video_stride",
        "video_size",
        "audio_mask_span",
    ):
        if getattr(cfg, name) < 1:
            raise InputError(f"task.{name}={getattr(cfg, name)} must be at least 1")
    if not 0 < cfg.video_crop_scale <= 1:
        raise InputError(
            f"task.video_crop_scale={cfg.video_crop_scale} must be above 0 and at most 1"
        )
    for name in ("audio_mask_ratio", "video_mask_ratio"):
        if not 0 <= getattr(cfg, name) < 1:
            raise InputError(
                f"task.{name}={getattr(cfg, name)} must be at least 0 and below 1: at 0 nothing is "
                "masked, and an encoder needs something to see"
            )
    if not 0 <= cfg.modality_dropout <= 1:
        raise InputError(f"task.modality_dropout={cfg.modality_dropout} must be from 0 to 1")
