"""Steps of the SUPERB comparison: store states, train heads at several rates, score the best.

``OUT/<upstream>/<task>/states1``           states of its first encoder, where they are stored
``OUT/<upstream>/<task>/seed1/lr0.001``     one training run; the best one has in ``test`` its score
                                            and predictions on the test split
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from examples.stages import data_files, path_override, run_step, train
from examples.superb.cache import check_lengths
from examples.superb.predictions import METRIC_OF_TASK
from manifests.errors import InputError
from mmpt_fairseq.checkpoint import load_checkpoint
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.superb_labels import (
    UTTERANCE_KINDS,
    check_rows,
    label_column,
    training_labels,
)
from mmpt_fairseq.fingerprint import fingerprint

CONFIG = Path("examples/superb/config")
SPLITS = ("train", "valid", "test")
KINDS = {
    "ks": "keyword_spotting",
    "ic": "intent_classification",
    "pr": "phoneme_recognition",
    "sd": "speaker_diarization",
}


@dataclass(frozen=True)
class Settings:
    """Settings that all trainings share; where one is not given, s3prl's value for the task holds.

    Attributes:
        seeds: seeds of the heads; validation with the first one selects the learning rate.
        rates: learning rates to try.
        updates: task -> updates per training.
        checkpoints: validations per training, where its ``updates`` are given.
        cached: store states once instead of running the upstream in every update.
        overrides: further options for fairseq-hydra-train.
    """

    seeds: tuple[int, ...] = (1,)
    rates: tuple[float, ...] | None = None
    updates: Mapping[str, int] = field(default_factory=dict)
    checkpoints: int = 10
    cached: bool = True
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compared:
    """An upstream in the table; its encoders are assigned to the seeds of the heads in turn."""

    name: str
    sources: tuple[str, ...]

    @classmethod
    def parse(cls, argument: str) -> "Compared":
        """Parse ``NAME=CHECKPOINT,...``, or ``CHECKPOINT``, which is named after its folder."""
        name, equals, sources = argument.partition("=")
        if not equals or "/" in name:
            return cls(folder_name(argument), (argument,))
        return cls(name, tuple(sources.split(",")))


@dataclass(frozen=True)
class System:
    """One upstream on one task with the seed at ``position`` in the settings' seeds."""

    upstream: Compared
    task: str
    position: int
    data: Path
    out: Path
    settings: Settings

    @property
    def name(self) -> str:
        return self.upstream.name

    @property
    def source(self) -> str:
        """The upstream's checkpoint, ``random:...`` or ``fbank``."""
        return self.upstream.sources[self.position % len(self.upstream.sources)]

    @property
    def seed(self) -> int:
        return self.settings.seeds[self.position]

    @property
    def leader(self) -> "System":
        """The system whose validation selects the learning rate."""
        return replace(self, position=0)

    @property
    def folder(self) -> Path:
        return self.out / self.name / self.task / f"seed{self.seed}"

    @property
    def states(self) -> Path:
        """Folder of the stored states: one per seed if untrained, otherwise one per checkpoint."""
        untrained = self.source.startswith("random")
        number = self.seed if untrained else 1 + self.position % len(self.upstream.sources)
        return self.folder.parent / f"states{number}"

    @property
    def manifests(self) -> Path:
        return self.states if self.settings.cached else self.data / self.task

    def store(self) -> None:
        """Store the upstream's states of all splits."""
        if not self.settings.cached:
            return
        data = self.data / self.task
        seed = self.seed if self.source.startswith("random") else 1
        command = ["python", "-m", "examples.superb.cache", self.source, str(data)]
        command += [str(self.states), "--seed", str(seed)]
        command += ["--mean"] if KINDS[self.task] in UTTERANCE_KINDS else []
        run_step(command, self.states, [*data_files(data), *checkpoints(self.source)])

    def rates(self) -> list[float | None]:
        """Learning rates to train at: all for the leader, its best one for the others."""
        if self.position:
            return [self.best_rate()]
        return list(self.settings.rates) if self.settings.rates else [None]

    def best_rate(self) -> float | None:
        """The learning rate with the leader's best validation; the first of equals."""
        best = max if METRIC_OF_TASK[KINDS[self.task]] == "accuracy" else min
        return best(self.leader.rates(), key=self.leader.validated)

    def training(self, rate: float | None) -> Path:
        return self.folder / ("lr_of_s3prl" if rate is None else f"lr{rate:g}")

    def train(self, rate: float | None) -> None:
        """Train the head at one learning rate."""
        settings, updates = self.settings, self.settings.updates.get(self.task)
        upstream = "cached" if settings.cached else self.source
        overrides = [path_override("model.upstream", upstream), f"common.seed={self.seed}"]
        overrides.append("common.tensorboard_logdir=null")  # log.txt has the curves
        if settings.cached:
            # Reading states is faster than passing them between processes.
            overrides.append("dataset.num_workers=0")
        if rate is not None:
            overrides.append(f"optimization.lr=[{rate:g}]")
        if updates is not None:
            interval = max(1, updates // settings.checkpoints)
            overrides.append(f"optimization.max_update={updates}")
            overrides.append(f"checkpoint.save_interval_updates={interval}")
        overrides += settings.overrides
        inputs = [] if settings.cached else checkpoints(self.source)  # their states are in the data
        target = self.training(rate)
        train(CONFIG, KINDS[self.task], self.manifests, target, overrides, inputs=inputs)

    def validated(self, rate: float | None) -> float:
        """Best validation metric of a finished training."""
        checkpoint = load_checkpoint(self.training(rate) / "checkpoint_best.pt")
        return float(checkpoint["extra_state"]["best"])

    def evaluate(self) -> dict:
        """Evaluate the best training on the test split; return score, weights and sweep."""
        training, leader = self.training(self.best_rate()), self.leader
        checkpoint, out = training / "checkpoint_best.pt", training / "test"
        command = ["python", "-m", "examples.superb.evaluate", str(checkpoint)]
        command += [str(self.manifests), "--out", str(out)]
        run_step(command, out, [checkpoint, *data_files(self.manifests)])
        scored = json.loads((out / "score.json").read_text(encoding="utf-8"))
        swept = {f"{r:g}" if r else "s3prl": leader.validated(r) for r in leader.rates()}
        origin = {"upstream": self.source, "seed": self.seed}
        return {**origin, **scored, "rate": self.best_rate(), "validated": swept}


def folder_name(upstream: str) -> str:
    """``runs/pretrained/checkpoint_best.pt`` -> ``pretrained``, ``random:...`` -> ``random``."""
    if upstream.startswith("random"):
        return "random"
    if upstream == "fbank":
        return upstream
    path = Path(upstream)
    name = path.parent.name if path.stem.startswith("checkpoint") else path.stem
    return re.sub(r"[^\w.-]+", "_", name) or "upstream"


def checkpoints(source: str) -> list[Path]:
    """The files that an upstream is read from; empty where it has none."""
    return [] if source in ("fbank", "random") else [Path(source.removeprefix("random:"))]


def check(
    upstreams: Sequence[Compared], data: Path, tasks: Sequence[str], settings: Settings
) -> None:
    """Check the inputs before anything runs.

    Raises:
        InputError: a file is missing, two upstreams share a name, one has more encoders than there
            are seeds, a label is invalid, or a clip is too long.
    """
    names = [upstream.name for upstream in upstreams]
    for upstream in upstreams:
        if upstream.name in ("", ".", "..") or "/" in upstream.name:
            raise InputError(
                f"{upstream.name!r} is no name for an upstream: its results are in a folder of "
                "that name"
            )
        if len(upstream.sources) > len(settings.seeds):
            raise InputError(
                f"{upstream.name} has {len(upstream.sources)} encoders, one per seed, but there "
                f"are {len(settings.seeds)} seeds; give more with --seeds"
            )
        fingerprint([path for source in upstream.sources for path in checkpoints(source)])
        if names.count(upstream.name) > 1:
            raise InputError(
                f"two upstreams are called {upstream.name!r}; name one: NAME={upstream.sources[0]}"
            )
    for task in tasks:
        paths = {split: data / task / f"{split}.tsv" for split in SPLITS}
        fingerprint(list(paths.values()))
        needs = [label_column(KINDS[task])]
        labels = training_labels(KINDS[task], Manifest(paths["train"], needs))
        for split, path in paths.items():
            manifest = Manifest(path, needs)
            check_rows(labels, manifest)
            if settings.cached and split != "train":
                check_lengths(manifest)
