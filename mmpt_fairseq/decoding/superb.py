"""Predictions and metrics of the SUPERB tasks.

Accuracy: a clip is correct if all its slots are (with one slot, plain accuracy). PER: phone edits
over reference phones. DER (NIST's md-eval): missed speech, false alarms and speaker confusion over
the total speech time, in 10 ms frames, with the optimal speaker mapping for each recording.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import editdistance
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmpt_fairseq.data.superb_labels import ClassLabels, PhoneLabels
from mmpt_fairseq.decoding.ctc import greedy_labels

if TYPE_CHECKING:
    from mmpt_fairseq.models.superb import SuperbOutput

Activity = NDArray[np.bool_]  # (T, speakers), 10 ms frames


def slot_logits(logits: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Split ``(B, classes of all slots)`` into ``(B, classes)`` per slot."""
    return list(logits.split(list(sizes), dim=-1))


def predict_slots(logits: Tensor, sizes: Sequence[int]) -> Tensor:
    """``(B, slots)``: most probable class of each slot."""
    return torch.stack([part.argmax(dim=-1) for part in slot_logits(logits, sizes)], dim=-1)


def correct_clips(predicted: Tensor, target: Tensor) -> int:
    """Number of rows of ``(B, slots)`` in which every slot is correct."""
    return int((predicted == target).all(dim=-1).sum())


def phone_errors(reference: Sequence, hypothesis: Sequence) -> int:
    """Number of insertions, deletions and substitutions."""
    return int(editdistance.eval(list(reference), list(hypothesis)))


def predict_batch(
    output: "SuperbOutput", sample: dict, labels: ClassLabels | PhoneLabels
) -> tuple[list[Tensor], int, int]:
    """Predictions of a batch, the number of errors and their denominator.

    Returns:
        Phones or slot classes of each clip; phone edits or wrong clips; reference phones or clips.
    """
    target = sample["target"]
    if isinstance(labels, ClassLabels):
        found = predict_slots(output.logits, [len(slot) for slot in labels.inventory])
        return list(found), len(found) - correct_clips(found, target), len(found)
    lengths = sample["target_lengths"].tolist()
    phones = greedy_labels(output.logits, output.lengths, labels.dictionary.bos())
    clips = zip(target, lengths, phones, strict=True)
    wrong = sum(phone_errors(row[:length].tolist(), found.tolist()) for row, length, found in clips)
    return phones, wrong, sum(lengths)


def speaker_activities(
    output: "SuperbOutput", sample: dict, stride: int
) -> Iterator[tuple[NDArray[np.float32], Activity]]:
    """Predicted speech probabilities and reference activity of each recording in a batch.

    Args:
        stride: 10 ms frames per upstream state.

    Yields:
        Two arrays ``(T, speakers)`` in 10 ms frames.
    """
    for i, frames in enumerate(sample["target_lengths"].tolist()):
        logits = output.logits[i, : output.lengths[i]].detach()
        found = in_frames(logits.sigmoid(), stride, frames).float()
        yield found.cpu().numpy(), sample["target"][i, :frames].bool().cpu().numpy()


@dataclass(frozen=True)
class DiarizationErrors:
    """Frames of missed speech, false alarms and speaker confusion, and of reference speech."""

    missed: int = 0
    false_alarms: int = 0
    confused: int = 0
    spoken: int = 0

    def __add__(self, other: "DiarizationErrors") -> "DiarizationErrors":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return DiarizationErrors(*(a + b for a, b in pairs))

    @property
    def wrong(self) -> int:
        return self.missed + self.false_alarms + self.confused

    @property
    def rate(self) -> float:
        """DER; without reference speech, 0 if there are no false alarms and infinite otherwise."""
        if not self.spoken:
            return float("inf") if self.wrong else 0.0
        return self.wrong / self.spoken


def diarization_errors(
    reference: Activity, hypothesis: Activity, collar: int = 0
) -> DiarizationErrors:
    """Errors of one recording, with any number of speakers on either side and with overlaps.

    Args:
        reference, hypothesis: ``(T, speakers)``.
        collar: frames on either side of each reference boundary that are not scored.
    """
    from scipy.optimize import linear_sum_assignment  # lazy: speech recognition does not need it

    scored = ~near_boundaries(reference, collar)
    # The speaker mapping uses scored frames only, as in dscore.
    reference, hypothesis = reference[scored], hypothesis[scored]
    overlap = reference.T.astype(np.int64) @ hypothesis.astype(np.int64)
    correct = int(overlap[linear_sum_assignment(-overlap)].sum())
    spoken, detected = reference.sum(axis=1), hypothesis.sum(axis=1)
    return DiarizationErrors(
        missed=int(np.maximum(spoken - detected, 0).sum()),
        false_alarms=int(np.maximum(detected - spoken, 0).sum()),
        confused=int(np.minimum(spoken, detected).sum()) - correct,
        spoken=int(spoken.sum()),
    )


def near_boundaries(reference: Activity, collar: int) -> NDArray[np.bool_]:
    """``(T,)`` mask, True within ``collar`` frames of a speaker boundary in the reference."""
    near = np.zeros(len(reference), dtype=bool)
    if collar:
        padded = np.pad(reference, ((1, 1), (0, 0)))
        for boundary in np.flatnonzero((padded[1:] != padded[:-1]).any(axis=1)):
            near[max(0, boundary - collar) : boundary + collar] = True
    return near


def in_frames(values: Tensor, stride: int, frames: int) -> Tensor:
    """Upsample ``(T / stride, S)`` upstream states to ``(frames, S)`` at 10 ms by repetition."""
    index = torch.arange(frames, device=values.device) // stride
    return values[index.clamp(max=len(values) - 1)]


def downsample_labels(target: Tensor, stride: int, states: int) -> Tensor:
    """Downsample ``(B, frames, S)`` labels at 10 ms to ``(B, states, S)``: each state's middle."""
    index = torch.arange(states, device=target.device) * stride + stride // 2
    return target[:, index.clamp(max=target.size(1) - 1)]


def speech_activity(probabilities: NDArray, threshold: float, median: int) -> Activity:
    """``(T, S)`` activity above the threshold, median-filtered over ``median`` frames (1: off)."""
    from scipy.ndimage import median_filter

    active = probabilities > threshold
    return median_filter(active, size=(median, 1), mode="constant") if median > 1 else active
