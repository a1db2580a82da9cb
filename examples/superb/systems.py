"""The steps of the SUPERB comparison: store states, train heads at several rates, score the best.

``OUT/<upstream>/<task>/states``            the upstream's states, when they are stored
``OUT/<upstream>/<task>/seed1/lr0.001``     one training
``OUT/<upstream>/<task>/seed1/test``        score and predictions of the best rate on validation
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.stages import data_files, fingerprint, run_step, train
from mmpt_fairseq.checkpoint import load_checkpoint
from mmpt_fairseq.decoding.superb_predictions import METRICS
from mmpt_fairseq.errors import InputError

CONFIG = Path("examples/superb/config")
KINDS = {
    "ks": "keyword_spotting",
    "ic": "intent_classification",
    "pr": "phoneme_recognition",
    "sd": "speaker_diarization",
}


@dataclass(frozen=True)
class Settings:
    """What all trainings share; None leaves s3prl's own setting of a task.

    Attributes:
        rates: learning rates to try.
        updates: of each training.
        checkpoints: validations of a training whose ``updates`` are given.
        cached: store states once, instead of running the upstream in every update.
        overrides: further options of fairseq-hydra-train.
    """

    rates: tuple[float, ...] | None = None
    updates: int | None = None
    checkpoints: int = 10
    cached: bool = True
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class System:
    """One upstream on one task with one seed."""

    upstream: str
    task: str
    seed: int
    data: Path
    out: Path
    settings: Settings

    @property
    def name(self) -> str:
        """The upstream as a folder's name: of a checkpoint, its folder."""
        return folder_name(self.upstream)

    @property
    def folder(self) -> Path:
        return self.out / self.name / self.task / f"seed{self.seed}"

    @property
    def states(self) -> Path:
        """An untrained encoder differs from seed to seed, the others do not."""
        untrained = self.upstream.startswith("random")
        above = self.folder if untrained else self.folder.parent
        return above / "states"

    @property
    def manifests(self) -> Path:
        return self.states if self.settings.cached else self.data / self.task

    def store(self) -> None:
        """The upstream's states of all splits."""
        if not self.settings.cached:
            return
        source = self.data / self.task
        command = ["python", "-m", "examples.superb.cache", self.upstream, str(source)]
        inputs = [*data_files(source), *self._checkpoints()]
        command += [str(self.states), "--seed", str(self.seed if "random" in self.upstream else 1)]
        run_step(command, self.states, inputs)

    def rates(self) -> list[float | None]:
        return list(self.settings.rates) if self.settings.rates else [None]

    def training(self, rate: float | None) -> Path:
        return self.folder / ("lr_of_s3prl" if rate is None else f"lr{rate:g}")

    def train(self, rate: float | None) -> None:
        """The heads at one learning rate."""
        settings, overrides = self.settings, []
        upstream = "cached" if settings.cached else self.upstream
        overrides += [f"model.upstream={upstream}", f"common.seed={self.seed}"]
        if rate is not None:
            overrides.append(f"optimization.lr=[{rate:g}]")
        if settings.updates is not None:
            interval = max(1, settings.updates // settings.checkpoints)
            overrides.append(f"optimization.max_update={settings.updates}")
            overrides.append(f"checkpoint.save_interval_updates={interval}")
        overrides += settings.overrides
        train(CONFIG, KINDS[self.task], self.manifests, self.training(rate), overrides)

    def validated(self, rate: float | None) -> float:
        """The best metric on validation of a finished training."""
        checkpoint = load_checkpoint(self.training(rate) / "checkpoint_best.pt")
        return float(checkpoint["extra_state"]["best"])

    def best_rate(self) -> float | None:
        """The rate that validated best; the first of equals."""
        best = max if METRICS[KINDS[self.task]] == "accuracy" else min
        return best(self.rates(), key=self.validated)

    def evaluate(self) -> dict:
        """Score, layer weights and predictions on the test split."""
        checkpoint = self.training(self.best_rate()) / "checkpoint_best.pt"
        out = self.folder / "test"
        command = ["python", "-m", "examples.superb.evaluate", str(checkpoint)]
        command += [str(self.manifests), "--out", str(out)]
        run_step(command, out, [checkpoint, *data_files(self.manifests)])
        found = json.loads((out / "score.json").read_text(encoding="utf-8"))
        swept = {f"{rate:g}" if rate else "s3prl": self.validated(rate) for rate in self.rates()}
        return {**found, "rate": self.best_rate(), "validated": swept}

    def _checkpoints(self) -> list[Path]:
        path = Path(self.upstream.removeprefix("random:"))
        return [path] if self.upstream not in ("fbank", "random") else []


def folder_name(upstream: str) -> str:
    """``runs/pretrained/checkpoint_best.pt`` -> ``pretrained``, ``random:...`` -> ``random``."""
    if upstream.startswith("random"):
        return "random"
    if upstream == "fbank":
        return upstream
    path = Path(upstream)
    name = path.parent.name if path.stem.startswith("checkpoint") else path.stem
    return re.sub(r"[^\w.-]+", "_", name) or "upstream"


def check_upstreams(upstreams: Sequence[str], data: Path, tasks: Sequence[str]) -> None:
    """Raise InputError before anything runs: a missing file, two upstreams of one name."""
    names = [folder_name(upstream) for upstream in upstreams]
    for upstream, name in zip(upstreams, names, strict=True):
        path = upstream.removeprefix("random:")
        if upstream not in ("fbank", "random"):
            fingerprint([Path(path)])
        if names.count(name) > 1:
            raise InputError(
                f"two upstreams are called {name!r} by their folders; rename the folder of one"
            )
    for task in tasks:
        for split in ("train", "valid", "test"):
            fingerprint([data / task / f"{split}.tsv"])
