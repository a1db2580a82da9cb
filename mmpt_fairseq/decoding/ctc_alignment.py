"""CTC forced alignment: the Viterbi path through the tokens of a given text."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def token_spans(
    lprobs: NDArray[np.floating], tokens: Sequence[int], blank: int
) -> list[tuple[int, int]] | None:
    """First and last frame of each token on the most probable alignment.

    Args:
        lprobs: ``(T, V)`` log probabilities.
        tokens: L token indices without blanks.
        blank: index of the blank.

    Returns:
        L pairs in temporal order; None if the tokens do not fit into the frames.
    """
    if not tokens:
        return []
    labels = np.full(2 * len(tokens) + 1, blank)  # blanks before, between and after the tokens
    labels[1::2] = tokens
    skips = np.zeros(len(labels), dtype=bool)  # a blank may be skipped between different tokens
    skips[3::2] = labels[3::2] != labels[1:-2:2]
    emitted = lprobs[:, labels]  # (T, 2 L + 1)
    score = np.full(len(labels), -np.inf)
    score[:2] = emitted[0, :2]
    steps = np.zeros(emitted.shape, dtype=np.int8)  # backpointers: states advanced (0, 1 or 2)
    for time in range(1, len(emitted)):
        advance = np.concatenate([[-np.inf], score[:-1]])
        skip = np.where(skips, np.concatenate([[-np.inf, -np.inf], score[:-2]]), -np.inf)
        options = np.stack([score, advance, skip])
        steps[time] = options.argmax(axis=0)
        score = options.max(axis=0) + emitted[time]
    state = len(labels) - 1 - int(score[-2] > score[-1])
    if score[state] == -np.inf:
        return None
    spans = [(len(emitted), -1)] * len(tokens)
    for time in range(len(emitted) - 1, -1, -1):
        if state % 2:
            _, last = spans[state // 2]
            spans[state // 2] = time, max(time, last)
        state -= int(steps[time, state])
    return spans
