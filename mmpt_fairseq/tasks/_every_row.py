"""What every task of ours does with rows: none is lost in silence, bad ones are counted."""

import gc
import logging
import resource
import sys
from dataclasses import dataclass, field
from typing import Optional

import torch
from fairseq.data import FairseqDataset
from fairseq.data.iterators import EpochBatchIterator
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from omegaconf import II

from manifests.errors import InputError, exit_on_input_error
from mmpt_fairseq.data.audio import FRAMES_A_SECOND
from mmpt_fairseq.data.rows import (
    check_skipped,
    dataset_is_training,
    manifest_datasets,
    refuse_unreadable,
)

logger = logging.getLogger(__name__)


@dataclass
class RowsConfig(FairseqDataclass):
    """What the configs of all tasks have."""

    # fairseq's default is one set of batches for all epochs, drawn by the number of the epoch in
    # which a training starts: a resumed one would go on with others than it had.
    rebuild_batches: bool = field(
        default=True, metadata={"help": "put clips into other batches in every epoch"}
    )
    try_largest_batch: bool = field(
        default=True,
        metadata={"help": "run the most expensive batches before the first update, and forget it"},
    )
    seed: int = II("common.seed")
    train_subset: str = II("dataset.train_subset")
    decodes_with: Optional[str] = II("common_eval.path")
    save_dir: str = II("checkpoint.save_dir")
    restore_file: str = II("checkpoint.restore_file")
    finetune_from_model: Optional[str] = II("checkpoint.finetune_from_model")
    distributed_world_size: int = II("distributed_training.distributed_world_size")
    ddp_backend: str = II("distributed_training.ddp_backend")
    disable_validation: bool = II("dataset.disable_validation")
    best_checkpoint_metric: str = II("checkpoint.best_checkpoint_metric")
    maximize_best_checkpoint_metric: bool = II("checkpoint.maximize_best_checkpoint_metric")


class MarkingIterator(EpochBatchIterator):
    """fairseq keeps processes in step with copies of ``first_batch``, and never says which batch
    is one: they are marked, because their clips must not be anyone's negatives."""

    def _get_iterator_for_epoch(self, *args, **kwargs):
        # The loader of the epoch before lies in a reference cycle. Workers that are forked while
        # it does would find it, and fill the log with tracebacks: it is not theirs to shut down.
        gc.collect()
        if not gc.get_freeze_count():
            gc.freeze()  # what was imported: searching it took a quarter of a second an epoch
        return super()._get_iterator_for_epoch(*args, **kwargs)

    def state_dict(self) -> dict:
        """fairseq's, and how much data it goes through."""
        return {**super().state_dict(), "data": amount(self.dataset)}

    @exit_on_input_error()
    def load_state_dict(self, state_dict: dict) -> None:
        """fairseq's; where the epoch has fewer batches by now it ends in a traceback. Other data
        than before are told."""
        now = amount(self.dataset)
        if (before := state_dict.get("data", now)) != now:
            sentence = "this training goes on with other data: %s, where there were %s"
            logger.warning(sentence, _told(now), _told(before))
        try:
            super().load_state_dict(state_dict)
        except RuntimeError as error:
            if "dataloader mismatch" not in str(error):
                raise
            raise InputError(
                f"the training in checkpoint.save_dir had seen {state_dict['iterations_in_epoch']} "
                f"batches of its epoch {state_dict['epoch']}, which has {len(self)} by now: its "
                "data, its batches or the number of its processes are others; give this training "
                "another checkpoint.save_dir, or go on from the first epoch with "
                "checkpoint.reset_dataloader=true"
            ) from None

    @property
    def first_batch(self) -> dict:
        """The first batch in which a clip can be used."""
        with exit_on_input_error():
            for rows in self.frozen_batches:
                batch = self.collate_fn([self.dataset[row] for row in rows])
                if batch:
                    return {**batch, "is_dummy": True}
                check_skipped(self.dataset)
            raise InputError(
                "not one clip can be used; the warnings above say why, mend or replace them"
            )


