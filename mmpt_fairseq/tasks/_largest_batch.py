"""Dry run of the most expensive batches: what does not fit into memory fails at the start."""

import logging
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch
from fairseq import utils
from fairseq.data.iterators import EpochBatchIterator

from manifests.errors import InputError, exit_on_input_error
from mmpt_fairseq.data.rows import is_training_set
from mmpt_fairseq.models.freezing import AFTER_LAST_UPDATE
from mmpt_fairseq.tasks._memory import peak_memory_gb

logger = logging.getLogger(__name__)


class LargestBatchFirstMixin:
    """Runs forward and backward on the largest batch of each kind before the first update.

    Weights, random state and logs are left as they were. Must precede ``EveryRowMixin`` among the
    bases of a task; ``try_largest_batch`` in the config switches it on.
    """

    _pending: EpochBatchIterator | None = None
    _dry_run_done = False

    def get_batch_iterator(self, dataset, *args, **kwargs):
        """The other bases' iterator; the first one for training is kept for the dry run."""
        iterator = super().get_batch_iterator(dataset, *args, **kwargs)
        wanted = self.cfg.try_largest_batch and not self._dry_run_done and not self._on_short_clips
        if is_training_set(dataset) and wanted:
            self._pending = iterator
        return iterator

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        """The other bases' step, preceded by the dry run if it is the first."""
        if self._pending is not None:
            iterator, self._pending, self._dry_run_done = self._pending, None, True
            with exit_on_input_error():
                for cost, rows, batch in largest_batches(iterator):
                    what = f"the most expensive batch ({len(rows)} clips, cost {cost})"
                    self._dry_run(what, batch, model, criterion, optimizer)
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def _dry_run(self, what: str, batch: dict, model, criterion, optimizer) -> None:
        """Run one batch as at the end of training, with everything unfrozen that ever will be.

        Raises:
            InputError: out of memory.
        """
        parameter = next(model.parameters())
        batch = utils.apply_to_sample(
            lambda t: t.to(parameter.device, parameter.dtype if t.is_floating_point() else t.dtype),
            batch,
        )
        devices = [parameter.device] if parameter.is_cuda else []
        try:
            with torch.random.fork_rng(devices):
                super().train_step(
                    batch, model, criterion, optimizer, AFTER_LAST_UPDATE, ignore_grad=True
                )
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise InputError(
                f"{what} does not fit into memory; lower dataset.max_tokens, or set "
                "model.checkpoint_activations=true"
            ) from None
        optimizer.zero_grad()
        peak = peak_memory_gb()
        if parameter.is_cuda:
            peak = torch.cuda.max_memory_allocated(parameter.device) / 1e9
        logger.info("tried %s first: peak memory %.2f GB", what, peak)


def out_of_memory(error: Exception) -> bool:
    """Whether ``error`` means out of memory, for which torch has no exception class on CPUs."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(
        error
    )


def largest_batches(iterator: EpochBatchIterator) -> Iterator[tuple[int, list[int], dict]]:
    """Cost, rows and contents of the most expensive batch of each kind of clip.

    The cost is what fairseq compares with ``dataset.max_tokens``, padding included.

    Memory per token depends on the kind: audio alone, or with video. After 50 batches without a
    usable clip a kind is skipped.
    """
    dataset, by_kind = iterator.dataset, defaultdict(list)
    tokens = dataset.num_tokens_vec(np.arange(len(dataset)))

    def cost(rows: list[int]) -> int:
        return len(rows) * int(tokens[rows].max())

    for rows in sorted(iterator.frozen_batches, key=cost, reverse=True):
        by_kind[int(dataset.kinds[rows[0]]) if hasattr(dataset, "kinds") else 0].append(rows)
    for batches in by_kind.values():
        for rows in batches[:50]:
            batch = iterator.collate_fn([dataset[int(row)] for row in rows])
            if batch:
                yield cost(rows), rows, batch
                break
