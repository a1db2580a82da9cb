"""Label-smoothed cross entropy of the decoder plus CTC on the encoder (hybrid CTC/attention).

On little data attention alone aligns late; CTC aligns in minutes (arXiv 1609.06773). With
``model.decoder_layers=0`` the loss is CTC only.
"""

import logging
import math
from dataclasses import dataclass, field

import torch
from fairseq.criterions import register_criterion
from fairseq.criterions.label_smoothed_cross_entropy_with_ctc import (
    LabelSmoothedCrossEntropyWithCtcCriterion,
    LabelSmoothedCrossEntropyWithCtcCriterionConfig,
)
from fairseq.logging import metrics
from omegaconf import II
from torch import Tensor

from manifests.errors import InputError
from mmpt_fairseq.criterions.weights import check_weight
from mmpt_fairseq.modules.ctc_guide import CtcGuide, apply_prior, progress_at, speech_progress

logger = logging.getLogger(__name__)


@dataclass
class LabelSmoothedCrossEntropyConfig(LabelSmoothedCrossEntropyWithCtcCriterionConfig):
    """fairseq's options with the defaults of its S2T recipes."""

    label_smoothing: float = field(default=0.1, metadata={"help": "0 means no label smoothing"})
    ctc_weight: float = field(
        default=0.3, metadata={"help": "weight of CTC, relative to cross entropy; 0: off"}
    )
    ctc_guide_updates: int = field(
        default=0,
        metadata={
            "help": "updates over which a diagonal prior on CTC alignments decays to nothing, so "
            "that CTC aligns sooner; 0: off"
        },
    )
    ctc_guide_width: float = field(
        default=0.06,
        metadata={"help": "standard deviation of the prior, as a fraction of the clip's speech"},
    )
    report_accuracy: bool = field(default=True, metadata={"help": "report token accuracy"})
    max_update: int = II("optimization.max_update")


@register_criterion("mmpt_label_smoothed_cross_entropy", dataclass=LabelSmoothedCrossEntropyConfig)
class ManifestLabelSmoothedCrossEntropy(LabelSmoothedCrossEntropyWithCtcCriterion):
    """fairseq's criterion with the dictionary's BOS as blank and CTC targets from the dataset.

    For a model without decoder the loss is CTC only. ``ctc_loss`` is logged in bits per label,
    unweighted, so that runs are comparable (with guided CTC only in validation: in training it
    includes the prior). Targets too long for their audio count with a loss of 0.
    """

    def __init__(
        self,
        task,
        sentence_avg,
        label_smoothing,
        ignore_prefix_size,
        report_accuracy,
        ctc_weight,
        # Defaults for configs of older checkpoints, which lack these options.
        ctc_guide_updates=LabelSmoothedCrossEntropyConfig.ctc_guide_updates,
        ctc_guide_width=LabelSmoothedCrossEntropyConfig.ctc_guide_width,
        max_update=0,
    ) -> None:
        super().__init__(
            task, sentence_avg, label_smoothing, ignore_prefix_size, report_accuracy, ctc_weight
        )
        check_weight("ctc_weight", ctc_weight)
        if not 0 <= label_smoothing < 1:
            raise InputError(f"criterion.label_smoothing={label_smoothing} must be in [0, 1)")
        if ctc_guide_updates and ctc_weight <= 0:
            raise InputError(
                "criterion.ctc_guide_updates has no effect without CTC; set criterion.ctc_weight "
                "above 0 or criterion.ctc_guide_updates=0"
            )
        if 0 < max_update <= ctc_guide_updates:
            logger.warning(
                "CTC is guided in all updates; set criterion.ctc_guide_updates=%d below "
                "optimization.max_update=%d",
                ctc_guide_updates,
                max_update,
            )
        try:
            self.guide = CtcGuide(ctc_guide_updates, ctc_guide_width)
        except ValueError as error:
            raise InputError(f"criterion.{error}") from None

    def forward(self, model, sample: dict, reduce: bool = True) -> tuple:
        """fairseq's (loss, sample size, logging output)."""
        strength = self.guide.strength(model.encoder.num_updates) if self.training else 0.0
        model = _GuidedModel(model, self.guide.width, strength) if strength else model
        loss, sample_size, logs = super().forward(model, sample, reduce=reduce)
        logs["with_decoder"] = int(model.has_decoder)
        if self.ctc_weight > 0:
            logs["ctc_loss"] /= self.ctc_weight
            logs["ctc_labels"] = int(sample["ctc_target_lengths"].sum())
        return loss, sample_size, logs

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict]) -> None:
        """fairseq's metrics, with our ``ctc_loss``: theirs is weighted and per decoder token.

        Without a decoder, token likelihood and perplexity (always 1) are not logged.
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
                "model.decoder_layers=0 leaves only the CTC loss; set criterion.ctc_weight above 0"
            )
        zero = net_output[1]["encoder_out"]["ctc_logits"][0].new_zeros(()).float()
        return zero, zero.clone()  # cloned, because fairseq adds to the first in place

    def compute_accuracy(self, model, net_output: tuple, sample: dict):
        """Number of correct tokens and of all tokens; both 0 without a decoder."""
        if net_output[0] is not None:
            return super().compute_accuracy(model, net_output, sample)
        return (net_output[1]["encoder_out"]["src_lengths"][0].new_zeros(()),) * 2


class _GuidedModel:
    """Wraps a model for fairseq's criterion; applies the prior to the inputs of CTC."""

    def __init__(self, model, width: float, strength: float) -> None:
        self.model, self.width, self.strength = model, width, strength

    def __call__(self, **net_input) -> tuple[Tensor | None, dict]:
        return self.model(**net_input)

    def __getattr__(self, name: str):
        return getattr(self.model, name)

    def get_ctc_output(self, net_output: tuple, sample: dict) -> tuple[Tensor, Tensor]:
        """Log probabilities ``(T, B, U + 2)`` of the labels in the batch, and lengths ``(B,)``."""
        lprobs, lengths = self.model.get_ctc_output(net_output, sample)
        targets, target_lengths = self.model.get_ctc_target(sample)
        features, frames = (sample["net_input"][name] for name in ("src_tokens", "src_lengths"))
        if self.model.encoder.given_states:  # loudness unknown: assume speech throughout
            features = torch.zeros_like(features)
        progress = speech_progress(features, frames)
        progress = progress_at(progress, frames, len(lprobs), lengths)
        lprobs, target_classes = apply_prior(
            lprobs.transpose(0, 1), targets, target_lengths, progress, self.width, self.strength
        )
        self.targets = target_classes, target_lengths
        return lprobs.transpose(0, 1), lengths

    def get_ctc_target(self, sample: dict) -> tuple[Tensor, Tensor]:
        """Targets as classes of :meth:`get_ctc_output`, which fairseq calls first."""
        return self.targets
