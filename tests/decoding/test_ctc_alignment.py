"""CTC forced alignment against an enumeration of all paths."""

import itertools

import numpy as np
import pytest

from mmpt_fairseq.decoding.ctc_alignment import token_spans

BLANK = 0


def every_path(frames: int, labels: int, tokens: list[int]):
    """All label sequences that CTC collapses to ``tokens``, with each token's frame span."""
    for path in itertools.product(range(labels), repeat=frames):
        runs = [list(run) for _, run in itertools.groupby(range(frames), key=path.__getitem__)]
        spans = [run for run in runs if path[run[0]] != BLANK]
        if [path[run[0]] for run in spans] == tokens:
            yield path, [(run[0], run[-1]) for run in spans]


@pytest.mark.parametrize("tokens", [[1], [1, 2], [1, 1], [2, 1, 1], [1, 2, 1], [1, 1, 1, 1]])
@pytest.mark.parametrize("seed", range(4))
def test_alignment_is_the_best_of_all_paths(tokens, seed):
    rng = np.random.default_rng(seed)
    lprobs = np.log(rng.dirichlet(np.ones(3), size=7))
    best = max(every_path(7, 3, tokens), key=lambda found: lprobs[range(7), list(found[0])].sum())
    assert token_spans(lprobs, tokens, BLANK) == best[1]


def test_tokens_that_do_not_fit_have_no_alignment():
    lprobs = np.log(np.full((3, 3), 1 / 3))
    assert token_spans(lprobs, [1, 2, 1], BLANK) == [(0, 0), (1, 1), (2, 2)]
    assert token_spans(lprobs, [1, 1, 2], BLANK) is None
    assert token_spans(lprobs, [1, 2, 1, 2], BLANK) is None
    assert token_spans(lprobs, [], BLANK) == []
