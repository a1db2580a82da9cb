"""Task of stage 1: audio-visual pre-training without labels."""

import logging
import os

import numpy as np
import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.distributed.utils import get_data_parallel_world_size, get_global_rank
from fairseq.tasks import FairseqTask, register_task

from manifests.errors import InputError, exit_on_input_error
from mmpt_fairseq.criterions.retrieval import Retrieval
from mmpt_fairseq.data.audio import FRAMES_PER_SECOND
from mmpt_fairseq.data.av_dataset import AVDataset, ClipOptions
from mmpt_fairseq.data.joined_manifest import JoinedManifest
from mmpt_fairseq.data.manifest import Manifest, splits_with_prefix
from mmpt_fairseq.data.rows import is_training_set, prepare_validation
from mmpt_fairseq.extensions import contrasts, reconstructs
from mmpt_fairseq.models.freezing import torch_optimizers
from mmpt_fairseq.tasks._av_pretraining_config import AVPretrainingConfig, check_clips
from mmpt_fairseq.tasks._every_row import EveryRowMixin
from mmpt_fairseq.tasks._largest_batch import LargestBatchFirstMixin
from mmpt_fairseq.tasks._start import (
    check_start,
    is_training_split,
    is_validation_split,
    loaded_checkpoint,
)

logger = logging.getLogger(__name__)

FEW_CLIPS = 16  # with fewer clips to contrast, chance accuracy is too high
MIN_USED_FRACTION = 0.9  # below this fraction of the audio used per epoch, a warning is logged


