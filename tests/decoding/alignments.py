"""Tiny outputs of a CTC head, and what every text gets by summing over all of its alignments."""

import itertools
import math

import torch

BLANK, PAD, EOS = 0, 1, 2
LABELS = (4, 5, 6)


def emissions(
    rows: int, frames: int, seed: int = 0, labels=(BLANK, *LABELS), vocabulary: int = 7
) -> torch.Tensor:
    """``(rows, frames, vocabulary)`` log probabilities over ``labels`` alone."""
    torch.manual_seed(seed)
    logits = torch.full((rows, frames, vocabulary), -torch.inf)
    logits[..., list(labels)] = 2 * torch.randn(rows, frames, len(labels))
    return logits.log_softmax(-1)


def texts(lprobs: torch.Tensor) -> dict[tuple[int, ...], float]:
    """Probability of every text by summing over all alignments of ``lprobs`` ``(T, V)``."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product((BLANK, *LABELS), repeat=len(lprobs)):
        text = tuple(label for label, _ in itertools.groupby(path) if label != BLANK)
        weight = math.exp(sum(float(lprobs[t, label]) for t, label in enumerate(path)))
        found[text] = found.get(text, 0.0) + weight
    return found
