"""Result tables of decodes: scores with intervals, seeds averaged, compared with the baseline.

There is one table per task (recognition or translation), language and split. Runs decoded from
different test sets never share a table.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from manifests.errors import InputError
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.report.intervals import (
    Counts,
    Interval,
    count,
    mean_interval,
    relative_difference,
    texts_digest,
)
from mmpt_fairseq.report.runs import PRETRAINING, RECOGNITION, TRANSLATION, Decode, Run, text_kind
from mmpt_fairseq.report.scores import check_same_rows, read_hypotheses
from mmpt_fairseq.scoring import normalise_text

SEED_FOLDER = re.compile(r"(?i)seed[-_=]?\d+")
UNITS = {RECOGNITION: ("word", "char"), TRANSLATION: ("bleu",)}
FREEZING = {"model.freeze_encoder_updates": "updates", "model.freeze_encoder_layers": "layers"}
HEADINGS = {"word": "WER %", "char": "CER %", "bleu": "BLEU"}


@dataclass
class ScoredDecode:
    """A complete decode with its references.

    Attributes:
        references, hypotheses: normalised text by row.
        test_set: hash of ids and references.
    """

    decode: Decode
    manifest: Manifest
    kind: str
    language: str
    references: list[str]
    hypotheses: list[str]
    test_set: str

    @property
    def seed(self) -> int:
        return self.decode.run.seed if self.decode.run else 0

    @property
    def name(self) -> str:
        """Name of the training's folder, or of the decode's if the training is unknown."""
        return self.decode.run.name if self.decode.run else self.decode.name

    @cached_property
    def counts(self) -> dict[str, Counts]:
        """Scoring statistics by unit."""
        units = UNITS[self.kind]
        return {unit: count(self.references, self.hypotheses, unit) for unit in units}


@dataclass
class Row:
    """One system: the decode of one training, or of its repetitions with other seeds."""

    members: list[ScoredDecode]
    scores: dict[str, Interval] = field(default_factory=dict)
    vs_baseline: dict[str, Interval] = field(default_factory=dict)
    baseline: "Row | None" = None
    ambiguous_name: bool = False  # another row has the same training and decoding method

    @property
    def first(self) -> ScoredDecode:
        return self.members[0]

    @property
    def run(self) -> Run | None:
        return self.first.decode.run

    @property
    def name(self) -> str:
        """Folder name, with ``seed*`` for several seeds."""
        name = self.first.decode.name if self.ambiguous_name else self.first.name
        return SEED_FOLDER.sub("seed*", name) if len(self.members) > 1 else name

    @property
    def stages(self) -> str:
        """Earlier stages of its encoder."""
        if self.run is None:
            return "unknown"
        return describe_lineage(self.run)

    @property
    def from_scratch(self) -> bool:
        return self.run is not None and not self.run.start_path

    @property
    def frozen(self) -> str:
        if self.run is None:
            return "unknown"
        if self.run.get("model.freeze_encoder", False):
            return "yes"
        parts = [
            f"the first {self.run.get(key, 0)} {unit}"
            for key, unit in FREEZING.items()
            if self.run.get(key, 0)
        ]
        fresh = self.run.get("model.fresh_encoder_layers", 0)
        exception = f", except {fresh} fresh layers" if parts and fresh else ""
        return (" and ".join(parts) or "no") + exception

    @property
    def updates(self) -> int:
        return self.run.updates or self.run.max_update if self.run else 0

    @property
    def by_seed(self) -> dict[int, dict[str, float]]:
        """Scores by seed and unit."""
        return {m.seed: {unit: c.value for unit, c in m.counts.items()} for m in self.members}

    def deviation(self, unit: str) -> float:
        """Sample standard deviation over seeds (n - 1)."""
        return float(np.std([m.counts[unit].value for m in self.members], ddof=1))


@dataclass
class Table:
    """Systems decoded from one test set."""

    kind: str
    language: str
    split: str
    rows: list[Row]

    @property
    def units(self) -> tuple[str, ...]:
        return UNITS[self.kind]

    @property
    def size(self) -> str:
        """Number of rows of the test set, or of each if seeds have different ones."""
        sizes = sorted({len(m.references) for row in self.rows for m in row.members})
        return ", ".join(map(str, sizes))

    @property
    def title(self) -> str:
        to = {TRANSLATION: " to ", RECOGNITION: " of "}[self.kind]
        return self.kind.capitalize() + (to + self.language if self.language else "")

    @property
    def best(self) -> Row:
        """The row with the lowest error rate or highest BLEU."""

        def sort_key(row: Row) -> list[float]:
            return [(-1 if u == "bleu" else 1) * row.scores[u].value for u in self.units]

        return min(self.rows, key=sort_key)

    def highest(self, unit: str) -> float:
        """The highest upper end of all intervals."""
        return max(row.scores[unit].high for row in self.rows)

    def is_best(self, row: Row, unit: str) -> bool:
        """Whether no other row has a better score in this unit."""
        values = [other.scores[unit].value for other in self.rows]
        return row.scores[unit].value == (max(values) if unit == "bleu" else min(values))


def describe_lineage(run: Run) -> str:
    """Earlier stages: ``scratch``, ``pre-trained``, ``pre-trained, mid-trained`` ..."""
    words = {PRETRAINING: "pre-trained", TRANSLATION: "mid-trained", RECOGNITION: "fine-tuned"}
    before = ", ".join(words.get(r.kind, r.kind) for r in run.lineage)
    return before or ("unknown start" if run.start_path else "scratch")


def tables(decodes: Sequence[Decode]) -> tuple[list[Table], list[str]]:
    """Tables of all complete decodes, and a note for each decode that cannot be scored.

    Raises:
        InputError: one table would mix results on different test sets.
    """
    scored, notes = [], []
    for decode in decodes:
        try:
            scored.append(read_scored(decode))
        except InputError as error:
            notes.append(f"{decode.name} is not scored: {error}")
    parts: dict[tuple[str, str, str], list[ScoredDecode]] = {}
    for one in scored:
        parts.setdefault((one.kind, one.language, one.decode.split), []).append(one)
    result = []
    for key, members in sorted(parts.items()):
        rows = _by_system(members)
        _check_same_test_set(rows)
        result.append(Table(*key, _with_scores(rows)))
    return result, notes


def read_scored(decode: Decode) -> ScoredDecode:
    """Read hypotheses and references of a decode, which must be complete.

    Raises:
        InputError: the manifest is missing or does not match, or hypotheses are missing.
    """
    manifest = Manifest(decode.manifest, needs=["tgt_text"])
    hypotheses = read_hypotheses(decode.output, len(manifest))
    references = list(manifest.column("tgt_text"))
    check_same_rows(references, decode.output, decode.manifest)
    references = [normalise_text(r) for r in references]
    if "" in references:
        where = manifest.where(references.index(""))
        raise InputError(f"{where} has no text to score against")
    languages = sorted({x for x in manifest.column("tgt_lang") if x})
    kind = text_kind(decode.manifest) or (decode.run.kind if decode.run else RECOGNITION)
    if kind not in UNITS:
        raise InputError(f"its training is of the kind {kind}, which has no text to score")
    return ScoredDecode(
        decode,
        manifest,
        kind,
        ", ".join(languages),
        references,
        [normalise_text(h) for h in hypotheses],
        texts_digest([*manifest.column("id"), *references]),
    )


def _by_system(members: Sequence[ScoredDecode]) -> list[Row]:
    """Group decodes into rows: folders that differ only in a part like ``seed2`` are one system."""
    groups: dict[tuple[str, str], list[ScoredDecode]] = {}
    for one in members:
        pattern = SEED_FOLDER.sub("seed*", str(one.decode.folder))
        groups.setdefault((pattern, one.decode.method), []).append(one)
    rows = []
    for group in groups.values():
        if len({one.seed for one in group}) == len(group):
            rows.append(Row(sorted(group, key=lambda one: one.seed)))
        else:
            rows += [Row([one]) for one in group]
    return rows


def _check_same_test_set(rows: Sequence[Row]) -> None:
    """Raise InputError unless all rows were decoded from the same test set (per seed)."""
    first = rows[0]
    for row in rows[1:]:
        ours = {m.seed: m for m in first.members}
        pairs = [(ours[m.seed], m) for m in row.members if m.seed in ours]
        pairs = pairs or [(first.first, row.first)]
        for a, b in pairs:
            if a.test_set != b.test_set:
                raise InputError(_different_test_sets(a, b))


def _different_test_sets(a: ScoredDecode, b: ScoredDecode) -> str:
    def describe(one: ScoredDecode) -> str:
        return f"{one.decode.folder} ({len(one.references)} rows of {one.decode.manifest})"

    folders = [_run_folder(one) for one in (a, b)]
    if folders[0] == folders[1]:
        folders = [one.decode.folder for one in (a, b)]
    commands = " and ".join(f"mmpt-report {folder}" for folder in folders)
    return (
        f"{describe(a)} and {describe(b)} were decoded from different test sets, so one table "
        f"cannot compare them; report on each separately, {commands}, or decode both from the "
        "same manifest"
    )


def _run_folder(one: ScoredDecode) -> Path:
    return one.decode.run.folder if one.decode.run else one.decode.folder


def _with_scores(rows: list[Row]) -> list[Row]:
    for row in rows:
        units = UNITS[row.first.kind]
        row.scores = {u: mean_interval([m.counts[u] for m in row.members]) for u in units}
    systems = Counter((row.first.name, row.first.decode.method) for row in rows)
    for row in rows:
        row.ambiguous_name = systems[row.first.name, row.first.decode.method] > 1
        row.baseline = _baseline(row, rows)
        if row.baseline is not None:
            row.vs_baseline = _compare(row, row.baseline)
    return sorted(rows, key=lambda row: (row.first.decode.method, not row.from_scratch, row.name))


def _baseline(row: Row, rows: Sequence[Row]) -> Row | None:
    """The from-scratch run with the same model, texts and decoding, and the nearest budget."""
    if row.from_scratch or row.run is None:
        return None

    def comparable(other: Row) -> bool:
        return (
            other.from_scratch
            and other.run.get("model._name") == row.run.get("model._name")
            and other.first.decode.method == row.first.decode.method
            and _same_targets(row, other)
        )

    return min(
        filter(comparable, rows), key=lambda o: (abs(o.updates - row.updates), o.name), default=None
    )


def _pairs(row: Row, other: Row) -> list[tuple[ScoredDecode, ScoredDecode]]:
    """Members of both rows paired by seed; single runs are paired whatever their seeds."""
    if len(row.members) == len(other.members) == 1:
        return [(row.first, other.first)]
    theirs = {m.seed: m for m in other.members}
    return [(m, theirs[m.seed]) for m in row.members if m.seed in theirs]


def _same_targets(row: Row, other: Row) -> bool:
    """Whether the rows share seeds and, for each of these, the training targets."""
    pairs = _pairs(row, other)
    return bool(pairs) and all(a.decode.run.targets == b.decode.run.targets for a, b in pairs)


def _compare(row: Row, baseline: Row) -> dict[str, Interval]:
    ours, theirs = zip(*_pairs(row, baseline), strict=True)
    return {
        unit: relative_difference([m.counts[unit] for m in ours], [m.counts[unit] for m in theirs])
        for unit in row.scores
    }
