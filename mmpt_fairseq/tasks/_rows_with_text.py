"""Which rows stages 2 and 3 put into batches: those with a text, at first the short ones alone."""

import logging

import numpy as np
from fairseq.data import FairseqDataset
from numpy.typing import NDArray

from manifests.errors import InputError, exit_on_input_error
from mmpt_fairseq.data.rows import dataset_is_training, manifest_datasets
from mmpt_fairseq.tasks._every_row import EveryRowMixin

logger = logging.getLogger(__name__)


class RowsWithTextMixin(EveryRowMixin):
    """Of what :class:`EveryRowMixin` would put into batches, what there is something to learn from.

    The task's config has ``short_first_epochs``, ``short_first_frames`` and ``decodes_with``.
    """

    def get_batch_iterator(self, dataset: FairseqDataset, *args, epoch: int = 1, **kwargs):
        """fairseq's iterator; in the first epochs over the short training clips alone.

        Few words leave little doubt which sound belongs to which of them, so that CTC and
        attention align much sooner (a curriculum: Bengio et al., ICML 2009).
        """
        self._on_short_clips = dataset_is_training(dataset) and epoch <= self.cfg.short_first_epochs
        if self._on_short_clips:
            frames, tokens = kwargs["max_positions"]
            short = min(frames, self.cfg.short_first_frames)
            logger.info("epoch %d is on clips of up to %d frames", epoch, short)
            kwargs["max_positions"] = (short, tokens)
        return super().get_batch_iterator(dataset, *args, epoch=epoch, **kwargs)

    def filter_indices_by_size(self, indices, dataset: FairseqDataset, *args, **kwargs):
        """Rows that have a text and are within the limits."""
        if self.cfg.decodes_with is None:
            with exit_on_input_error():
                indices = _with_text(indices, dataset)
        return super().filter_indices_by_size(indices, dataset, *args, **kwargs)

    def can_reuse_epoch_itr(self, dataset: FairseqDataset) -> bool:
        """Not while an epoch's batches are of short clips alone."""
        return not self._on_short_clips and super().can_reuse_epoch_itr(dataset)


def _with_text(indices: NDArray[np.int64], dataset: FairseqDataset) -> NDArray[np.int64]:
    """Training leaves rows without ``tgt_text`` out: they would teach that nothing was said.

    Raises:
        InputError: such a row is to be validated on, or there is no other.
    """
    parts = [part for part in manifest_datasets(dataset) if not part.tgt_lens.all()]
    if not parts:
        return indices
    first = parts[0].manifest.where(int(np.argmin(parts[0].tgt_lens)))
    if not dataset_is_training(dataset):
        raise InputError(f"{first} has no tgt_text to validate on; leave such rows out")
    kept = np.array([row for row in indices if dataset.size(row)[1]], dtype=np.int64)
    if not len(kept):
        raise InputError(f"no row has a tgt_text to learn, beginning with {first}")
    logger.warning("left out %d rows without tgt_text (%s)", len(indices) - len(kept), first)
    return kept
