"""The bootstrap compared with loops over jiwer and sacreBLEU, and with scipy."""

import jiwer
import numpy as np
import pytest
import sacrebleu
from scipy import stats

from manifests.errors import InputError
from mmpt_fairseq.report.intervals import (
    Counts,
    Interval,
    count,
    mean_interval,
    relative_difference,
    texts_digest,
)
from mmpt_fairseq.scoring import bleu, error_rates

RNG = np.random.default_rng(0)
WORDS = np.array(["a", "bee", "can", "do", "every", "fine", "green", "house", "in", "june"])


def texts(number: int) -> list[str]:
    return [" ".join(RNG.choice(WORDS, RNG.integers(3, 12))) for _ in range(number)]


def corrupted(references: list[str], rate: float) -> list[str]:
    """Hypotheses with substitutions, deletions and insertions, the first one empty."""
    result = []
    for text in references:
        words = []
        for word in text.split():
            draw = RNG.random()
            words += [] if draw < rate / 3 else [word if draw > rate else RNG.choice(WORDS)]
            words += ["more"] if RNG.random() < rate / 4 else []
        result.append(" ".join(words))
    return ["", *result[1:]]


REFERENCES = texts(60)
BETTER, WORSE = corrupted(REFERENCES, 0.2), corrupted(REFERENCES, 0.5)


def resampled_rows(n_resamples: int, seed: int = 1) -> list[np.ndarray]:
    """Rows of each resample, by the seeding rule of the module."""
    rng = np.random.default_rng([seed, int(texts_digest(REFERENCES)[:12], 16)])
    return [rng.integers(len(REFERENCES), size=len(REFERENCES)) for _ in range(n_resamples)]


def interval(hypotheses: list[str], unit: str = "word", **options) -> Interval:
    """Interval of one system's score."""
    return mean_interval([count(REFERENCES, hypotheses, unit)], **options)


def difference(hypotheses: list[str], baseline: list[str], **options) -> Interval:
    """Interval of the relative difference between two systems' word error rates."""
    ours, theirs = (count(REFERENCES, texts, "word") for texts in (hypotheses, baseline))
    return relative_difference([ours], [theirs], **options)


def take(items: list[str], rows: np.ndarray) -> list[str]:
    return [items[row] for row in rows]


@pytest.mark.parametrize(("unit", "rate"), [("word", jiwer.wer), ("char", jiwer.cer)])
def test_error_rate_intervals_match_a_loop_over_jiwer(unit, rate):
    rates = [100 * rate(take(REFERENCES, r), take(WORSE, r)) for r in resampled_rows(200)]
    found = interval(WORSE, unit, n_resamples=200)
    assert found.value == pytest.approx(100 * rate(REFERENCES, WORSE))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(rates, [0.025, 0.975])))
    assert found.low < found.value < found.high


def test_bleu_intervals_match_a_loop_over_sacrebleu():
    scores = [
        sacrebleu.corpus_bleu(take(WORSE, r), [take(REFERENCES, r)]).score
        for r in resampled_rows(100)
    ]
    found = interval(WORSE, "bleu", n_resamples=100)
    assert found.value == pytest.approx(bleu(REFERENCES, WORSE)["bleu"])
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(scores, [0.025, 0.975])))


def test_values_match_error_rates():
    rates = error_rates(REFERENCES, BETTER)
    for unit, name in [("word", "wer"), ("char", "cer")]:
        assert count(REFERENCES, BETTER, unit).value == pytest.approx(rates[name])


def test_a_paired_difference_matches_a_loop():
    found = difference(BETTER, WORSE, n_resamples=200)
    differences = []
    for rows in resampled_rows(200):
        references = take(REFERENCES, rows)
        ours, theirs = (jiwer.wer(references, take(h, rows)) for h in (BETTER, WORSE))
        differences.append(100 * (ours / theirs - 1))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))
    assert found.value == pytest.approx(
        100 * (jiwer.wer(REFERENCES, BETTER) / jiwer.wer(REFERENCES, WORSE) - 1)
    )
    assert found.high < 0


def test_a_system_does_not_differ_from_itself():
    found = difference(WORSE, WORSE, n_resamples=50)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_the_interval_agrees_with_scipy():
    """Another implementation with other resamples: equal up to sampling noise."""
    edits, words = count(REFERENCES, WORSE, "word").statistics.T
    theirs = stats.bootstrap(
        (edits, words),
        lambda e, w, axis: 100 * e.sum(axis) / w.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(3),
    ).confidence_interval
    ours = interval(WORSE, n_resamples=4000)
    width = ours.high - ours.low
    assert ours.low == pytest.approx(theirs.low, abs=0.08 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.08 * width)


