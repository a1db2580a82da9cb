"""Label-smoothed cross entropy of the decoder plus CTC on the encoder: fairseq's own, combined.

Attention alone aligns late on little data; CTC aligns in minutes (arXiv 1609.06773).
"""

from dataclasses import dataclass, field

from fairseq.criterions import register_criterion
from fairseq.criterions.label_smoothed_cross_entropy_with_ctc import (
    LabelSmoothedCrossEntropyWithCtcCriterion,
    LabelSmoothedCrossEntropyWithCtcCriterionConfig,
)


@dataclass
class LabelSmoothedCrossEntropyConfig(LabelSmoothedCrossEntropyWithCtcCriterionConfig):
    """fairseq's options with the defaults of its S2T recipes."""

    label_smoothing: float = field(default=0.1, metadata={"help": "0 means no label smoothing"})
    ctc_weight: float = field(
        default=0.3, metadata={"help": "weight of the CTC term beside cross entropy's 1; 0: off"}
    )
    report_accuracy: bool = field(default=True, metadata={"help": "report token accuracy"})


@register_criterion("mmpt_label_smoothed_cross_entropy", dataclass=LabelSmoothedCrossEntropyConfig)
class ManifestLabelSmoothedCrossEntropy(LabelSmoothedCrossEntropyWithCtcCriterion):
    """The blank is the dictionary's BOS; CTC's targets come from the dataset."""
