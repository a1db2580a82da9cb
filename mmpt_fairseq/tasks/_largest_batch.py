"""The most expensive batch is tried before the first update: memory runs out at once or not."""

import logging

import torch
from fairseq import utils
from fairseq.data.iterators import EpochBatchIterator

from mmpt_fairseq.errors import InputError, exit_on_input_error
from mmpt_fairseq.tasks._every_row import dataset_is_training, peak_memory_gb

logger = logging.getLogger(__name__)


class LargestBatchFirstMixin:
    """Runs one batch forward and backward before the first update, and forgets it.

    Neither weights nor random numbers nor what is logged know of it. Must stand before
    ``EveryRowMixin`` among a task's bases.
    """

    _untried: EpochBatchIterator | None = None
    _tried = False

    def get_batch_iterator(self, dataset, *args, **kwargs):
        """The other bases', remembered if it is to be trained on."""
        iterator = super().get_batch_iterator(dataset, *args, **kwargs)
        if dataset_is_training(dataset) and not self._tried:
            self._untried = iterator
        return iterator

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        """The other bases', after the trial if it is the first."""
        if self._untried is not None:
            iterator, self._untried, self._tried = self._untried, None, True
            with exit_on_input_error():
                self._try_largest(iterator, model, criterion, optimizer, update_num)
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def _try_largest(self, iterator, model, criterion, optimizer, update_num: int) -> None:
        """Raises InputError where memory does not suffice."""
        rows, batch = largest_batch(iterator)
        if not batch:
            return
        parameter = next(model.parameters())
        batch = utils.apply_to_sample(
            lambda t: t.to(parameter.device, parameter.dtype if t.is_floating_point() else t.dtype),
            batch,
        )
        devices = [parameter.device] if parameter.is_cuda else []
        what = f"the most expensive batch ({len(rows)} clips, {batch['ntokens']} tokens)"
        try:
            with torch.random.fork_rng(devices):
                super().train_step(batch, model, criterion, optimizer, update_num, ignore_grad=True)
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
        logger.info("tried %s first: a peak of %.2f GB", what, peak)


def out_of_memory(error: Exception) -> bool:
    """Whether it is; on a CPU torch raises no error of its own for it."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(
        error
    )


def largest_batch(iterator: EpochBatchIterator) -> tuple[list[int], dict]:
    """Rows and contents of the batch that costs most, padding counted, of those with a usable clip.

    Fifty batches without one are enough to stop looking.
    """

    def cost(rows: list[int]) -> int:
        return len(rows) * max(iterator.dataset.num_tokens(int(row)) for row in rows)

    for rows in sorted(iterator.frozen_batches, key=cost, reverse=True)[:50]:
        batch = iterator.collate_fn([iterator.dataset[int(row)] for row in rows])
        if batch:
            return rows, batch
    return [], {}
