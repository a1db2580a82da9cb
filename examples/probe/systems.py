"""The steps of the probe: data, trainings of stage 1, vectors, scores, retrieval.

``OUT/real``                   manifests of real speech and faces (prepare.py)
``OUT/drawn``                  drawn faces that speak, for retrieval (faces.py)
``OUT/filterbank``             vectors and scores of the baselines
``OUT/seed1/mae``              a training on real data; likewise ``clr`` and ``mae_clr``
``OUT/seed1/mae/probe``        vectors and scores of its encoder; ``OUT/seed1/untrained/probe``
``OUT/seed1/clr/retrieval``    of held-out clips
``OUT/seed1/drawn_mae``        a training on drawn faces; likewise ``drawn_clr`` and so on
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from examples.probe.pooling import FILTERBANK
from examples.probe.retrieval import ENERGY
from examples.stages import data_files, run_step, train

CONFIG = Path("examples/probe/config")
CRITERIA = {
    "mae": "mmpt_masked_reconstruction",
    "clr": "mmpt_contrastive",
    "mae_clr": "mmpt_masked_reconstruction_and_contrastive",
}
CONTRASTIVE = ("clr", "mae_clr")
# Tokens a batch: CLR wants many clips to tell apart, MAE many updates.
TOKENS = {"mae": 3000, "clr": 12000, "mae_clr": 8000}
DRAWN_TOKENS = 16000
UNTRAINED = "untrained"
CORPORA = {"real": "", "drawn": "drawn_"}  # what the names of systems begin with
BASELINES = ("log mel, mean, std", "log mel - mean, 4 segments")
CHECKPOINTS = {"real": 4, "drawn": 15}  # of a training, evenly spread: the best one is scored
FRAMES = {"real": 298, "drawn": 150}  # of 10 ms: every clip is cut to this length for retrieval
# Drawn clips last longer than what is kept of them, so that their length tells nothing, and from
# anywhere in them, or their moments are learnt by heart. The pictures span all of what is kept.
# The mouth moves over less of the picture than the head does: large patches keep where it is.
# Half of the layers are enough to tell when it opens, and see 1.7 times the clips in the same time.
DRAWN = [
    f"task.max_audio_frames={FRAMES['drawn']}",
    "task.random_start=true",
    "task.video_size=64",
    "model.video_patch_size=32",
    "model.encoder_layers=2",
    "model.encoder_ffn_embed_dim=256",
    "model.video_layers=2",
]


@dataclass(frozen=True)
class Settings:
    """What a run trains.

    Attributes:
        updates: on real data, by objective.
        drawn_updates: on drawn faces.
        drawn_clips: to learn from.
        overrides: further options of fairseq-hydra-train.
    """

    updates: dict[str, int] = field(
        default_factory=lambda: {"mae": 600, "clr": 200, "mae_clr": 200}
    )
    drawn_updates: int = 1500
    drawn_clips: int = 4000
    overrides: tuple[str, ...] = ()


class Probe:
    """The steps in ``out``."""

    def __init__(self, data: Path, out: Path, settings: Settings) -> None:
        self.data, self.out, self.settings = data, out, settings
        self.real, self.drawn = out / "real", out / "drawn"

    def folder(self, seed: int, system: str) -> Path:
        return self.out / f"seed{seed}" / system

    def prepare(self) -> None:
        """Manifests of the real corpora, filterbanks and small pictures."""
        command = ["python", "-m", "examples.probe.prepare"]
        command += ["--data", str(self.data), "--out", str(self.real)]
        run_step(command, self.real, [self.data / "grid" / "clips.tsv"])

    def draw(self) -> None:
        """The corpus of drawn faces."""
        command = ["python", "-m", "examples.probe.faces", str(self.drawn)]
        run_step([*command, "--clips", str(self.settings.drawn_clips)], self.drawn)

    def train(self, objective: str, seed: int) -> Path:
        """Stage 1 on real data; what lacks pictures tells CLR nothing and is left out there."""
        data = self.real / ("faces" if objective == "clr" else "pretrain")
        updates, tokens = self.settings.updates[objective], TOKENS[objective]
        return self._train(objective, "real", seed, data, updates, tokens)

    def train_on_drawn(self, objective: str, seed: int) -> Path:
        data, updates = self.drawn / "faces", self.settings.drawn_updates
        return self._train(objective, "drawn", seed, data, updates, DRAWN_TOKENS, DRAWN)

    def _train(
        self,
        objective: str,
        corpus: str,
        seed: int,
        data: Path,
        updates: int,
        tokens: int,
        overrides: Sequence[str] = (),
    ) -> Path:
        common = [
            f"common.seed={seed}",
            f"criterion._name={CRITERIA[objective]}",
            f"dataset.max_tokens={tokens}",
            f"optimization.max_update={updates}",
            f"lr_scheduler.warmup_updates={updates // 10}",
            f"checkpoint.save_interval_updates={max(1, updates // CHECKPOINTS[corpus])}",
        ]
        target = self.folder(seed, CORPORA[corpus] + objective)
        options = [*common, *overrides, *self.settings.overrides]
        return train(CONFIG, "pretraining", data, target, options)

    def probe(self, system: str, seed: int) -> dict:
        """Scores on real speech of a frozen encoder, or of the filterbanks, whatever the seed.

        ``untrained`` and ``drawn_untrained`` have the sizes of what MAE trains.
        """
        sizes = self.folder(seed, system.replace(UNTRAINED, "mae")) / "checkpoint_best.pt"
        if system == FILTERBANK:
            folder, source, inputs = self.out / FILTERBANK, FILTERBANK, []
        elif system.endswith(UNTRAINED):
            folder, source, inputs = self.folder(seed, system), f"random:{sizes}", [sizes]
        else:
            folder = self.folder(seed, system)
            source, inputs = str(folder / "checkpoint_best.pt"), [folder / "checkpoint_best.pt"]
        vectors, scores = folder / "probe" / "vectors", folder / "probe" / "scores"
        command = ["python", "-m", "examples.probe.pooling", source, str(self.real), str(vectors)]
        inputs += [*data_files(self.real / "digits"), *data_files(self.real / "words")]
        command += [] if system == FILTERBANK else ["--seed", str(seed)]
        run_step(command, vectors, inputs)
        command = ["python", "-m", "examples.probe.classify", str(vectors), str(scores)]
        alone = ["--alone", *BASELINES] if system == FILTERBANK else []
        run_step([*command, *alone], scores, sorted(vectors.glob("*.npz")))
        return json.loads((scores / "scores.json").read_text(encoding="utf-8"))

    def retrieve(self, system: str, seed: int) -> dict:
        """Recall at 1 of a training's objective, or of the ``energy`` of its corpus.

        On drawn faces, a training's with each control too (controls.py).
        """
        corpus = "drawn" if system.startswith("drawn_") else "real"
        data = (self.drawn if corpus == "drawn" else self.real) / "faces"
        if system.removeprefix("drawn_") == ENERGY:
            folder, source, inputs = self.out / f"{corpus}_energy", ENERGY, []
        else:
            folder = self.folder(seed, system)
            source, inputs = str(folder / "checkpoint_best.pt"), [folder / "checkpoint_best.pt"]
        result = folder / "retrieval"
        command = ["python", "-m", "examples.probe.retrieval", source, str(data)]
        command += [str(result / "recall.json"), "--frames", str(FRAMES[corpus])]
        command += ["--controls"] if corpus == "drawn" and source != ENERGY else []
        run_step(command, result, [*inputs, *data_files(data)])
        return json.loads((result / "recall.json").read_text(encoding="utf-8"))
