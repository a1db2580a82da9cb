"""Bootstrap intervals of error rates and BLEU (Efron, Ann. Statist. 1979; Koehn, EMNLP 2004).

Utterances are drawn with replacement and the score is taken of each drawn test set. What is drawn
is a function of the test set and the seed alone: two systems, or one system trained with several
seeds, are compared on the same drawn utterances.

Of a system trained with several seeds an interval covers the choice of those too: the mean of n
scores errs by their standard error times Student's t of n - 1 degrees of freedom, which is added to
what was drawn. Two seeds tell next to nothing of others (t is 12.7, of three 4.3), and their
intervals are as wide. An interval of one run knows nothing of other seeds.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manifests.errors import InputError
from mmpt_fairseq.scoring import Unit, normalise_text, refuse_empty, score, statistics

DRAWS = 2000
SEED = 1
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A score with the ends of its interval; in the unit of the score."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Counts:
    """What a score of any drawn test set is computed from.

    Attributes:
        statistics: ``(N, K)``, a row for each utterance (:func:`mmpt_fairseq.scoring.statistics`).
        test_set: which references these are, as a hash.
        unit: ``word`` or ``char`` (error rate in percent) or ``bleu``.
    """

    statistics: NDArray[np.int64]
    test_set: str
    unit: Unit

    def score(self, sums: NDArray[np.int64]) -> NDArray[np.float64]:
        """Scores ``(draws,)`` from summed statistics ``(draws, K)``."""
        return np.array([score(row, self.unit) for row in sums.tolist()])

    @property
    def value(self) -> float:
        """The score of the test set as it is."""
        return float(self.score(self.statistics.sum(0, keepdims=True))[0])

    def drawn(self, draws: int, seed: int) -> NDArray[np.float64]:
        """Scores ``(draws,)`` of drawn test sets."""
        rng = np.random.default_rng([seed, int(self.test_set[:12], 16)])
        rows = len(self.statistics)
        sums = np.stack(
            [
                np.bincount(rng.integers(rows, size=rows), minlength=rows) @ self.statistics
                for _ in range(draws)
            ]
        )
        return self.score(sums)


def count(references: Sequence[str], hypotheses: Sequence[str], unit: Unit) -> Counts:
    """Statistics of every utterance, after :func:`normalise_text` of both sides.

    Raises:
        InputError: not as many of one as of the other, none at all, or (for error rates) an
            empty reference.
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
    """A hash of texts and their order."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def mean_interval(
    runs: Sequence[Counts], draws: int = DRAWS, seed: int = SEED, level: float = LEVEL
) -> Interval:
    """The mean score of a system's runs, one for each seed."""
    values = np.array([run.value for run in runs])
    drawn = _drawn_mean(runs, draws, seed) + _errors_of_seeds(values, draws, seed)
    return _interval(float(values.mean()), np.maximum(drawn, 0), level)  # no score is less


def relative_difference(
    runs: Sequence[Counts],
    baselines: Sequence[Counts],
    draws: int = DRAWS,
    seed: int = SEED,
    level: float = LEVEL,
) -> Interval:
    """Mean score of ``runs`` against that of ``baselines``, in percent of the latter, paired.

    Both are of the same seeds, in this order; what these err by is that of the quotient's
    logarithm.

    Raises:
        InputError: they were not taken on the same test sets, as many of one as of the other.
    """
    if sorted(r.test_set for r in runs) != sorted(b.test_set for b in baselines):
        raise InputError("a paired comparison needs the same test set on both sides")
    ours, theirs = (np.array([run.value for run in side]) for side in (runs, baselines))
    with np.errstate(divide="ignore", invalid="ignore"):
        quotients = _drawn_mean(runs, draws, seed) / _drawn_mean(baselines, draws, seed)
        quotient = ours.mean() / theirs.mean()
        errors = ours / (ours.mean() or 1) - theirs / (theirs.mean() or 1)  # to first order
        drawn = quotients * np.exp(_errors_of_seeds(errors, draws, seed))
    return _interval(100 * float(quotient - 1), 100 * (drawn - 1), level)


def _drawn_mean(runs: Sequence[Counts], draws: int, seed: int) -> NDArray[np.float64]:
    """Mean scores ``(draws,)`` of all runs on drawn test sets."""
    return np.mean([run.drawn(draws, seed) for run in runs], axis=0)


def _errors_of_seeds(values: NDArray[np.float64], draws: int, seed: int) -> NDArray[np.float64]:
    """``(draws,)`` errors of the mean of ``values``, one a seed.

    They are t's quantiles in a drawn order, which vary less than draws of t would.
    """
    if len(values) == 1:
        return np.zeros(draws)
    from scipy.stats import t  # takes a while to import, and one run does without

    quantiles = t.ppf((np.arange(draws) + 0.5) / draws, len(values) - 1)
    standard = values.std(ddof=1) / np.sqrt(len(values))
    return standard * np.random.default_rng(seed).permutation(quantiles)


def _interval(value: float, drawn: NDArray[np.float64], level: float) -> Interval:
    """Percentiles of what was drawn; draws without a value (an empty baseline) are left out."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