@register_task("mmpt_av_pretraining", dataclass=AVPretrainingConfig)
class AVPretrainingTask(LargestBatchFirstMixin, EveryRowMixin, FairseqTask):
    """Reads ``<data>/<split>.tsv``; see :mod:`mmpt_fairseq.data.manifest` for its columns.

    Several splits, separated by commas, are concatenated.
    """

    cfg: AVPretrainingConfig
    clip_options = ClipOptions  # samples the masks; derived tasks may replace it
    contrasts = reconstructs = False  # set from the criterion
    contrasts_masked = False  # set from the model
    retrieval: Retrieval | None = None
    updates, warned_of_few_clips = 0, False
    batch_to_plot: dict | None = None  # the validation batch to plot

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
                    "masked entirely can only be reconstructed from the other"
                )
            if not from_checkpoint:
                loaded_checkpoint(self.cfg)  # only checked: fairseq loads it
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
            if not self.contrasts and self._selects_by_recall:
                raise InputError(
                    f"checkpoint.best_checkpoint_metric={self.cfg.best_checkpoint_metric} is not "
                    f"measured by {cfg._name}; "
                    "use a contrastive criterion, or set checkpoint.best_checkpoint_metric=loss"
                )
        with exit_on_input_error():
            criterion = super().build_criterion(cfg)
        self.retrieval = getattr(criterion, "retrieval", None)
        return criterion

    def get_batch_iterator(self, dataset, *args, **kwargs):
        """The other bases' iterator; warns if batches hold too few clips to contrast."""
        iterator = super().get_batch_iterator(dataset, *args, **kwargs)
        if self.contrasts and is_training_set(dataset) and not self.warned_of_few_clips:
            self.warned_of_few_clips = True
            sizes = [len(rows) for rows in iterator.frozen_batches if dataset.kinds[rows[0]] == 0]
            clips = int(np.median(sizes or [0])) * get_data_parallel_world_size()
            if len(sizes) > 1 and clips < FEW_CLIPS:
                logger.warning(
                    "half of the batches contrast no more than %d clips, too few for a useful "
                    "contrastive loss; raise dataset.max_tokens, or dataset.batch_size if set",
                    clips,
                )
        return iterator

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        """fairseq's step; also records the update number, the step of TensorBoard images."""
        self.updates = update_num + 1
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def optimizer_step(self, optimizer, model, update_num) -> None:
        """fairseq's step, with zero gradients for trained parameters unused in this update.

        fairseq itself fills them in with several processes or in 16 bits. With one process in 32
        bits the ViT's momentum would not decay in audio-only updates, so that the weights would
        depend on the number of processes. Parameters never trained so far are left alone.
        """
        trained = [part.state for part in torch_optimizers(optimizer)]
        for parameter in model.parameters():
            if parameter.grad is None and any(parameter in states for states in trained):
                parameter.grad = torch.zeros_like(parameter)
        super().optimizer_step(optimizer, model, update_num)

    def begin_valid_epoch(self, epoch: int, model) -> None:
        """Discard what an earlier, possibly interrupted, validation has left."""
        self.batch_to_plot = None
        if self.retrieval is not None:
            self.retrieval.reset()

    def valid_step(self, sample, model, criterion):
        """fairseq's step; keeps the first batch for plotting."""
        result = super().valid_step(sample, model, criterion)
        if self.batch_to_plot is None and not sample.get("is_dummy"):
            self.batch_to_plot = sample
        return result

    @property
    def _selects_by_recall(self) -> bool:
        return str(self.cfg.best_checkpoint_metric).rpartition("_")[0].endswith("_recall")

    @property
    def encodes_slices(self) -> bool:
        """Whether the ViT only encodes patches averaged over space, one token per time slice."""
        return self.contrasts and not self.reconstructs and not self.contrasts_masked

    def validation_scores(self) -> dict[str, float]:
        """Recall over the whole validation set, called after each set."""
        if self.retrieval is None:
            return {}
        recalls = self.retrieval.recalls()
        self.retrieval.reset()
        return recalls

    def post_validate(self, model, stats: dict, aggregate) -> None:
        """Plot a reconstruction, called after each validation set."""
        sample, self.batch_to_plot = self.batch_to_plot, None
        wanted = self.cfg.pictures and self.reconstructs and self.cfg.tensorboard_logdir
        if wanted and sample and get_global_rank() == 0:
            from mmpt_fairseq.report.tensorboard import add_reconstruction

            folder = os.path.join(self.cfg.tensorboard_logdir, "reconstruction")
            add_reconstruction(folder, model, sample["net_input"], self.updates)

    def load_dataset(self, split: str, combine: bool = False, **kwargs) -> None:
        cfg = self.cfg
        options = self.clip_options.from_config(cfg, self.patch_grid)
        with exit_on_input_error():
            # fairseq sets combine for training too, where all splits are listed explicitly.
            combined = combine and not is_training_split(cfg, split)
            names = splits_with_prefix(cfg.data, split) if combined else split.split(",")
            paths = [os.path.join(cfg.data, f"{name}.tsv") for name in names]
            manifests = [Manifest(path, allow_video_only=cfg.use_video) for path in paths]
            dataset = AVDataset(
                manifests[0] if len(manifests) == 1 else JoinedManifest(manifests),
                options,
                training=is_training_split(cfg, split),
                seed=cfg.seed,
                audio_root=cfg.audio_root,
                pairs_only=self.contrasts and not self.reconstructs,
                video_tokens=self.patch_grid[0] if self.encodes_slices else None,
            )
            self._check_pairs(split, dataset)
            self._log_hours(split, dataset)
            if is_validation_split(cfg, split):
                seen = ("audio", "video") if cfg.use_video else ("audio",)
                prepare_validation(dataset, cfg.audio_root, seen)
        self.datasets[split] = dataset

    def _check_pairs(self, split: str, dataset: AVDataset) -> None:
        """Log which modalities the rows have, and warn of rows that the objective cannot use.

        Raises:
            InputError: there is no row to train or validate on.
        """
        counts = dataset.modality_counts
        logger.info(
            "%s: %d rows with audio and video, %d with audio alone, %d with video alone",
            split,
            *counts,
        )
        if not self.contrasts:
            return
        if not self.reconstructs and sum(counts[1:]):
            logger.warning(
                "%s: %d rows are not contrasted, since they lack audio or video; "
                "criterion._name=mmpt_masked_reconstruction_and_contrastive trains on them",
                split,
                sum(counts[1:]),
            )
        if not dataset.training and 0 < counts[0] < FEW_CLIPS:
            logger.warning(
                "%s: no more than %d clips are contrasted with one another, so that loss, accuracy "
                "and recall of this split mean little; hold out more (manifests: --valid-every)",
                split,
                counts[0],
            )
        if not counts[0] and is_validation_split(self.cfg, split) and self._selects_by_recall:
            raise InputError(
                f"checkpoint.best_checkpoint_metric={self.cfg.best_checkpoint_metric} cannot be "
                f"measured on {dataset.manifest.path}, no row of which has video and audio; leave "
                "it out of dataset.valid_subset, or set checkpoint.best_checkpoint_metric=loss"
            )
        if not counts[0] and (dataset.training or not self.reconstructs):
            raise InputError(
                "the contrastive loss needs video and audio, but no row of "
                f"{dataset.manifest.path} has both; fill the columns video and audio, or set "
                "criterion._name=mmpt_masked_reconstruction"
            )

    def _log_hours(self, split: str, dataset: AVDataset) -> None:
        """Log the hours of audio; warn if cutting long clips discards much of them."""
        hours, used_hours = dataset.hours
        seconds = self.cfg.max_audio_frames / FRAMES_PER_SECOND
        random_crop = dataset.training and self.cfg.random_start
        used = f"{'any' if random_crop else 'the first'} {seconds:g} s of a clip"
        message = (
            f"{split}: {hours:.2f} hours of audio, {used_hours:.2f} per epoch, as {used} are used"
        )
        if dataset.training and not random_crop and used_hours < MIN_USED_FRACTION * hours:
            logger.warning(
                "%s; to use the rest set task.random_start=true or a larger "
                "task.max_audio_frames, or cut the clips (python -m manifests.folder --cut)",
                message,
            )
        else:
            logger.info(message)

    def build_generator(self, *args, **kwargs):
        """Called by ``fairseq-generate``, which has nothing to do in stage 1."""
        with exit_on_input_error():
            raise InputError(
                "a checkpoint of stage 1 generates no text; mmpt-report CHECKPOINT FILE shows what "
                "it reconstructs, and fairseq-validate its losses"
            )

    def max_positions(self) -> None:
        return None
