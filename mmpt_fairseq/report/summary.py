"""Scoring statistics of decoded test sets, and formatting of scores in tables."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.report.intervals import Counts, Interval, count
from mmpt_fairseq.report.scores import read_hypotheses
from mmpt_fairseq.scoring import Unit


def count_decoded(
    manifest: Manifest, output: Path, unit: Unit, rows: Sequence[int] | None = None
) -> Counts:
    """Scoring statistics of ``fairseq-generate``'s output for a manifest, or for some of its rows.

    Raises:
        InputError: there is not exactly one hypothesis per row of the manifest.
    """
    references = list(manifest.column("tgt_text"))
    hypotheses = read_hypotheses(output, len(manifest))
    rows = range(len(manifest)) if rows is None else rows
    return count([references[i] for i in rows], [hypotheses[i] for i in rows], unit)


def format_mean(values: Sequence[float]) -> str:
    """``12.3 ± 0.4``: mean and, for several seeds, standard deviation."""
    return f"{mean(values):.1f}{format_deviation(values)}"


def format_deviation(values: Sequence[float]) -> str:
    """`` ± 0.4`` for several seeds, empty for one."""
    return f" ± {stdev(values):.1f}" if len(values) > 1 else ""


def format_interval(interval: Interval) -> str:
    """``12.3 [11.9, 12.8]``."""
    return f"{interval.value:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def format_relative(interval: Interval) -> str:
    """``-12.3 % [-14.0, -10.1]``."""
    return f"{interval.value:+.1f} % [{interval.low:+.1f}, {interval.high:+.1f}]"
