"""The alignment against all paths there are."""

import itertools

import numpy as np
import pytest

from mmpt_fairseq.decoding.ctc_alignment import first_frames

BLANK = 0


def every_path(frames: int, labels: int, tokens: list[int]):
    """All label sequences that CTC collapses to ``tokens``, each with its tokens' first frames."""
    for path in itertools.product(range(labels), repeat=frames):
        starts = [t for t in range(frames) if path[t] != (path[t - 1] if t else BLANK)]
        starts = [t for t in starts if path[t] != BLANK]
        if [path[t] for t in starts] == tokens:
            yield path, starts


@pytest.mark.parametrize("tokens", [[1], [1, 2], [1, 1], [2, 1, 1], [1, 2, 1], [1, 1, 1, 1]])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_all_paths(tokens, seed):
    rng = np.random.default_rng(seed)
    lprobs = np.log(rng.dirichlet(np.ones(3), size=7))
    best = max(every_path(7, 3, tokens), key=lambda found: lprobs[range(7), list(found[0])].sum())
    assert first_frames(lprobs, tokens, BLANK) == best[1]


def test_what_does_not_fit():
    lprobs = np.log(np.full((3, 3), 1 / 3))
    assert first_frames(lprobs, [1, 2, 1], BLANK) == [0, 1, 2]
    assert first_frames(lprobs, [1, 1, 2], BLANK) is None
    assert first_frames(lprobs, [1, 2, 1, 2], BLANK) is None
    assert first_frames(lprobs, [], BLANK) == []
