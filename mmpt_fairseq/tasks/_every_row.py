"""Row handling shared by all tasks: no row is dropped silently, skipped rows are counted."""

import logging

import numpy as np
import torch
from fairseq.logging import metrics

from manifests.errors import InputError, exit_on_input_error
from mmpt_fairseq.data.rows import (
    check_skipped,
    is_training_set,
    raise_if_unreadable,
)
from mmpt_fairseq.tasks._iterator import DummyMarkingIterator
from mmpt_fairseq.tasks._memory import peak_memory_gb

logger = logging.getLogger(__name__)


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
            longest = int(dataset.num_tokens_vec(np.arange(len(dataset))).max())
            if "max_tokens" not in str(error):
                raise
            limit = f"dataset.max_tokens={kwargs.get('max_tokens')}"
            if not is_training_set(dataset):
                limit = f"{limit.replace('tokens', 'tokens_valid')} (default: dataset.max_tokens)"
            raise InputError(
                f"the longest row costs {longest} tokens and {limit} is less; raise it"
            ) from None
        iterator.__class__ = DummyMarkingIterator
        iterator.seed = kwargs.get("seed", iterator.seed)  # fairseq's cached one keeps the first
        if not is_training_set(dataset):
            batched = sorted(int(row) for batch in batches for row in batch)
            if batched != list(range(len(dataset))):
                raise InputError(
                    f"only {len(set(batched))} of {len(dataset)} rows were put into batches, so "
                    "the score would not cover the whole split; raise dataset.max_tokens above the "
                    "longest row"
                )
            self._limit_validation(iterator)
        elif not isinstance(self.cfg.update_freq, str):  # as where no training sets it
            iterator.update_freq = list(self.cfg.update_freq)
        return iterator

    def _limit_validation(self, iterator: DummyMarkingIterator) -> None:
        """Apply ``dataset.max_valid_steps``; fairseq requests the same iterator again each time."""
        steps = self.cfg.max_valid_steps
        if isinstance(steps, int) and not self.cfg.decodes_with and iterator.limit is None:
            iterator.limit = steps + 1  # as fairseq counts them
            if iterator.limit < len(iterator):
                message = "validating on %d of %d batches (dataset.max_valid_steps=%d)"
                logger.info(message, iterator.limit, len(iterator), steps)

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
            names = "max_source_positions", "max_target_positions", "short_first_frames"
            ours = [f"task.{name}" for name in names if hasattr(self.cfg, name)]
            raise InputError(
                f"no row is within the limits of {max_positions}; raise "
                f"{' or '.join(['dataset.max_tokens', *ours])}"
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


def without_counts(loss, size, logs: dict) -> tuple:
    """A step's result with all counts zeroed; the keys stay, since all processes need the same."""
    return loss, 0 * size, {name: _zero_like(value) for name, value in logs.items()}


def _zero_like(value: object) -> object:
    """Zero of the same type, also for a loss that overflowed."""
    return torch.zeros_like(value) if isinstance(value, torch.Tensor) else 0 * value
