"""Bootstrap intervals of error rates and BLEU (Efron, Ann. Statist. 1979; Koehn, EMNLP 2004).

Utterances are resampled with replacement and each resampled test set is scored. Resamples depend
on the test set and the seed only: two systems, or one system trained with several seeds, are
compared on the same resamples (paired bootstrap).

For a system trained with several seeds, the interval also covers the choice of seeds: the error of
the mean of n scores is their standard error times Student's t with n - 1 degrees of freedom, and is
added to the resampled scores. Two seeds say little about others (t is 12.7; for three seeds 4.3),
so their intervals are that wide. The interval of a single run does not cover other seeds.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manifests.errors import InputError
from mmpt_fairseq.scoring import Unit, normalise_text, refuse_empty, score, statistics

N_RESAMPLES = 2000
SEED = 1
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A score and the ends of its interval, in the unit of the score."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Counts:
    """Sufficient statistics for the score of any resampled test set.

    Attributes:
        statistics: ``(N, K)``, a row per utterance (:func:`mmpt_fairseq.scoring.statistics`).
        test_set: hash of the references.
        unit: ``word`` or ``char`` (error rate in percent) or ``bleu``.
    """

    statistics: NDArray[np.int64]
    test_set: str
    unit: Unit

    def score(self, sums: NDArray[np.int64]) -> NDArray[np.float64]:
        """Scores ``(n_resamples,)`` from summed statistics ``(n_resamples, K)``."""
        return np.array([score(row, self.unit) for row in sums.tolist()])

    @property
    def value(self) -> float:
        """Score of the original test set."""
        return float(self.score(self.statistics.sum(0, keepdims=True))[0])

    def resampled(self, n_resamples: int, seed: int) -> NDArray[np.float64]:
        """Scores ``(n_resamples,)`` of resampled test sets."""
        rng = np.random.default_rng([seed, int(self.test_set[:12], 16)])
        rows = len(self.statistics)
        sums = np.stack(
            [
                np.bincount(rng.integers(rows, size=rows), minlength=rows) @ self.statistics
                for _ in range(n_resamples)
            ]
        )
        return self.score(sums)


def count(references: Sequence[str], hypotheses: Sequence[str], unit: Unit) -> Counts:
    """Statistics of every utterance, with both sides normalised by :func:`normalise_text`.

    Raises:
        InputError: different numbers of references and hypotheses, none at all, or (for error
            rates) an empty reference.
    """
    if len(references) != len(hypotheses) or not references:
        raise InputError(
            f"{len(references)} references and {len(hypotheses)} hypotheses cannot be compared"
        )
    references = [normalise_text(r) for r in references]
    hypotheses = [normalise_text(h) for h in hypotheses]
    if unit != "bleu":
        refuse_empty(references)
    return Counts(statistics(references, hypotheses, unit), texts_digest(references), unit)


def texts_digest(texts: Sequence[str]) -> str:
    """Hash of texts in their order."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def mean_interval(
    runs: Sequence[Counts], n_resamples: int = N_RESAMPLES, seed: int = SEED, level: float = LEVEL
) -> Interval:
    """Mean score of a system's runs (one per seed) with its interval."""
    values = np.array([run.value for run in runs])
    resampled = _resampled_means(runs, n_resamples, seed) + _seed_errors(values, n_resamples, seed)
    return _interval(
        float(values.mean()), np.maximum(resampled, 0), level
    )  # scores are never negative


def relative_difference(
    runs: Sequence[Counts],
    baselines: Sequence[Counts],
    n_resamples: int = N_RESAMPLES,
    seed: int = SEED,
    level: float = LEVEL,
) -> Interval:
    """Paired relative difference between the mean scores of ``runs`` and ``baselines``, in percent.

    Both must have the same seeds in the same order; the error due to seeds is that of the
    logarithm of the quotient.

    Raises:
        InputError: both sides do not have the same test sets, each equally often.
    """
    if sorted(r.test_set for r in runs) != sorted(b.test_set for b in baselines):
        raise InputError("a paired comparison needs the same test set on both sides")
    ours, theirs = (np.array([run.value for run in side]) for side in (runs, baselines))
    with np.errstate(divide="ignore", invalid="ignore"):
        quotients = _resampled_means(runs, n_resamples, seed) / _resampled_means(
            baselines, n_resamples, seed
        )
        quotient = ours.mean() / theirs.mean()
        # Errors of the logarithm, to first order.
        errors = ours / (ours.mean() or 1) - theirs / (theirs.mean() or 1)
        resampled = quotients * np.exp(_seed_errors(errors, n_resamples, seed))
    return _interval(100 * float(quotient - 1), 100 * (resampled - 1), level)


def _resampled_means(runs: Sequence[Counts], n_resamples: int, seed: int) -> NDArray[np.float64]:
    """Mean scores ``(n_resamples,)`` of all runs on resampled test sets."""
    return np.mean([run.resampled(n_resamples, seed) for run in runs], axis=0)


def _seed_errors(values: NDArray[np.float64], n_resamples: int, seed: int) -> NDArray[np.float64]:
    """Errors ``(n_resamples,)`` of the mean of ``values``, which are one per seed.

    They are quantiles of Student's t in random order, which vary less than random draws from t.
    """
    if len(values) == 1:
        return np.zeros(n_resamples)
    from scipy.stats import t  # slow to import, and not needed for a single run

    quantiles = t.ppf((np.arange(n_resamples) + 0.5) / n_resamples, len(values) - 1)
    standard = values.std(ddof=1) / np.sqrt(len(values))
    return standard * np.random.default_rng(seed).permutation(quantiles)


def _interval(value: float, resampled: NDArray[np.float64], level: float) -> Interval:
    """Percentiles of resampled scores, ignoring non-finite ones (the baseline has no error)."""
    resampled = resampled[np.isfinite(resampled)]
    if not len(resampled):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
