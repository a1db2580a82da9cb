"""Trainings and decodes, described by their folders and configs."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

from fairseq.tasks import TASK_REGISTRY

from manifests.errors import InputError
from mmpt_fairseq.data.manifest import Manifest, first_row
from mmpt_fairseq.report.logs import TrainingLog
from mmpt_fairseq.tasks.av_pretraining import AVPretrainingTask
from mmpt_fairseq.tasks.speech_to_text import ManifestSpeechToTextTask

CHECKPOINTS = ("checkpoint_best.pt", "checkpoint_last.pt")
STALE_AFTER = timedelta(minutes=10)  # without a log line for longer, a training is not running
PRETRAINING, TRANSLATION, RECOGNITION = "pre-training", "translation", "recognition"


@dataclass(eq=False)  # one folder is one object; comparing would follow `start`
class Run:
    """One training.

    Attributes:
        folder: the folder of its checkpoints.
        name: the folder as displayed.
        cfg: fairseq's config as nested dicts; interpolations such as ``${common.seed}`` unresolved.
        log: its log, or None.
        notes: remarks about what is missing or wrong.
        start: the run whose encoder it was initialised from, or None.
        start_path: that checkpoint's path as configured, or None.
        kind: pre-training, translation, recognition, or the task's name.
    """

    folder: Path
    name: str
    cfg: dict
    log: TrainingLog | None = None
    notes: list[str] = field(default_factory=list)
    start: "Run | None" = None
    start_path: str | None = None
    kind: str = ""

    def get(self, key: str, default: object = None) -> object:
        """A config value by its dotted name."""
        value: object = self.cfg
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return default if value is None else value

    @property
    def seed(self) -> int:
        return int(self.get("common.seed", 1))

    @property
    def max_update(self) -> int:
        return int(self.get("optimization.max_update", 0))

    @property
    def updates(self) -> int:
        """The last update in its log."""
        return self.log.updates if self.log else 0

    @property
    def checkpoint(self) -> Path | None:
        """The best checkpoint, else the last, else None."""
        return next((self.folder / c for c in CHECKPOINTS if (self.folder / c).is_file()), None)

    @property
    def state(self) -> str:
        """``done``, ``running``, ``stopped`` or ``unknown`` (no log)."""
        if self.log is None:
            return "unknown"
        if self.log.finished:
            return "done"
        idle = datetime.now() - datetime.fromtimestamp(self.log.path.stat().st_mtime)
        return "stopped" if self.log.failed or idle > STALE_AFTER else "running"

    @property
    def failed_to_start(self) -> bool:
        """Whether it failed before training, so that there is nothing to show."""
        return bool(
            self.log and self.log.failed and not self.log.began_training and not self.checkpoint
        )

    @cached_property
    def targets(self) -> str:
        """Identity of its training targets: a hash of its rows, or their path if missing."""
        data, subsets = str(self.get("task.data", "")), str(self.get("dataset.train_subset", ""))
        digest = hashlib.sha256()
        for subset in subsets.split(","):
            try:
                manifest = Manifest(self.locate(data) / f"{subset}.tsv")
            except InputError:
                return f"{subsets} of {data}"
            for row in zip(manifest.column("id"), manifest.column("tgt_text"), strict=True):
                digest.update("\t".join(row).encode())
        return digest.hexdigest()

    @property
    def lineage(self) -> "list[Run]":
        """The runs in which its encoder was trained before, oldest first.

        Reusing a folder can make two runs the start of each other: each is listed once.
        """
        found: list[Run] = []
        run = self.start
        while run is not None and run is not self and run not in found:
            found.append(run)
            run = run.start
        return found[::-1]

    @property
    def seconds(self) -> float | None:
        """Total over all attempts: as timed by the example scripts, else from the log's lines."""
        started = read_json(self.folder / "started.json")
        return started.get("seconds") or (self.log.seconds if self.log else None)

    def locate(self, path: str | Path) -> Path:
        """Resolve a path of the config, also if it was moved together with the run's folder."""
        return relocate(path, str(self.get("checkpoint.save_dir", self.folder)), self.folder)


@dataclass
class Decode:
    """One ``fairseq-generate`` run with ``--results-path``.

    Attributes:
        output: ``generate-<split>.txt``.
        name: its folder as displayed.
        cfg: fairseq's config, as in :class:`Run`.
        split, manifest: the decoded split and its manifest.
        checkpoint: the model's checkpoint; the first of an ensemble.
        run: the training of the checkpoint, if known; None for an ensemble.
        models: number of models in the ensemble, or 1.
        notes: remarks about what is missing or wrong.
    """

    output: Path
    name: str
    cfg: dict
    split: str
    manifest: Path
    checkpoint: Path
    run: Run | None = None
    models: int = 1
    notes: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.output.parent

    @property
    def method(self) -> str:
        """``CTC``, or beam search with the options that differ from fairseq's defaults."""
        task, search = self.cfg.get("task") or {}, self.cfg.get("generation") or {}
        decoding, beam = task.get("decoding"), search.get("beam", 5)
        if decoding == "ctc":
            return "CTC"
        parts = [f"beam {beam}"] if self.models == 1 else [f"{self.models} models, beam {beam}"]
        if decoding == "ctc_beam":
            parts = ["CTC", *parts]
            if not search.get("lm_path"):
                return ", ".join(parts)  # our search, which has no length penalty
        if decoding == "joint":
            parts.append(f"CTC weight {task.get('ctc_decoding_weight')}")
        if search.get("lenpen", 1) != 1:
            parts.append(f"lenpen {search['lenpen']}")
        if search.get("lm_path"):
            parts.append(f"LM weight {search.get('lm_weight')}")
        return ", ".join(parts)


def read_json(path: Path) -> dict:
    """Read a JSON object; empty if the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def relocate(path: str | Path, recorded: str, actual: Path) -> Path:
    """Map ``path``, recorded when the folder ``actual`` was ``recorded``, to where it is now.

    Of a copied folder what was copied with it counts, although the original exists.
    """
    path, then, now = Path(path), Path(recorded).parts, actual.parts
    while then and now and then[-1] == now[-1]:
        then, now = then[:-1], now[:-1]
    old, new = Path(*then), Path(*now)
    moved = new / path.relative_to(old) if path.is_relative_to(old) else path
    return moved if moved.exists() or not path.exists() else path.absolute()


def kind_of(run: Run) -> str:
    """Kind of a run, from its task; for speech-to-text, from its training manifest."""
    task = str(run.get("task._name", "unknown task"))
    found = TASK_REGISTRY.get(task, object)
    if issubclass(found, AVPretrainingTask):
        return PRETRAINING
    if not issubclass(found, ManifestSpeechToTextTask):
        return task
    splits = str(run.get("dataset.train_subset", "train")).split(",")
    return text_kind(run.locate(str(run.get("task.data", ""))) / f"{splits[0]}.tsv")


def text_kind(manifest: Path) -> str:
    """Translation or recognition, from a manifest's first row; empty if undecidable."""
    try:
        row = first_row(manifest)
    except (OSError, UnicodeDecodeError):
        return ""
    source, target = row.get("src_lang", ""), row.get("tgt_lang", "")
    if source and target:
        return TRANSLATION if source != target else RECOGNITION
    transcript, target_text = row.get("src_text", ""), row.get("tgt_text", "")
    if not transcript or not target_text:
        return ""
    return TRANSLATION if transcript != target_text else RECOGNITION
