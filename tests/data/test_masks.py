import numpy as np
import pytest
from scipy.stats import chisquare

from mmpt_fairseq.data.masks import random_mask, span_mask, tube_mask


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.6, 0.75, 0.9])
@pytest.mark.parametrize("length", [10, 250, 1568])
def test_masked_fraction_is_exact(length, ratio):
    for seed in range(5):
        mask = random_mask(length, ratio, np.random.default_rng(seed))
        assert mask.sum() == round(ratio * length)


def test_every_position_is_masked_equally_often():
    rng = np.random.default_rng(0)
    counts = sum(random_mask(50, 0.6, rng).astype(int) for _ in range(4000))
    # Without replacement, the variance per position is 1 - ratio times a multinomial's.
    statistic = chisquare(counts).statistic / 0.4
    assert 20 < statistic < 90  # 49 degrees of freedom: p between 0.0003 and 0.9999


def test_adjacent_positions_are_masked_independently():
    rng = np.random.default_rng(0)
    masks = np.stack([random_mask(50, 0.6, rng) for _ in range(4000)])
    both = (masks[:, 1:] & masks[:, :-1]).mean()
    assert both == pytest.approx(30 / 50 * 29 / 49, abs=0.005)


def test_short_clips_have_a_visible_and_a_masked_token():
    rng = np.random.default_rng(0)
    expected = {(0, 0.6): 0, (1, 0.6): 0, (2, 0.6): 1, (2, 0.99): 1, (3, 0.01): 1, (3, 0.0): 0}
    for (length, ratio), masked in expected.items():
        assert random_mask(length, ratio, rng).sum() == masked


@pytest.mark.parametrize("span", [1, 4, 10, 400])
@pytest.mark.parametrize(("length", "ratio"), [(250, 0.6), (11, 0.5), (2, 0.6), (1, 0.6), (9, 0)])
def test_span_mask_has_as_many_masked_positions_as_random_mask(length, ratio, span):
    for seed in range(20):
        mask = span_mask(length, ratio, span, np.random.default_rng(seed))
        assert mask.shape == (length,)
        assert mask.sum() == random_mask(length, ratio, np.random.default_rng(0)).sum()


def runs_on_a_circle(mask):
    """Lengths of the runs of True, with the last and first positions adjacent."""
    if mask.all() or not mask.any():
        return [int(mask.sum())] if mask.any() else []
    start = int(np.flatnonzero(~mask)[0])
    text = "".join("x" if m else " " for m in np.roll(mask, -start))
    return [len(run) for run in text.split()]


def test_spans_have_the_configured_length():
    rng = np.random.default_rng(0)
    for _ in range(50):
        runs = runs_on_a_circle(span_mask(200, 0.3, 6, rng))
        assert sum(runs) == 60
        assert all(run % 6 == 0 for run in runs)  # touching runs merge
        runs = runs_on_a_circle(span_mask(200, 0.3, 7, rng))  # eight of 7 and one of 4
        assert sum(run % 7 != 0 for run in runs) == 1
    single = [runs_on_a_circle(span_mask(1000, 0.01, 10, rng)) for _ in range(20)]
    assert single == [[10]] * 20


@pytest.mark.parametrize("span", [5, 8])
def test_spans_mask_every_position_equally_often(span):
    """Also at the ends, which runs with random starts would mask less often."""
    rng = np.random.default_rng(0)
    draws = 6000
    counts = sum(span_mask(40, 0.5, span, rng).astype(int) for _ in range(draws))
    deviation = np.sqrt(draws * 0.25)  # standard deviation of a position's count
    assert np.abs(counts - draws / 2).max() < 4 * deviation
    assert counts.sum() == draws * 20


def test_spans_are_placed_independently():
    """Two runs of 4 among 12 visible positions: 14 pieces, so they touch in 2 of 13 cases."""
    rng = np.random.default_rng(0)
    touching = [len(runs_on_a_circle(span_mask(20, 0.4, 4, rng))) == 1 for _ in range(6000)]
    assert np.mean(touching) == pytest.approx(2 / 13, abs=0.015)


def test_tubes_mask_the_same_patches_in_every_time_slice():
    rng = np.random.default_rng(0)
    total = np.zeros((6, 5))
    for _ in range(3000):
        mask = tube_mask((4, 6, 5), 0.6, rng).reshape(4, 6, 5)
        assert (mask == mask[0]).all()
        assert mask[0].sum() == 18
        total += mask[0]
    assert np.abs(total - 1800).max() < 4 * np.sqrt(3000 * 0.24)
