"""SUPERB's objectives: cross entropy per slot, CTC, permutation-invariant binary cross entropy.

Sources: arXiv 2105.01051 and s3prl's downstream experts. Cross entropies of slots are summed
(fluent_commands); CTC has ``zero_infinity`` (ctc/libriphone); diarization uses the best permutation
of speakers in each clip (diarization, after EEND, arXiv 1909.05952).
"""

import math
from collections.abc import Sequence
from functools import partial
from itertools import permutations

import torch
import torch.nn.functional as F
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from torch import Tensor

from mmpt_fairseq.decoding.superb import (
    DiarizationErrors,
    diarization_errors,
    downsample_labels,
    predict_batch,
    slot_logits,
    speaker_activities,
    speech_activity,
)
from mmpt_fairseq.models.superb import SuperbOutput
from mmpt_fairseq.modules.masking import padding_mask

METRIC_COUNTS = {
    "accuracy": (("correct",), "clips"),
    "per": (("phone_errors",), "phones"),
    "der": (("missed", "false_alarms", "confused"), "spoken"),
}


@register_criterion("mmpt_superb", dataclass=FairseqDataclass)
class SuperbCriterion(FairseqCriterion):
    """The loss for the task's kind; in validation also its metric."""

    def forward(self, model, sample, reduce=True):
        """fairseq's (loss, sample size, logging output)."""
        output = model(**sample["net_input"])
        kind = self.task.kind
        if kind == "phoneme_recognition":
            loss, size = self._ctc(output, sample), sample["nsentences"]
        elif kind == "speaker_diarization":
            target = downsample_labels(
                sample["target"], model.upstream.stride, output.logits.size(1)
            )
            loss = permutation_invariant_loss(output.logits, target, output.lengths)
            size = int(output.lengths.sum())
        else:
            loss, size = self._cross_entropy(output, sample), sample["nsentences"]
        logs = {
            "loss": loss.detach(),
            "sample_size": size,
            "nsentences": sample["nsentences"],
            "ntokens": sample["ntokens"],
        }
        if not model.training:
            logs |= self._measure(model, output, sample)
        return loss, size, logs

    def _cross_entropy(self, output: SuperbOutput, sample: dict) -> Tensor:
        sizes = [len(slot) for slot in self.task.labels.inventory]
        parts = slot_logits(output.logits.float(), sizes)
        pairs = zip(parts, sample["target"].unbind(dim=1), strict=True)
        return sum(F.cross_entropy(part, target, reduction="sum") for part, target in pairs)

    def _ctc(self, output: SuperbOutput, sample: dict) -> Tensor:
        """CTC loss divided by each clip's number of phones, summed (torch's "mean" averages it)."""
        losses = F.ctc_loss(
            output.logits.float().log_softmax(-1).transpose(0, 1),
            sample["target"],
            output.lengths,
            sample["target_lengths"],
            blank=self.task.labels.dictionary.bos(),
            reduction="none",
            zero_infinity=True,
        )
        return (losses / sample["target_lengths"]).sum()

    def _measure(self, model, output: SuperbOutput, sample: dict) -> dict:
        """Sums from which :meth:`reduce_metrics` computes the metric."""
        if self.task.kind == "speaker_diarization":
            return vars(self._diarize(model, output, sample))
        _, wrong, total = predict_batch(output, sample, self.task.labels)
        if self.task.kind == "phoneme_recognition":
            return {"phone_errors": wrong, "phones": total}
        return {"correct": total - wrong, "clips": total}

    def _diarize(self, model, output: SuperbOutput, sample: dict) -> DiarizationErrors:
        total, scoring = DiarizationErrors(), self.task.scoring
        for probabilities, reference in speaker_activities(output, sample, model.upstream.stride):
            active = speech_activity(probabilities, scoring.threshold, scoring.median)
            total = total + diarization_errors(reference, active, scoring.collar)
        return total

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict]) -> None:
        """Loss per clip (diarization: per frame) and the metric in percent."""

        def total(key: str) -> float:
            return float(sum(logs.get(key, 0) for logs in logging_outputs))

        size = total("sample_size")
        metrics.log_scalar("loss", total("loss") / max(size, 1), size, round=4)
        # Sums are logged, not ratios: a batch without speech may still have false alarms.
        for name, (parts, count) in METRIC_COUNTS.items():
            if any(count in logs for logs in logging_outputs):
                for key in (*parts, count):
                    metrics.log_scalar(f"_{key}", total(key))
                metrics.log_derived(name, partial(_percent, parts=parts, count=count))

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def _percent(meters: dict, parts: Sequence[str], count: str) -> float:
    """Ratio of sums over a validation set in percent; infinite for errors without reference."""
    errors = sum(meters[f"_{part}"].sum for part in parts)
    total = meters[f"_{count}"].sum
    return round(100 * errors / total, 2) if total else math.inf if errors else 0.0


def permutation_invariant_loss(logits: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
    """Binary cross entropy under the best speaker permutation per clip, summed over frames.

    Args:
        logits, target: ``(B, T, S)``, S speakers.
        lengths: ``(B,)``.
    """
    inside = ~padding_mask(lengths, logits.size(1))
    losses = []
    for order in permutations(range(target.size(-1))):
        loss = F.binary_cross_entropy_with_logits(
            logits.float(), target[..., list(order)].float(), reduction="none"
        )
        losses.append((loss.mean(dim=-1) * inside).sum(dim=1))
    return torch.stack(losses).min(dim=0).values.sum()
