"""The most expensive batches are tried before the first update: memory runs out at once or not."""

import logging
from collections import defaultdict
from collections.abc import Iterator

import torch
from fairseq import utils
from fairseq.data.iterators import EpochBatchIterator

from manifests.errors import InputError, exit_on_input_error
from mmpt_fairseq.data.rows import dataset_is_training
from mmpt_fairseq.models.freezing import AFTER_LAST_UPDATE
from mmpt_fairseq.tasks._every_row import peak_memory_gb

logger = logging.getLogger(__name__)


class LargestBatchFirstMixin:
    """Runs a batch forward and backward before the first update, and forgets it; one of each kind.

    Neither weights nor random numbers nor what is logged know of it. Must stand before
    ``EveryRowMixin`` among a task's bases, whose config says whether it is wanted.
    """

    _untried: EpochBatchIterator | None = None
    _tried = False

    def get_batch_iterator(self, dataset, *args, **kwargs):
        """The other bases', remembered if it is to be trained on."""
        iterator = super().get_batch_iterator(dataset, *args, **kwargs)
        wanted = self.cfg.try_largest_batch and not self._tried and not self._on_short_clips
        if dataset_is_training(dataset) and wanted:
            self._untried = iterator
        return iterator

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        """The other bases', after the trial if it is the first."""
        if self._untried is not None:
            iterator, self._untried, self._tried = self._untried, None, True
            with exit_on_input_error():
                for rows, batch in largest_batches(iterator):
                    self._try(rows, batch, model, criterion, optimizer)
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def _try(self, rows: list[int], batch: dict, model, criterion, optimizer) -> None:
        """As at the end of the training, when all that thaws has thawed.

        Raises:
            InputError: memory does not suffice.
        """
        parameter = next(model.parameters())
        batch = utils.apply_to_sample(
            lambda t: t.to(parameter.device, parameter.dtype if t.is_floating_point() else t.dtype),
            batch,
        )
        devices = [parameter.device] if parameter.is_cuda else []
        what = f"the most expensive batch ({len(rows)} clips, {batch['ntokens']} tokens)"
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
        logger.info("tried %s first: a peak of %.2f GB", what, peak)


def out_of_memory(error: Exception) -> bool:
    """Whether memory did not suffice, for which torch has no error of its own on a CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(
        error
    )


def largest_batches(iterator: EpochBatchIterator) -> Iterator[tuple[list[int], dict]]:
    """Of each kind of clips rows and contents of the batch that costs most, padding counted.

    What a token takes of memory differs from kind to kind, with sound alone or pictures too. Fifty
    batches without a usable clip are enough to stop looking.
    """
    dataset, by_kind = iterator.dataset, defaultdict(list)

    def cost(rows: list[int]) -> int:
        return len(rows) * max(dataset.num_tokens(int(row)) for row in rows)

    for rows in sorted(iterator.frozen_batches, key=cost, reverse=True):
        by_kind[int(dataset.kinds[rows[0]]) if hasattr(dataset, "kinds") else 0].append(rows)
    for costly in by_kind.values():
        for rows in costly[:50]:
            batch = iterator.collate_fn([dataset[int(row)] for row in rows])
            if batch:
                yield rows, batch
                break
