"""SUPERB's outputs as predictions, and its metrics.

Accuracy: all slots of a clip must be right (with one slot, plain accuracy). PER: edits between
phones over the phones of the references. DER (NIST's md-eval): time missed, falsely alarmed and
confused between speakers, over the time spoken, in 10 ms frames, speakers matched within each
recording as suits the hypothesis best.
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
    """``(B, classes of all slots)`` -> ``(B, classes)`` a slot."""
    return list(logits.split(list(sizes), dim=-1))


def predict_slots(logits: Tensor, sizes: Sequence[int]) -> Tensor:
    """``(B, slots)`` the likeliest class of each."""
    return torch.stack([part.argmax(dim=-1) for part in slot_logits(logits, sizes)], dim=-1)


def correct_clips(predicted: Tensor, target: Tensor) -> int:
    """Rows of ``(B, slots)`` in which every slot is right."""
    return int((predicted == target).all(dim=-1).sum())


def phone_errors(reference: Sequence, hypothesis: Sequence) -> int:
    """Insertions, deletions and substitutions."""
    return int(editdistance.eval(list(reference), list(hypothesis)))


def recognised(
    output: "SuperbOutput", sample: dict, labels: ClassLabels | PhoneLabels
) -> tuple[list[Tensor], int, int]:
    """What was recognised in each clip of a batch, phones or the class of each slot; how many of
    the phones or clips are wrong, and how many there are."""
    target = sample["target"]
    if isinstance(labels, ClassLabels):
        found = predict_slots(output.logits, [len(slot) for slot in labels.inventory])
        return list(found), len(found) - correct_clips(found, target), len(found)
    lengths = sample["target_lengths"].tolist()
    phones = greedy_labels(output.logits, output.lengths, labels.dictionary.bos())
    clips = zip(target, lengths, phones, strict=True)
    wrong = sum(phone_errors(row[:length].tolist(), said.tolist()) for row, length, said in clips)
    return phones, wrong, sum(lengths)


def activities(
    output: "SuperbOutput", sample: dict, stride: int
) -> Iterator[tuple[NDArray[np.float32], Activity]]:
    """Of each recording of a batch the probabilities that its speakers speak, and whether they do,
    ``(T, speakers)`` each, in 10 ms frames.

    Args:
        stride: frames of an upstream's state.
    """
    for i, frames in enumerate(sample["target_lengths"].tolist()):
        logits = output.logits[i, : output.lengths[i]].detach()
        found = in_frames(logits.sigmoid(), stride, frames).float()
        yield found.cpu().numpy(), sample["target"][i, :frames].bool().cpu().numpy()


@dataclass(frozen=True)
class DiarizationErrors:
    """Speaker frames missed, falsely alarmed, given to the wrong speaker; and those spoken."""

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
        """DER; where nobody speaks, 0 without a false alarm and infinite with one."""
        if not self.spoken:
            return float("inf") if self.wrong else 0.0
        return self.wrong / self.spoken


def diarization_errors(
    reference: Activity, hypothesis: Activity, collar: int = 0
) -> DiarizationErrors:
    """Errors of one recording, any number of speakers on either side, overlaps included.

    Args:
        reference, hypothesis: ``(T, speakers)``.
        collar: frames on either side of a reference's boundary that do not count.
    """
    from scipy.optimize import linear_sum_assignment  # not wanted by what recognises speech

    scored = ~near_boundaries(reference, collar)
    # Speakers are matched on what is scored, as dscore does.
    reference, hypothesis = reference[scored], hypothesis[scored]
    overlap = reference.T.astype(np.int64) @ hypothesis.astype(np.int64)
    correct = int(overlap[linear_sum_assignment(-overlap)].sum())
    spoken, heard = reference.sum(axis=1), hypothesis.sum(axis=1)
    return DiarizationErrors(
        missed=int(np.maximum(spoken - heard, 0).sum()),
        false_alarms=int(np.maximum(heard - spoken, 0).sum()),
        confused=int(np.minimum(spoken, heard).sum()) - correct,
        spoken=int(spoken.sum()),
    )


def near_boundaries(reference: Activity, collar: int) -> NDArray[np.bool_]:
    """``(T,)``, True within ``collar`` frames of where a speaker of the reference changes."""
    near = np.zeros(len(reference), dtype=bool)
    if collar:
        padded = np.pad(reference, ((1, 1), (0, 0)))
        for boundary in np.flatnonzero((padded[1:] != padded[:-1]).any(axis=1)):
            near[max(0, boundary - collar) : boundary + collar] = True
    return near


def in_frames(values: Tensor, stride: int, frames: int) -> Tensor:
    """``(T / stride, S)`` of an upstream's states as ``(frames, S)`` of 10 ms, by repetition."""
    index = torch.arange(frames, device=values.device) // stride
    return values[index.clamp(max=len(values) - 1)]


def at_states(target: Tensor, stride: int, states: int) -> Tensor:
    """``(B, frames, S)`` labels of 10 ms as ``(B, states, S)``: those in the middle of a state."""
    index = torch.arange(states, device=target.device) * stride + stride // 2
    return target[:, index.clamp(max=target.size(1) - 1)]


def speech_activity(probabilities: NDArray, threshold: float, median: int) -> Activity:
    """``(T, S)`` above the threshold, smoothed by a median over ``median`` frames (1: not)."""
    from scipy.ndimage import median_filter

    active = probabilities > threshold
    return median_filter(active, size=(median, 1), mode="constant") if median > 1 else active
