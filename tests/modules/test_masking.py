import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from mmpt_fairseq.modules.masking import VisibleTokens, random_mask


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.6, 0.75, 0.9])
@pytest.mark.parametrize("length", [10, 250, 1568])
def test_the_share_is_exact(length, ratio):
    for seed in range(5):
        mask = random_mask(length, ratio, np.random.default_rng(seed))
        assert mask.sum() == round(ratio * length)


def test_every_position_is_masked_equally_often():
    rng = np.random.default_rng(0)
    counts = sum(random_mask(50, 0.6, rng).astype(int) for _ in range(4000))
    # Without replacement a position's variance is (1 - ratio) of a multinomial's.
    statistic = chisquare(counts).statistic / 0.4
    assert 20 < statistic < 90  # 49 degrees of freedom: p between 0.0003 and 0.9999


def test_positions_are_drawn_independently_of_their_neighbours():
    rng = np.random.default_rng(0)
    masks = np.stack([random_mask(50, 0.6, rng) for _ in range(4000)])
    both = (masks[:, 1:] & masks[:, :-1]).mean()
    assert both == pytest.approx(30 / 50 * 29 / 49, abs=0.005)


def test_short_clips_keep_a_visible_token_and_mask_one():
    rng = np.random.default_rng(0)
    expected = {(0, 0.6): 0, (1, 0.6): 0, (2, 0.6): 1, (2, 0.99): 1, (3, 0.01): 1, (3, 0.0): 0}
    for (length, ratio), masked in expected.items():
        assert random_mask(length, ratio, rng).sum() == masked


HIDDEN = torch.tensor(
    [[True, False, False, True, False], [True, True, True, False, True], [False] * 4 + [True]]
)


def test_visible_tokens_stand_in_order_of_time():
    visible = VisibleTokens.from_hidden(HIDDEN)
    assert visible.length == 5
    for row in range(3):
        expected = (~HIDDEN[row]).nonzero()[:, 0].tolist()
        kept = ~visible.padding[row]
        assert visible.index[row][kept].tolist() == expected
        assert kept.tolist() == [True] * len(expected) + [False] * (4 - len(expected))


def test_scatter_puts_back_what_gather_took():
    visible = VisibleTokens.from_hidden(HIDDEN)
    x = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)
    fill = torch.randn(2, dtype=torch.float64, requires_grad=True)
    full = visible.scatter(visible.gather(x), fill)
    for row in range(3):
        for position in range(5):
            expected = fill if HIDDEN[row, position] else x[row, position]
            assert torch.equal(full[row, position], expected)
    assert not visible.scatter(visible.gather(x))[HIDDEN].any()
    assert torch.autograd.gradcheck(lambda a, b: visible.scatter(visible.gather(a), b), (x, fill))


def test_nothing_visible_is_one_padded_token():
    visible = VisibleTokens.from_hidden(torch.ones(2, 4, dtype=torch.bool))
    assert visible.padding.tolist() == [[True], [True]]
    assert not visible.scatter(torch.ones(2, 1, 3)).any()
