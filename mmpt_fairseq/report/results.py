"""Decodes to tables: scores with intervals, seeds of one system in one row, against the baseline.

One table is one kind of task (recognition or translation), one language and one split. Runs that
were decoded from different test sets never share one.
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
class Scored:
    """A decode that is whole.

    Attributes:
        references, hypotheses: normalised text by row.
        test_set: a hash of ids and references.
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
        """The training's folder, or the decode's where that is all there is."""
        return self.decode.run.name if self.decode.run else self.decode.name

    @cached_property
    def counts(self) -> dict[str, Counts]:
        """Statistics by unit."""
        units = UNITS[self.kind]
        return {unit: count(self.references, self.hypotheses, unit) for unit in units}


@dataclass
class Row:
    """One system: the decodes of one training, or of its repetitions with other seeds."""

    members: list[Scored]
    scores: dict[str, Interval] = field(default_factory=dict)
    against: dict[str, Interval] = field(default_factory=dict)
    baseline: "Row | None" = None
    namesakes: bool = False  # another row is of the same training, decoded alike

    @property
    def first(self) -> Scored:
        return self.members[0]

    @property
    def run(self) -> Run | None:
        return self.first.decode.run

    @property
    def name(self) -> str:
        """The folder, with ``*`` for the seed where there are several."""
        name = self.first.decode.name if self.namesakes else self.first.name
        return SEED_FOLDER.sub("seed*", name) if len(self.members) > 1 else name

    @property
    def stages(self) -> str:
        """What its encoder went through before."""
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
        but = f", but for {fresh} fresh layers" if parts and fresh else ""
        return (" and ".join(parts) or "no") + but

    @property
    def updates(self) -> int:
        return self.run.updates or self.run.max_update if self.run else 0

    @property
    def by_seed(self) -> dict[int, dict[str, float]]:
        """Each seed's scores."""
        return {m.seed: {unit: c.value for unit, c in m.counts.items()} for m in self.members}

    def deviation(self, unit: str) -> float:
        """Standard deviation over seeds (of a sample: n - 1)."""
        return float(np.std([m.counts[unit].value for m in self.members], ddof=1))


@dataclass
class Table:
    """Systems that were decoded from one test set."""

    kind: str
    language: str
    split: str
    rows: list[Row]

    @property
    def units(self) -> tuple[str, ...]:
        return UNITS[self.kind]

    @property
    def size(self) -> str:
        """Rows of the test set, of each where seeds have their own."""
        sizes = sorted({len(m.references) for row in self.rows for m in row.members})
        return ", ".join(map(str, sizes))

    @property
    def title(self) -> str:
        to = {TRANSLATION: " to ", RECOGNITION: " of "}[self.kind]
        return self.kind.capitalize() + (to + self.language if self.language else "")

    @property
    def best(self) -> Row:
        """The row with the lowest error rate or highest BLEU."""

        def badness(row: Row) -> list[float]:
            return [(-1 if u == "bleu" else 1) * row.scores[u].value for u in self.units]

        return min(self.rows, key=badness)

    def highest(self, unit: str) -> float:
        """The upper end of all intervals."""
        return max(row.scores[unit].high for row in self.rows)

    def leads(self, row: Row, unit: str) -> bool:
        """Whether no other row has a better score of this unit."""
        values = [other.scores[unit].value for other in self.rows]
        return row.scores[unit].value == (max(values) if unit == "bleu" else min(values))


def describe_lineage(run: Run) -> str:
    """``scratch``, ``pre-trained``, ``pre-trained, mid-trained`` ..."""
    words = {PRETRAINING: "pre-trained", TRANSLATION: "mid-trained", RECOGNITION: "fine-tuned"}
    before = ", ".join(words.get(r.kind, r.kind) for r in run.lineage)
    return before or ("unknown start" if run.start_path else "scratch")


def tables(decodes: Sequence[Decode]) -> tuple[list[Table], list[str]]:
    """Tables of all whole decodes, and a sentence for each that is not.

    Raises:
        InputError: one table would hold results on different test sets.
    """
    scored, notes = [], []
    for decode in decodes:
        try:
            scored.append(read_scored(decode))
        except InputError as error:
            notes.append(f"{decode.name} is not scored: {error}")
    parts: dict[tuple[str, str, str], list[Scored]] = {}
    for one in scored:
        parts.setdefault((one.kind, one.language, one.decode.split), []).append(one)
    result = []
    for key, members in sorted(parts.items()):
        rows = _by_system(members)
        _refuse_mixed(rows)
        result.append(Table(*key, _with_scores(rows)))
    return result, notes