def test_seeds_on_one_test_set_share_their_draws():
    """Averaging a run with itself changes nothing, because all seeds use the same resamples."""
    one = count(REFERENCES, WORSE, "word")
    assert mean_interval([one, one], n_resamples=100) == mean_interval([one], n_resamples=100)
    both = mean_interval([one, count(REFERENCES, BETTER, "word")], n_resamples=100)
    assert both.value == pytest.approx((one.value + count(REFERENCES, BETTER, "word").value) / 2)


class SeedScore(Counts):
    """A run whose score is the same on every resample, so that only seeds vary."""

    def __init__(self, value: float) -> None:
        super().__init__(np.array([[round(1000 * value), 100_000]]), "0" * 12, "word")


@pytest.mark.parametrize("values", [(30.0, 34.0), (30.0, 34.0, 31.0), (30.0, 34.0, 31.0, 32.0)])
def test_if_only_seeds_vary_the_interval_is_students_t(values):
    found = mean_interval([SeedScore(value) for value in values])
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02 * (high - low))


def test_if_only_seeds_vary_the_false_positive_rate_is_five_percent():
    rng = np.random.default_rng(4)
    for size in (2, 3):
        wrong = 0
        for _ in range(400):
            ours, theirs = ([SeedScore(v) for v in rng.normal(50, 2, size)] for _ in "ab")
            found = relative_difference(ours, theirs, n_resamples=400)
            wrong += not found.low <= 0 <= found.high
        assert wrong / 400 == pytest.approx(0.05, abs=0.03)


def test_intervals_stay_in_the_valid_range():
    found = mean_interval([SeedScore(5.0), SeedScore(6.5)])
    assert found.low == 0
    found = relative_difference([SeedScore(0.0)] * 2, [SeedScore(5.0), SeedScore(6.0)])
    assert (found.value, found.low, found.high) == (-100, -100, -100)


def test_utterance_and_seed_variance_add_up():
    """For ten seeds, whose t is hardly wider than a normal distribution."""
    error_levels = np.linspace(0.3, 0.6, 10)
    runs = [count(REFERENCES, corrupted(REFERENCES, rate), "word") for rate in error_levels]
    found = mean_interval(runs, n_resamples=4000)
    between = np.std([run.value for run in runs], ddof=1) / np.sqrt(10)
    within = np.mean([run.resampled(4000, 1) for run in runs], axis=0).std()
    expected = np.hypot(1.96 * within, stats.t.ppf(0.975, 9) * between)
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.04)
    assert within < 0.95 * np.hypot(within, between)


def test_seeds_are_paired():
    """A relative difference that is the same for every seed has no seed variance."""
    ours = [count(REFERENCES, corrupted(REFERENCES, rate), "word") for rate in (0.2, 0.4, 0.6)]
    same = relative_difference(ours, ours, n_resamples=200)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    other = relative_difference(ours, ours[::-1], n_resamples=200)
    assert other.value == pytest.approx(0)
    assert other.low < -40
    assert other.high > 60


def test_if_only_seeds_vary_a_difference_is_students_t():
    """Compared with Student's t interval of the paired logarithms."""
    ours, theirs = (20.0, 20.6, 20.2, 20.5), (30.0, 30.9, 30.3, 30.1)
    found = relative_difference([SeedScore(v) for v in ours], [SeedScore(v) for v in theirs])
    ends = stats.ttest_rel(np.log(ours), np.log(theirs)).confidence_interval(0.95)
    low, high = (100 * (np.exp(end) - 1) for end in ends)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03 * (high - low))


def test_the_interval_is_reproducible_and_depends_on_the_seed():
    assert interval(WORSE) == interval(WORSE)
    assert interval(WORSE) != interval(WORSE, seed=2)


def test_incomparable_scores_are_rejected():
    other = count(REFERENCES[::-1], WORSE[::-1], "word")
    with pytest.raises(InputError, match="same test set"):
        relative_difference([count(REFERENCES, WORSE, "word")], [other])
    with pytest.raises(InputError, match="reference 2 is empty"):
        count(["a", " "], ["a", "b"], "word")
    with pytest.raises(InputError, match="2 references and 1 hypotheses"):
        count(["a", "b"], ["a"], "word")


def test_a_perfect_baseline_has_no_relative_difference():
    found = difference(WORSE, REFERENCES, n_resamples=20)
    assert not np.isfinite(found.value)
    assert np.isnan(found.low)
