"""Label-smoothed cross entropy of the decoder plus CTC on the encoder: fairseq's own, combined.

Attention alone aligns late on little data; CTC aligns in minutes (arXiv 1609.06773). With
``model.decoder_layers=0`` there is CTC alone.
"""

import math
from dataclasses import dataclass, field

from fairseq.criterions import register_criterion
from fairseq.criterions.label_smoothed_cross_entropy_with_ctc import (
    LabelSmoothedCrossEntropyWithCtcCriterion,
    LabelSmoothedCrossEntropyWithCtcCriterionConfig,
)
from fairseq.logging import metrics

from mmpt_fairseq.errors import InputError


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
    """The blank is the dictionary's BOS; CTC's targets come from the dataset.

    Of a model without decoder it is CTC alone. ``ctc_loss`` is logged in bits a label and without
    its weight, so that runs compare; targets too long for their sound count with a loss of 0.
    """

    def forward(self, model, sample: dict, reduce: bool = True) -> tuple:
        """fairseq's; see :class:`FairseqCriterion`."""
        loss, sample_size, logs = super().forward(model, sample, reduce=reduce)
        logs["with_decoder"] = int(model.has_decoder)
        if self.ctc_weight > 0:
            logs["ctc_loss"] /= self.ctc_weight
            logs["ctc_labels"] = int(sample["ctc_target_lengths"].sum())
        return loss, sample_size, logs

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict]) -> None:
        """fairseq's, with a CTC loss of its own: theirs is weighted, and a token of the decoder.

        Without a decoder there is no likelihood of tokens either, and no perplexity of 1.
        """
        if any(output.get("with_decoder") for output in logging_outputs):
            super(LabelSmoothedCrossEntropyWithCtcCriterion, cls).reduce_metrics(logging_outputs)
        else:
            total, size = (
                sum(output.get(name, 0) for output in logging_outputs)
                for name in ("loss", "sample_size")
            )
            metrics.log_scalar("loss", total / size / math.log(2), size, round=3)
        loss, labels = (
            sum(output.get(name, 0) for output in logging_outputs)
            for name in ("ctc_loss", "ctc_labels")
        )
        if labels:
            metrics.log_scalar("ctc_loss", loss / labels / math.log(2), labels, round=3)

    def compute_loss(self, model, net_output: tuple, sample: dict, reduce: bool = True):
        """Label-smoothed and plain cross entropy, both 0 without a decoder."""
        if net_output[0] is not None:
            return super().compute_loss(model, net_output, sample, reduce=reduce)
        if self.ctc_weight <= 0:
            raise InputError(
                "model.decoder_layers=0 leaves CTC alone to learn from; set criterion.ctc_weight "
                "above 0"
            )
        zero = net_output[1]["encoder_out"]["ctc_logits"][0].new_zeros(()).float()
        return zero, zero.clone()  # fairseq adds to the first in place

    def compute_accuracy(self, model, net_output: tuple, sample: dict):
        """Tokens that the decoder guesses right, and all of them; none without a decoder."""
        if net_output[0] is not None:
            return super().compute_accuracy(model, net_output, sample)
        return (net_output[1]["encoder_out"]["src_lengths"][0].new_zeros(()),) * 2
