"""A diagonal prior on CTC alignments early in training, like guided attention (arXiv 1710.08969).

CTC training starts on a plateau where the model only knows label frequencies, as it has no
alignment yet. Text and speech progress roughly evenly, though: the k-th of L labels is spoken after
about (k - 1/2) / L of the speech. With s the strength of the prior, sigma its width and tau(t) the
fraction of the speech that has passed at frame t, the probability of a label is multiplied by

    max_k exp(-s (tau(t) - (k - 1/2) / L)^2 / (2 sigma^2))

over the positions k of that label in the target; the blank's is unchanged. Pauses do not count as
speech.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmpt_fairseq.modules.masking import padding_mask

# Loudness relative to the range between these quantiles: silence below the first threshold, speech
# above the second, linear in between.
QUANTILES = 0.05, 0.95
SILENCE_LEVEL, SPEECH_LEVEL = 0.3, 0.6
MIN_WIDTH = 0.001  # a smaller width exceeds single precision


@dataclass(frozen=True)
class CtcGuide:
    """Schedule of the prior over training.

    Attributes:
        updates: number of updates in which the strength falls from 1 to 0; 0: off.
        width: standard deviation, as a fraction of the speech.

    Raises:
        ValueError: a value is out of range.
    """

    updates: int
    width: float

    def __post_init__(self) -> None:
        if self.updates < 0:
            raise ValueError(f"ctc_guide_updates={self.updates} must be 0 (off) or more")
        if self.width < MIN_WIDTH:
            raise ValueError(
                f"ctc_guide_width={self.width} must be {MIN_WIDTH} or more; a label's "
                "position is not known more precisely (0.06 works for speech)"
            )

    def strength(self, update: int) -> float:
        """Strength at an update: 1 at the start, 0 from ``updates`` on."""
        return max(0.0, 1 - update / self.updates) if self.updates else 0.0


def speech_progress(features: Tensor, lengths: Tensor) -> Tensor:
    """Fraction of a clip's speech that has passed by the middle of each frame, from loudness.

    Frames masked by SpecAugment count with the clip's mean loudness, by which it replaced them;
    with many pauses that shifts the result by a few hundredths.

    Args:
        features: ``(B, T, F)`` log mel filterbanks, normalised or not.
        lengths: ``(B,)`` frames per clip.

    Returns:
        ``(B, T)`` in [0, 1], non-decreasing; 1 in padding. Linear in time at constant loudness.
    """
    padding = padding_mask(lengths, features.size(1))
    loudness = features.float().mean(-1).masked_fill(padding, torch.nan)
    quantiles = torch.tensor(QUANTILES, device=features.device)
    low, high = loudness.nanquantile(quantiles, dim=1)[..., None]
    level = ((loudness - low) / (high - low)).clamp(SILENCE_LEVEL, SPEECH_LEVEL) - SILENCE_LEVEL
    speech = torch.where(high > low, level, 1.0).masked_fill(padding, 0.0)
    progress = (speech.cumsum(1) - speech / 2) / speech.sum(1, keepdim=True).clamp_min(1e-9)
    return progress.clamp_max(1.0).masked_fill(padding, 1.0)


def apply_prior(
    lprobs: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    progress: Tensor,
    width: float,
    strength: float,
) -> tuple[Tensor, Tensor]:
    """Apply the prior to the inputs of :func:`torch.nn.functional.ctc_loss`.

    The gradient of ctc_loss assumes that probabilities sum to 1: the mass removed by the prior, and
    that of all labels absent from the batch, goes to a last class that no target contains.

    Args:
        lprobs: ``(B, T, V)`` log probabilities; 0 is the blank.
        targets: ``(B, L)``, without blanks.
        target_lengths: ``(B,)``.
        progress: ``(B, T)``, see :func:`speech_progress`.
        width: standard deviation of the prior.
        strength: 0 leaves the loss unchanged.

    Returns:
        Log probabilities ``(B, T, U + 2)`` of the blank, the U labels in the batch's targets and
        the last class; targets ``(B, L)`` as indices of these classes.
    """
    positions = _positions(targets.size(1), target_lengths)
    padding = padding_mask(target_lengths, targets.size(1))
    blank = targets.new_zeros(len(targets), 1)
    labels = torch.cat([blank, targets.masked_fill(padding, 0)], 1)
    classes, target_classes = torch.unique(labels, return_inverse=True)
    target_classes = target_classes[:, 1:]
    centres = (positions + 0.5) / target_lengths[:, None].clamp_min(1)
    prior = -strength * (progress[:, :, None] - centres[:, None]).square() / (2 * width**2)
    prior = prior.masked_fill(padding[:, None], -torch.inf)
    kept = lprobs.index_select(-1, classes)
    weights = torch.full_like(kept, -torch.inf).scatter_reduce(
        2, target_classes[:, None].expand_as(prior), prior, "amax"
    )
    kept = kept + weights.masked_fill(weights == -torch.inf, 0.0)  # blank, other clips' labels
    rest = 1 - kept.exp().sum(-1, keepdim=True)
    rest = rest.clamp_min(torch.finfo(rest.dtype).tiny).log()
    return torch.cat([kept, rest], -1), target_classes


def progress_at(progress: Tensor, lengths: Tensor, steps: int, step_lengths: Tensor) -> Tensor:
    """Sample ``progress`` at the middles of the encoder's coarser frames.

    Args:
        progress: ``(B, T)``, see :func:`speech_progress`.
        lengths: ``(B,)`` frames per clip.
        steps: encoder frames of the longest clip.
        step_lengths: ``(B,)`` encoder frames per clip.

    Returns:
        ``(B, steps)``.
    """
    centres = (_positions(steps, lengths) + 0.5) * (lengths / step_lengths.clamp_min(1))[:, None]
    return progress.gather(1, centres.long().clamp_max(progress.size(1) - 1))


def _positions(size: int, like: Tensor) -> Tensor:
    """``(1, size)``: 0, 1, ... on the device of ``like``."""
    return torch.arange(size, device=like.device)[None]
