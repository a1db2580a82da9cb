"""When a text was said, by CTC: the best path through its tokens (Viterbi, forced alignment)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def token_spans(
    lprobs: NDArray[np.floating], tokens: Sequence[int], blank: int
) -> list[tuple[int, int]] | None:
    """First and last frame of each token on the most probable path that writes them all.

    Args:
        lprobs: ``(T, V)`` log probabilities.
        tokens: L of them, none the blank.
        blank: its index.

    Returns:
        L pairs in order of time; None where the tokens do not fit into the frames.
    """
    if not tokens:
        return []
    labels = np.full(2 * len(tokens) + 1, blank)  # a blank before, between and after
    labels[1::2] = tokens
    skips = np.zeros(len(labels), dtype=bool)  # over a blank, unless the token before is the same
    skips[3::2] = labels[3::2] != labels[1:-2:2]
    emitted = lprobs[:, labels]  # (T, 2 L + 1)
    score = np.full(len(labels), -np.inf)
    score[:2] = emitted[0, :2]
    steps = np.zeros(emitted.shape, dtype=np.int8)  # places by which the path came forward
    for time in range(1, len(emitted)):
        one = np.concatenate([[-np.inf], score[:-1]])
        two = np.where(skips, np.concatenate([[-np.inf, -np.inf], score[:-2]]), -np.inf)
        options = np.stack([score, one, two])
        steps[time] = options.argmax(axis=0)
        score = options.max(axis=0) + emitted[time]
    place = len(labels) - 1 - int(score[-2] > score[-1])
    if score[place] == -np.inf:
        return None
    spans = [(len(emitted), -1)] * len(tokens)
    for time in range(len(emitted) - 1, -1, -1):
        if place % 2:
            _, last = spans[place // 2]
            spans[place // 2] = time, max(time, last)
        place -= int(steps[time, place])
    return spans
