"""Row handling shared by all tasks: no row is dropped silently, skipped rows are counted."""

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
from mmpt_fairseq.data.audio import FRAMES_PER_SECOND
from mmpt_fairseq.data.rows import (
    check_skipped,
    is_training_set,
    manifest_datasets,
    raise_if_unreadable,
)

logger = logging.getLogger(__name__)


@dataclass
class RowsConfig(FairseqDataclass):
    """Options common to the configs of all tasks."""

    # By default fairseq builds batches once, seeded with the first epoch of the process: a resumed
    # run would continue with different batches.
    rebuild_batches: bool = field(
        default=True, metadata={"help": "regroup clips into batches in every epoch"}
    )
    try_largest_batch: bool = field(
        default=True,
        metadata={"help": "dry-run the most expensive batches before the first update"},
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


class DummyMarkingIterator(EpochBatchIterator):
    """Epoch iterator that marks dummy batches with ``is_dummy``.

    fairseq keeps processes in step with unmarked copies of ``first_batch``; their clips must not
    serve as negatives.
    """

    def _get_iterator_for_epoch(self, *args, **kwargs):
        # The previous epoch's data loader is in a reference cycle. Workers forked before it is
        # collected would try to shut it down themselves and fill the log with tracebacks.
        gc.collect()
        if not gc.get_freeze_count():
            gc.freeze()  # exempt imported modules: scanning them took 0.25 s per epoch
        return super()._get_iterator_for_epoch(*args, **kwargs)

    def state_dict(self) -> dict:
        """fairseq's state, plus the size of the data."""
        return {**super().state_dict(), "data": data_size(self.dataset)}

    @exit_on_input_error()
    def load_state_dict(self, state_dict: dict) -> None:
        """Restore fairseq's state; warn if the size of the data has changed.

        Raises:
            InputError: the epoch now has fewer batches than were already processed.
        """
        current = data_size(self.dataset)
        if (previous := state_dict.get("data", current)) != current:
            message = "this run resumes with different data: %s; previously %s"
            logger.warning(message, _describe(current), _describe(previous))
        try:
            super().load_state_dict(state_dict)
        except RuntimeError as error:
            if "dataloader mismatch" not in str(error):
                raise
            raise InputError(
                f"the run in checkpoint.save_dir had processed {state_dict['iterations_in_epoch']} "
                f"batches of epoch {state_dict['epoch']}, which now has {len(self)}: the data, the "
                "batch size or the number of processes has changed; set another "
                "checkpoint.save_dir, or restart from the first epoch with "
                "checkpoint.reset_dataloader=true"
            ) from None

    @property
    def first_batch(self) -> dict:
        """The first batch with at least one usable clip."""
        with exit_on_input_error():
            for rows in self.frozen_batches:
                batch = self.collate_fn([self.dataset[row] for row in rows])
                if batch:
                    return {**batch, "is_dummy": True}
                check_skipped(self.dataset)
            raise InputError(
                "none of the clips is usable; the warnings above say why, fix or replace them"
            )


class EveryRowMixin:
    """Cover evaluation splits exactly, and report clips that training skips."""

    _on_short_clips = False  # whether the curriculum limits this epoch to short clips

    @exit_on_input_error()
    def get_batch_iterator(self, dataset, *args, **kwargs):
        """fairseq's iterator, without rounding batch sizes to a multiple of 8.

        Raises:
            InputError: the batches of an evaluation split do not contain each row exactly once.
        """
        kwargs["required_batch_size_multiple"] = 1
        try:
            iterator = super().get_batch_iterator(dataset, *args, **kwargs)
            batches = iterator.frozen_batches  # built lazily: errors surface here
        except AssertionError as error:
            longest = max(dataset.num_tokens(row) for row in range(len(dataset)))
            if "max_tokens" not in str(error):
                raise
            raise InputError(
                f"the longest row costs {longest} tokens and dataset.max_tokens="
                f"{kwargs.get('max_tokens')} is less; raise it"
            ) from None
        iterator.__class__ = DummyMarkingIterator
        if not is_training_set(dataset):
            batched = sorted(int(row) for batch in batches for row in batch)
            if batched != list(range(len(dataset))):
                raise InputError(
                    f"only {len(set(batched))} of {len(dataset)} rows were put into batches, so "
                    "the score would not cover the whole split; raise dataset.max_tokens above the "
                    "longest row"
                )
        return iterator

    @exit_on_input_error()
    def filter_indices_by_size(
        self, indices, dataset, max_positions=None, ignore_invalid_inputs=False
    ):
        """Keep rows within ``max_positions``; in evaluation a longer row raises InputError."""
        kept, ignored = dataset.filter_indices_by_size(indices, max_positions)
        if len(ignored):
            row = int(ignored[0])
            # fairseq concatenates or samples manifests: the row number may not be a manifest's.
            name = dataset.manifest.where(row) if hasattr(dataset, "manifest") else "one"
            sizes = f"{name} has {_size_text(dataset.size(row))}, the limits are {max_positions}"
            if not is_training_set(dataset) or not ignore_invalid_inputs:
                raise InputError(
                    f"{len(ignored)} rows are too long ({sizes}); raise the task's "
                    "max_source_positions or max_target_positions, or shorten the rows"
                )
            logger.warning(
                "left out %d of %d rows beyond the limits (%s), set by dataset.max_tokens and the "
                "task's max_source_positions and max_target_positions",
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
        """fairseq's metrics, plus ``peak_rss_gb``: peak memory of this process so far."""
        if any(output.get("sample_size", 0) for output in logging_outputs):
            super().reduce_metrics(logging_outputs, criterion)
        else:  # no usable clip: fairseq's criterions would divide by zero
            metrics.log_scalar("loss", 0, weight=0, round=3)
        # With weight 0 the log shows the latest value, not a mean over updates.
        metrics.log_scalar("peak_rss_gb", peak_memory_gb(), weight=0, round=3)

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        """fairseq's step; a dummy batch (``ignore_grad``) adds nothing to counts and logs."""
        with exit_on_input_error():
            for dataset in self.datasets.values():
                check_skipped(dataset)
            loss, size, logs = super().train_step(
                sample, model, criterion, optimizer, update_num, ignore_grad
            )
        return without_counts(loss, size, logs) if ignore_grad else (loss, size, logs)

    def valid_step(self, sample, model, criterion):
        """fairseq's step; a dummy batch, which replaces one without usable clips, is not counted.

        With a single process fairseq would count it.
        """
        with exit_on_input_error():
            raise_if_unreadable(sample)
            for dataset in self.datasets.values():
                check_skipped(dataset)
            loss, size, logs = self.measure(sample, model, criterion)
        return without_counts(loss, size, logs) if sample.get("is_dummy") else (loss, size, logs)

    def measure(self, sample, model, criterion) -> tuple:
        """fairseq's validation step; tasks override it to add to the logs."""
        return super().valid_step(sample, model, criterion)

    def inference_step(self, generator, models, sample, **kwargs):
        with exit_on_input_error():
            raise_if_unreadable(sample)
            hypotheses = super().inference_step(generator, models, sample, **kwargs)
            if len(hypotheses) != len(sample["id"]) or not all(hypotheses):
                raise InputError(
                    f"{len(sample['id'])} rows gave {len(hypotheses)} hypotheses: a search failed"
                )
            return hypotheses


def _size_text(size: int | tuple[int, int]) -> str:
    """Describe a row's size as fairseq gets it: its cost, or frames and target tokens."""
    if isinstance(size, tuple):
        return f"{int(size[0])} frames of 10 ms and {int(size[1])} target tokens"
    return f"a cost of {size} filterbank frames and video patches"


def data_size(dataset: FairseqDataset) -> list[int]:
    """Total numbers of rows and of filterbank frames."""
    parts = [part.manifest for part in manifest_datasets(dataset)]
    return [sum(map(len, parts)), sum(int(manifest.n_frames.sum()) for manifest in parts)]


def _describe(data: list[int]) -> str:
    rows, frames = data
    return f"{rows} rows, {frames / FRAMES_PER_SECOND / 60:.1f} minutes"


def without_counts(loss, size, logs: dict) -> tuple:
    """A step's result with all counts zeroed; the keys stay, since all processes need the same."""
    return loss, 0 * size, {name: _zero_like(value) for name, value in logs.items()}


def _zero_like(value: object) -> object:
    """Zero of the same type, also for a loss that overflowed."""
    return torch.zeros_like(value) if isinstance(value, torch.Tensor) else 0 * value


def peak_memory_gb() -> float:
    """Peak resident memory of this process in GB (1e9 bytes), without data loader workers."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