def read_scored(decode: Decode) -> Scored:
    """Hypotheses and references of a decode, which must be whole.

    Raises:
        InputError: the manifest is gone or another one, or hypotheses are missing.
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
        raise InputError(f"its training is {kind}, which has no text to score")
    return Scored(
        decode,
        manifest,
        kind,
        ", ".join(languages),
        references,
        [normalise_text(h) for h in hypotheses],
        texts_digest([*manifest.column("id"), *references]),
    )


def _by_system(members: Sequence[Scored]) -> list[Row]:
    """Rows: decodes whose folders differ in a component like ``seed2`` alone belong together."""
    groups: dict[tuple[str, str], list[Scored]] = {}
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


def _refuse_mixed(rows: Sequence[Row]) -> None:
    """Raise InputError unless all rows were decoded from one test set (one for each seed)."""
    first = rows[0]
    for row in rows[1:]:
        ours = {m.seed: m for m in first.members}
        pairs = [(ours[m.seed], m) for m in row.members if m.seed in ours]
        pairs = pairs or [(first.first, row.first)]
        for a, b in pairs:
            if a.test_set != b.test_set:
                raise InputError(_mixed(a, b))


def _mixed(a: Scored, b: Scored) -> str:
    def say(one: Scored) -> str:
        return f"{one.decode.folder} ({len(one.references)} rows of {one.decode.manifest})"

    alone = " and ".join(f"mmpt-report {_training(one)}" for one in (a, b))
    return (
        f"{say(a)} and {say(b)} were decoded from different test sets, so one table cannot "
        f"compare them; make a page of each, {alone}, or decode both from the same manifest"
    )


def _training(one: Scored) -> Path:
    return one.decode.run.folder if one.decode.run else one.decode.folder


def _with_scores(rows: list[Row]) -> list[Row]:
    for row in rows:
        units = UNITS[row.first.kind]
        row.scores = {u: mean_interval([m.counts[u] for m in row.members]) for u in units}
    systems = Counter((row.first.name, row.first.decode.method) for row in rows)
    for row in rows:
        row.namesakes = systems[row.first.name, row.first.decode.method] > 1
        row.baseline = _baseline(row, rows)
        if row.baseline is not None:
            row.against = _compare(row, row.baseline)
    return sorted(rows, key=lambda row: (row.first.decode.method, not row.from_scratch, row.name))


def _baseline(row: Row, rows: Sequence[Row]) -> Row | None:
    """The run from scratch of such a model, on the same texts, decoded alike; nearest in budget."""
    if row.from_scratch or row.run is None:
        return None

    def like(other: Row) -> bool:
        return (
            other.from_scratch
            and other.run.get("model._name") == row.run.get("model._name")
            and other.first.decode.method == row.first.decode.method
            and _learnt_the_same(row, other)
        )

    return min(
        filter(like, rows), key=lambda o: (abs(o.updates - row.updates), o.name), default=None
    )


def _pairs(row: Row, other: Row) -> list[tuple[Scored, Scored]]:
    """Members of both by seed; two rows of one run each are comparable whatever their seeds are."""
    if len(row.members) == len(other.members) == 1:
        return [(row.first, other.first)]
    theirs = {m.seed: m for m in other.members}
    return [(m, theirs[m.seed]) for m in row.members if m.seed in theirs]


def _learnt_the_same(row: Row, other: Row) -> bool:
    """Whether they share seeds and, for each, the texts to learn from."""
    pairs = _pairs(row, other)
    return bool(pairs) and all(a.decode.run.targets == b.decode.run.targets for a, b in pairs)


def _compare(row: Row, baseline: Row) -> dict[str, Interval]:
    ours, theirs = zip(*_pairs(row, baseline), strict=True)
    return {
        unit: relative_difference([m.counts[unit] for m in ours], [m.counts[unit] for m in theirs])
        for unit in row.scores
    }