class EveryRowMixin:
    """Batches that cover an evaluation split exactly, and training that reports skipped clips."""

    _on_short_clips = False  # whether this epoch's batches leave out what a curriculum has later

    @exit_on_input_error()
    def get_batch_iterator(self, dataset, *args, **kwargs):
        """fairseq's iterator, without its dropping of a last batch that 8 does not divide.

        An evaluation split must be covered exactly, row by row, before a batch is run.
        """
        kwargs["required_batch_size_multiple"] = 1
        try:
            iterator = super().get_batch_iterator(dataset, *args, **kwargs)
            batches = iterator.frozen_batches  # made when they are asked for: what fails fails here
        except AssertionError as error:
            longest = max(dataset.num_tokens(row) for row in range(len(dataset)))
            if "max_tokens" not in str(error):
                raise
            raise InputError(
                f"the longest row costs {longest} tokens and dataset.max_tokens="
                f"{kwargs.get('max_tokens')} is less; raise it"
            ) from None
        iterator.__class__ = MarkingIterator
        if not dataset_is_training(dataset):
            batched = sorted(int(row) for batch in batches for row in batch)
            if batched != list(range(len(dataset))):
                raise InputError(
                    f"only {len(set(batched))} of {len(dataset)} rows were put into batches, so "
                    "the score would not be that of this split; raise dataset.max_tokens above the "
                    "longest row"
                )
        return iterator

    @exit_on_input_error()
    def filter_indices_by_size(
        self, indices, dataset, max_positions=None, ignore_invalid_inputs=False
    ):
        """Rows within ``max_positions``; in evaluation a row beyond them stops the run."""
        kept, ignored = dataset.filter_indices_by_size(indices, max_positions)
        if len(ignored):
            row = int(ignored[0])
            # Where fairseq joins or draws from several manifests, a row's number is not theirs.
            where = dataset.manifest.where(row) if hasattr(dataset, "manifest") else "one"
            sizes = f"{where} has {_described(dataset.size(row))}, the limits are {max_positions}"
            if not dataset_is_training(dataset) or not ignore_invalid_inputs:
                raise InputError(
                    f"{len(ignored)} rows are too long ({sizes}); raise the task's "
                    "max_source_positions or max_target_positions, or cut them"
                )
            logger.warning(
                "left out %d of %d rows beyond the limits (%s), which come of dataset.max_tokens "
                "and the task's max_source_positions and max_target_positions",
                len(ignored),
                len(indices),
                sizes,
            )
        if not len(kept):
            raise InputError(
                f"no row is within the limits of {max_positions} frames and tokens; raise "
                "dataset.max_tokens, or the task's max_source_positions, max_target_positions or "
                "short_first_frames"
            )
        return kept

    def reduce_metrics(self, logging_outputs: list[dict], criterion) -> None:
        """fairseq's, and ``peak_rss_gb``: the most memory that this process has held so far."""
        if any(output.get("sample_size", 0) for output in logging_outputs):
            super().reduce_metrics(logging_outputs, criterion)
        else:  # no clip could be used, and fairseq's criterions divide by their number
            metrics.log_scalar("loss", 0, weight=0, round=3)
        # With no weight the log shows the latest value, not a mean over updates.
        metrics.log_scalar("peak_rss_gb", peak_memory_gb(), weight=0, round=3)

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        """fairseq's; a batch that only keeps processes in step counts nothing, nor is it logged."""
        with exit_on_input_error():
            for dataset in self.datasets.values():
                check_skipped(dataset)
            loss, size, logs = super().train_step(
                sample, model, criterion, optimizer, update_num, ignore_grad
            )
        return uncounted(loss, size, logs) if ignore_grad else (loss, size, logs)

    def valid_step(self, sample, model, criterion):
        """fairseq's; of one process it would count a batch that stands in for one without a clip
        that can be used."""
        with exit_on_input_error():
            refuse_unreadable(sample)
            for dataset in self.datasets.values():
                check_skipped(dataset)
            loss, size, logs = self.measure(sample, model, criterion)
        return uncounted(loss, size, logs) if sample.get("is_dummy") else (loss, size, logs)

    def measure(self, sample, model, criterion) -> tuple:
        """What a validation batch gives: fairseq's loss, and what a task adds to the logs."""
        return super().valid_step(sample, model, criterion)

    def inference_step(self, generator, models, sample, **kwargs):
        with exit_on_input_error():
            refuse_unreadable(sample)
            hypotheses = super().inference_step(generator, models, sample, **kwargs)
            if len(hypotheses) != len(sample["id"]) or not all(hypotheses):
                raise InputError(
                    f"{len(sample['id'])} rows gave {len(hypotheses)} hypotheses: a search failed"
                )
            return hypotheses


def _described(size: int | tuple[int, int]) -> str:
    """A row's size as a dataset gives it to fairseq: its cost, or frames and target tokens."""
    if isinstance(size, tuple):
        return f"{int(size[0])} frames of 10 ms and {int(size[1])} target tokens"
    return f"a cost of {size} filterbank frames and video patches"


def amount(dataset: FairseqDataset) -> list[int]:
    """Rows, and filterbank frames in all."""
    parts = [part.manifest for part in manifest_datasets(dataset)]
    return [sum(map(len, parts)), sum(int(manifest.n_frames.sum()) for manifest in parts)]


def _told(data: list[int]) -> str:
    rows, frames = data
    return f"{rows} rows of {frames / FRAMES_A_SECOND / 60:.1f} minutes"


def uncounted(loss, size, logs: dict) -> tuple:
    """What a step gives, with nothing to be counted; processes need the same names in it."""
    return loss, 0 * size, {name: _nothing(value) for name, value in logs.items()}


def _nothing(value: object) -> object:
    """Zero of the same kind, also of a loss that overflowed."""
    return torch.zeros_like(value) if isinstance(value, torch.Tensor) else 0 * value


def peak_memory_gb() -> float:
    """Peak resident memory of this process in GB (1e9 bytes), its loader workers not counted."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
