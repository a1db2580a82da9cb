"""A prior on CTC's alignments: at first a label may be said only near its share of the speech.

CTC starts on a plateau on which it knows how frequent each label is and nothing else, for it has no
idea which sound is whose. Text and speech go on evenly, though: the k-th of L labels is said when
about (k - 1/2) / L of the speech has been heard. With s the prior's strength, sigma its width and
tau(t) the share of the speech that has been heard at frame t, the probability of a label counts

    max_k exp(-s (tau(t) - (k - 1/2) / L)^2 / (2 sigma^2))

of itself, over the places k that hold it; the blank's counts in full. It is to CTC what guided
attention (arXiv 1710.08969) is to a decoder. Pauses are no speech, so they take none of the text.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmpt_fairseq.modules.masking import padding_mask

# Frames under so much of the range between the quantiles are silence, above the second speech.
QUANTILES = 0.05, 0.95
SILENT, SPOKEN = 0.3, 0.6
NARROWEST = 0.001  # narrower ones are beyond single precision


@dataclass(frozen=True)
class CtcGuide:
    """The prior's course over a training.

    Attributes:
        updates: its strength falls from 1 to 0 in so many.
        width: its standard deviation, a share of the speech.

    Raises:
        ValueError: neither can be.
    """

    updates: int
    width: float

    def __post_init__(self) -> None:
        if self.updates < 0:
            raise ValueError(f"ctc_guide_updates={self.updates} must be 0 (off) or more")
        if self.width < NARROWEST:
            raise ValueError(
                f"ctc_guide_width={self.width} must be {NARROWEST} or more; a label's "
                "place is not known that well (0.06 serves speech)"
            )

    def strength(self, update: int) -> float:
        """1 at the start, 0 from ``updates`` on."""
        return max(0.0, 1 - update / self.updates) if self.updates else 0.0


def speech_progress(features: Tensor, lengths: Tensor) -> Tensor:
    """Share of a clip's speech that has been heard by the middle of each frame, by loudness.

    What SpecAugment has masked counts as loud as the clip's mean, which it was given: where pauses
    are many that moves the clock by some hundredths.

    Args:
        features: ``(B, T, F)`` log mel filterbanks, normalised or not.
        lengths: ``(B,)`` frames of each.

    Returns:
        ``(B, T)`` in 0 to 1, never falling; 1 behind the end. Even, where nothing is louder.
    """
    behind = padding_mask(lengths, features.size(1))
    loudness = features.float().mean(-1).masked_fill(behind, torch.nan)
    quantiles = torch.tensor(QUANTILES, device=features.device)
    low, high = loudness.nanquantile(quantiles, dim=1)[..., None]
    share = ((loudness - low) / (high - low)).clamp(SILENT, SPOKEN) - SILENT
    speech = torch.where(high > low, share, 1.0).masked_fill(behind, 0.0)
    progress = (speech.cumsum(1) - speech / 2) / speech.sum(1, keepdim=True).clamp_min(1e-9)
    return progress.clamp_max(1.0).masked_fill(behind, 1.0)


def apply_prior(
    lprobs: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    progress: Tensor,
    width: float,
    strength: float,
) -> tuple[Tensor, Tensor]:
    """What :func:`torch.nn.functional.ctc_loss` is to be given: the prior is on it.

    Its gradient takes probabilities to sum to 1: what the prior takes from the labels goes, with
    that of all labels that the batch does not say, to a last class, which no target has.

    Args:
        lprobs: ``(B, T, V)`` log probabilities; 0 is the blank.
        targets: ``(B, L)``, none of them the blank.
        target_lengths: ``(B,)``.
        progress: ``(B, T)``, see :func:`speech_progress`.
        width: standard deviation of the prior.
        strength: 0 leaves the loss as it is.

    Returns:
        Log probabilities ``(B, T, U + 2)`` of the blank, the U labels that the batch says and the
        last class; targets ``(B, L)`` among them.
    """
    places = _places(targets.size(1), target_lengths)
    absent = padding_mask(target_lengths, targets.size(1))
    blank = targets.new_zeros(len(targets), 1)
    labels = torch.cat([blank, targets.masked_fill(absent, 0)], 1)
    said, numbered = torch.unique(labels, return_inverse=True)
    numbered = numbered[:, 1:]
    middles = (places + 0.5) / target_lengths[:, None].clamp_min(1)
    prior = -strength * (progress[:, :, None] - middles[:, None]).square() / (2 * width**2)
    prior = prior.masked_fill(absent[:, None], -torch.inf)
    spoken = lprobs.index_select(-1, said)
    weights = torch.full_like(spoken, -torch.inf).scatter_reduce(
        2, numbered[:, None].expand_as(prior), prior, "amax"
    )
    spoken = spoken + weights.masked_fill(weights == -torch.inf, 0.0)  # the blank, other clips'
    rest = 1 - spoken.exp().sum(-1, keepdim=True)
    rest = rest.clamp_min(torch.finfo(rest.dtype).tiny).log()
    return torch.cat([spoken, rest], -1), numbered


def progress_at(progress: Tensor, lengths: Tensor, steps: int, step_lengths: Tensor) -> Tensor:
    """``progress``, ``(B, T)`` of clips of ``lengths``, at an encoder's coarser frames.

    Args:
        steps: the most of them that a clip has.
        step_lengths: ``(B,)``, how many each has.

    Returns:
        ``(B, steps)``.
    """
    middles = (_places(steps, lengths) + 0.5) * (lengths / step_lengths.clamp_min(1))[:, None]
    return progress.gather(1, middles.long().clamp_max(progress.size(1) - 1))


def _places(size: int, beside: Tensor) -> Tensor:
    """``(1, size)``: 0, 1, ... where ``beside`` lies."""
    return torch.arange(size, device=beside.device)[None]
