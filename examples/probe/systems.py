"""Steps of the probe: data, stage 1 trainings, vectors, scores, retrieval.

``OUT/real``                   manifests of real speech and faces (prepare.py)
``OUT/drawn``                  drawn talking faces, for retrieval (faces.py)
``OUT/filterbank``             vectors and scores of the baselines
``OUT/seed1/mae``              a training on real data; likewise ``clr`` and ``mae_clr``
``OUT/seed1/mae/probe``        vectors and scores of its encoder; ``OUT/seed1/untrained/probe``
``OUT/seed1/clr/retrieval``    retrieval among held-out clips
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
# Tokens per batch: CLR needs many clips to contrast, MAE many updates.
TOKENS = {"mae": 3000, "clr": 12000, "mae_clr": 8000}
DRAWN_TOKENS = 16000
UNTRAINED = "untrained"
CORPORA = {"real": "", "drawn": "drawn_"}  # prefix of the system names
BASELINES = ("log mel, mean, std", "log mel - mean, 4 segments")
CHECKPOINTS = {
    "real": 4,
    "drawn": 15,
}  # validations per training, evenly spaced; the best checkpoint is scored
FRAMES = {"real": 298, "drawn": 150}  # of 10 ms; retrieval cuts every clip to this length
# Drawn clips are longer than the crop, so that length is no cue; crops start at random, since fixed
# ones are memorised. The video window covers the whole crop. The mouth moves over less of the frame
# than the head does: large patches preserve where it is. Half of the layers suffice to detect when
# it opens, and process 1.7 times as many clips in the same time.
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
    """Settings of a run's trainings.

    Attributes:
        updates: objective -> updates on real data.
        drawn_updates: updates on drawn faces.
        drawn_clips: number of training clips of drawn faces.
        overrides: further options for fairseq-hydra-train.
    """

    updates: dict[str, int] = field(
        default_factory=lambda: {"mae": 600, "clr": 200, "mae_clr": 200}
    )
    drawn_updates: int = 1500
    drawn_clips: int = 4000
    overrides: tuple[str, ...] = ()


class Probe:
    """The steps of the probe in the folder ``out``."""

    def __init__(self, data: Path, out: Path, settings: Settings) -> None:
        self.data, self.out, self.settings = data, out, settings
        self.real, self.drawn = out / "real", out / "drawn"

    def folder(self, seed: int, system: str) -> Path:
        return self.out / f"seed{seed}" / system

    def prepare(self) -> None:
        """Write manifests of the real corpora, filterbanks and downscaled videos."""
        command = ["python", "-m", "examples.probe.prepare"]
        command += ["--data", str(self.data), "--out", str(self.real)]
        run_step(command, self.real, [self.data / "grid" / "clips.tsv"])

    def draw(self) -> None:
        """Generate the corpus of drawn faces."""
        command = ["python", "-m", "examples.probe.faces", str(self.drawn)]
        run_step([*command, "--clips", str(self.settings.drawn_clips)], self.drawn)

    def train(self, objective: str, seed: int) -> Path:
        """Train stage 1 on real data; CLR, which needs pairs, only on the clips that have video."""
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
        """Scores on real speech of a frozen encoder, or of the filterbanks, which ignore the seed.

        ``untrained`` and ``drawn_untrained`` have the sizes of the model trained with MAE.
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
        """Recall at 1 of a trained model, or of the ``energy`` baseline of a corpus.

        Models trained on drawn faces are evaluated with each control too (controls.py).
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
