"""Registered criterions; importing this package registers them."""

from mmpt_fairseq.criterions import (
    contrastive,
    label_smoothed_cross_entropy,
    masked_reconstruction,
    superb,
)

__all__ = ["contrastive", "label_smoothed_cross_entropy", "masked_reconstruction", "superb"]
