"""Row selection in stages 2 and 3: rows with text, optionally only short clips at first."""

import logging

import numpy as np
from fairseq.data import FairseqDataset
from numpy.typing import NDArray

from manifests.errors import InputError, exit_on_input_error
from mmpt_fairseq.data.rows import is_training_set, manifest_datasets
from mmpt_fairseq.tasks._every_row import EveryRowMixin

logger = logging.getLogger(__name__)


class RowsWithTextMixin(EveryRowMixin):
    """:class:`EveryRowMixin` restricted to rows with a target text.

    The task's config has ``short_first_epochs``, ``short_first_frames`` and ``decodes_with``.
    """

    def get_batch_iterator(self, dataset: FairseqDataset, *args, epoch: int = 1, **kwargs):
        """fairseq's iterator; in the first epochs over short training clips only.

        With few words per clip the alignment is less ambiguous, so that CTC and attention align
        much sooner (curriculum learning: Bengio et al., ICML 2009).
        """
        self._on_short_clips = is_training_set(dataset) and epoch <= self.cfg.short_first_epochs
        if self._on_short_clips:
            frames, tokens = kwargs["max_positions"]
            short = min(frames, self.cfg.short_first_frames)
            logger.info("epoch %d uses clips of up to %d frames", epoch, short)
            kwargs["max_positions"] = (short, tokens)
        return super().get_batch_iterator(dataset, *args, epoch=epoch, **kwargs)

    def filter_indices_by_size(self, indices, dataset: FairseqDataset, *args, **kwargs):
        """Keep rows that have a text and are within the limits."""
        if self.cfg.decodes_with is None:
            with exit_on_input_error():
                indices = _rows_with_text(indices, dataset)
        return super().filter_indices_by_size(indices, dataset, *args, **kwargs)

    def can_reuse_epoch_itr(self, dataset: FairseqDataset) -> bool:
        """False while the curriculum limits batches to short clips."""
        return not self._on_short_clips and super().can_reuse_epoch_itr(dataset)


def _rows_with_text(indices: NDArray[np.int64], dataset: FairseqDataset) -> NDArray[np.int64]:
    """Drop training rows without ``tgt_text``: they would teach the model to output nothing.

    Raises:
        InputError: a validation row has no text, or no training row has any.
    """
    parts = [part for part in manifest_datasets(dataset) if not part.tgt_lens.all()]
    if not parts:
        return indices
    first = parts[0].manifest.where(int(np.argmin(parts[0].tgt_lens)))
    if not is_training_set(dataset):
        raise InputError(f"{first} has no tgt_text to validate on; remove such rows")
    kept = np.array([row for row in indices if dataset.size(row)[1]], dtype=np.int64)
    if not len(kept):
        raise InputError(f"no row has a tgt_text to train on; the first without is {first}")
    logger.warning("left out %d rows without tgt_text (%s)", len(indices) - len(kept), first)
    return kept
