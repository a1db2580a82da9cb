"""Tiny CTC head outputs, and text probabilities by summing over all alignments."""

import itertools
import math

import torch

BLANK, PAD, EOS = 0, 1, 2
LABELS = (4, 5, 6)


def emissions(
    rows: int, frames: int, seed: int = 0, labels=(BLANK, *LABELS), vocabulary: int = 7
) -> torch.Tensor:
    """Random ``(rows, frames, vocabulary)`` log probabilities, -inf except for ``labels``."""
    torch.manual_seed(seed)
    logits = torch.full((rows, frames, vocabulary), -torch.inf)
    logits[..., list(labels)] = 2 * torch.randn(rows, frames, len(labels))
    return logits.log_softmax(-1)


def text_probabilities(lprobs: torch.Tensor) -> dict[tuple[int, ...], float]:
    """Probability of every text, summed over all alignments in ``lprobs`` ``(T, V)``."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product((BLANK, *LABELS), repeat=len(lprobs)):
        text = tuple(label for label, _ in itertools.groupby(path) if label != BLANK)
        weight = math.exp(sum(float(lprobs[t, label]) for t, label in enumerate(path)))
        found[text] = found.get(text, 0.0) + weight
    return found
