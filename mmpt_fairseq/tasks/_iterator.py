"""The epoch iterator of all tasks: it marks dummy batches and resumes with a check of the data."""

import gc
import logging
from collections.abc import Sequence

import numpy as np
from fairseq.data import FairseqDataset
from fairseq.data.iterators import EpochBatchIterator

from manifests.errors import InputError, exit_on_input_error
from mmpt_fairseq.data.audio import FRAMES_PER_SECOND
from mmpt_fairseq.data.rows import check_skipped, manifest_datasets

logger = logging.getLogger(__name__)


class DummyMarkingIterator(EpochBatchIterator):
    """Epoch iterator that marks dummy batches with ``is_dummy``.

    fairseq keeps processes in step with unmarked copies of ``first_batch``; their clips must not
    serve as negatives.

    Attributes:
        limit: number of batches of each process, evenly spaced over all: of all kinds and lengths
            of clip. If fairseq itself left an iteration early, a thread of it would wait for ever,
            with the batches that it has read ahead.
        update_freq: batches per update, for each epoch and from the last one on.
    """

    limit: int | None = None
    update_freq: Sequence[int] = (1,)

    def _get_iterator_for_epoch(self, epoch, shuffle, *args, **kwargs):
        # The previous epoch's data loader is in a reference cycle. Workers forked before it is
        # collected would try to shut it down themselves and fill the log with tracebacks.
        gc.collect()
        if not gc.get_freeze_count():
            gc.freeze()  # exempt imported modules: scanning them took 0.25 s per epoch
        if self.dataloader is not None:  # it is used again, with the first epoch's choice
            self.epoch_batch_sampler.shuffle = shuffle
        if self.grouped_shuffling and shuffle:
            lost = len(self.frozen_batches) % self.num_shards
            if lost:
                message = "dataset.grouped_shuffling leaves %d batches out of epoch %d"
                logger.warning(message, lost, epoch)
        return super()._get_iterator_for_epoch(epoch, shuffle, *args, **kwargs)

    def ordered_batches(self, *args) -> list:
        batches = super().ordered_batches(*args)
        if self.limit is None or self.limit >= len(batches):
            return batches
        return [
            batches[i] for i in np.linspace(0, len(batches) - 1, self.limit).round().astype(int)
        ]

    def state_dict(self) -> dict:
        """fairseq's state, plus the size of the data and the number of processes."""
        own = {"data": data_size(self.dataset), "processes": self.num_shards}
        return {**super().state_dict(), **own}

    @exit_on_input_error()
    def load_state_dict(self, state_dict: dict) -> None:
        """Restore fairseq's state; warn if the size of the data has changed.

        With another number of processes, the epoch is continued with the batches that none of them
        has processed; up to the batches of one update are processed again.

        Raises:
            InputError: the epoch now has fewer batches than were already processed.
        """
        current = data_size(self.dataset)
        if (previous := state_dict.get("data", current)) != current:
            message = "this run resumes with different data: %s; previously %s"
            logger.warning(message, _describe(current), _describe(previous))
        # Process i of n reads every n-th batch, and fairseq counts those of one process. It starts
        # at whole updates only.
        done = state_dict["iterations_in_epoch"] * state_dict.get("processes", self.num_shards)
        each = self.update_freq[min(state_dict["epoch"], len(self.update_freq)) - 1]
        position = done // self.num_shards // each * each
        state_dict = {**state_dict, "iterations_in_epoch": position}
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


def data_size(dataset: FairseqDataset) -> list[int]:
    """Total numbers of rows and of filterbank frames."""
    parts = [part.manifest for part in manifest_datasets(dataset)]
    return [sum(map(len, parts)), sum(int(manifest.n_frames.sum()) for manifest in parts)]


def _describe(data: list[int]) -> str:
    rows, frames = data
    return f"{rows} rows, {frames / FRAMES_PER_SECOND / 60:.1f} minutes"
