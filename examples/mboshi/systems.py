"""The systems that are compared, and the steps that make them.

Every system is trained for each amount of transcripts (``few``, ``all``) and each seed:

* ``stages``: the three stages; stages 1 and 2 are shared by both amounts;
* ``pretrained``: stage 3 straight from stage 1;
* ``scratch``: stage 3 alone, as many updates of it;
* ``longer``: stage 3 alone, as many seconds as the three stages took together;
* ``s2t_conformer``: fairseq's own model, as many seconds too.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path

from examples.mboshi.s2t_conformer import Size, decode_conformer, train_conformer, warmup
from examples.stages import decode, effort, run_step, train
from manifests.errors import InputError
from mmpt_fairseq.data.manifest import Manifest

# Stage 1 has the settings with which minutes of MAE learn: examples/probe/EXPERIMENTS.md.
PRETRAINING = Path("examples/probe/config/pretraining.yaml")
MIDTRAINING = Path("examples/demo/config/midtraining.yaml")
FINETUNING = Path("examples/demo/config/finetuning.yaml")
SYSTEMS = ("stages", "pretrained", "scratch", "longer", "s2t_conformer")
BASELINES = ("scratch", "longer", "s2t_conformer")
TRANSCRIPTS = ("few", "all")
NEVER = 10**9


@dataclass(frozen=True)
class Curriculum:
    """First epochs of a training that see short clips alone."""

    epochs: int = 0
    frames: int = 250

    def overrides(self) -> list[str]:
        return [
            f"++task.short_first_epochs={self.epochs}",
            f"++task.short_first_frames={self.frames}",
        ]


@dataclass(frozen=True)
class Settings:
    """What all systems share.

    Attributes:
        minutes: of transcripts in ``few``.
        updates: of pre-training, mid-training, fine-tuning on few and on all transcripts.
        rate: of stage 2, at its peak.
        finetuning_rate: of stage 3, at its peak.
        conformer_rate: fairseq's model's, at its peak.
        guide: first updates of stage 3 for which CTC is guided (``criterion.ctc_guide_updates``):
            without, chance decides when it begins to spell, if it does.
        frozen: share of stage 3's updates for which the encoder stays as it was taken over.
        dropout: of stage 3; other trainings have the model's default.
        translation_ctc: weight of stage 2's CTC term.
        encoder_lr_scale: of the encoder's rate in stage 2. At the full rate a few hours of
            translations leave an encoder worse than they found it.
        checkpoints: validations of every stage, evenly spread; the best one is decoded. Longer
            trainings have more, as far apart.
        short_midtraining, short_finetuning: curricula; the latter for ``scratch`` and ``longer``
            too.
        fresh_layers: of the mid-trained encoder's last ones, how many stage 3 starts fresh: they
            know how translations are spelt.
        kind, entries: vocabulary of the translations.
        decoding: ``ctc`` or ``attention``, of our recognisers; for CTC they are trained without a
            decoder.
        interrupt: kill every training of ours once half-way; it goes on from its checkpoint.
    """

    minutes: float = 30.0
    updates: tuple[int, int, int, int] = (1500, 1500, 1500, 6000)
    rate: float = 0.0005
    finetuning_rate: float = 0.001
    conformer_rate: float = 0.002
    guide: int = 1000
    frozen: float = 0.0
    dropout: float = 0.2
    translation_ctc: float = 0.0
    encoder_lr_scale: float = 0.1
    checkpoints: int = 20
    size: Size = field(default_factory=Size)
    short_midtraining: Curriculum = field(default_factory=Curriculum)
    short_finetuning: Curriculum = field(default_factory=Curriculum)
    fresh_layers: int = 0
    kind: str = "char"
    entries: int = 1000
    decoding: str = "ctc"
    interrupt: bool = False

    @classmethod
    def of_run(cls, out: Path) -> "Settings":
        """Those of a finished comparison; what an older one does not say is as by default.

        Raises:
            InputError: it has not finished, or is so old that its stage 3 was another.
        """
        path = out / "results.json"
        if not path.is_file():
            raise InputError(f"there is no {path}; run python -m examples.mboshi.run first")
        told = json.loads(path.read_text(encoding="utf-8"))["settings"]
        if "guide" not in told:
            raise InputError(
                f"{path} is of a build that did not guide CTC in stage 3, and nothing new compares "
                "with it; move its folder away and run python -m examples.mboshi.run again"
            )
        kinds = {
            "updates": tuple,
            "size": lambda size: Size(**size),
            "short_midtraining": lambda first: Curriculum(**first),
            "short_finetuning": lambda first: Curriculum(**first),
        }
        names = {f.name for f in fields(cls)}
        return cls(**{k: kinds.get(k, lambda v: v)(v) for k, v in told.items() if k in names})

    def finetuning(self, transcripts: str) -> int:
        """Updates of stage 3."""
        return self.updates[2 + TRANSCRIPTS.index(transcripts)]

    def midtraining(self) -> list[str]:
        """Overrides of stage 2."""
        return [
            f"optimization.lr=[{self.rate}]",
            *self.short_midtraining.overrides(),
            f"criterion.ctc_weight={self.translation_ctc}",
            f"++model.encoder_lr_scale={self.encoder_lr_scale}",
        ]

    def from_scratch(self) -> list[str]:
        """Overrides of stage 3 with a fresh encoder."""
        return [
            f"optimization.lr=[{self.finetuning_rate}]",
            f"+criterion.ctc_guide_updates={self.guide}",
            f"+model.dropout={self.dropout}",
            *self.short_finetuning.overrides(),
        ]

    def taken_over(self, fresh_layers: int) -> list[str]:
        """The same with an encoder that was taken over, but for how long it waits."""
        return [*self.from_scratch(), f"+model.fresh_encoder_layers={fresh_layers}"]

    def interval(self, updates: int) -> int:
        """Updates from one validation to the next."""
        return max(1, updates // self.checkpoints)


class Comparison:
    """The steps in ``out``; a training's folder is named after what it is, under its seed."""

    def __init__(self, data: Path, out: Path, settings: Settings) -> None:
        self.data, self.out, self.settings = data, out, settings
        self.manifests = out / "manifests"

    def prepare(self) -> None:
        """Manifests, vocabularies, filterbanks and counts."""
        settings = self.settings
        command = [
            *("python", "-m", "examples.mboshi.prepare"),
            *("--data", str(self.data), "--out", str(self.manifests)),
            *("--minutes", str(settings.minutes)),
            *("--kind", settings.kind, "--size", str(settings.entries)),
        ]
        tables = [self.data / "mboshi" / f"{split}.tsv" for split in ("train", "dev")]
        run_step(command, self.manifests, [*tables, self.data / "grid" / "clips.tsv"])

    def folder(self, seed: int, *name: str) -> Path:
        """Of a training: ``pretrained``, ``midtrained`` or transcripts and system."""
        return self.out / f"seed{seed}" / "_".join(name)

    def asr(self, transcripts: str) -> Path:
        """Manifests of stage 3."""
        return self.manifests / f"asr_{transcripts}"

    def interval(self, transcripts: str) -> int:
        """Updates of stage 3 from one validation to the next, the same for all systems.

        With it time is in proportion to updates: a run of more of them validates more often.
        """
        return self.settings.interval(self.settings.finetuning(transcripts))

    def pretrain(self, seed: int) -> None:
        overrides = self.settings.size.ours()
        data, folder = self.manifests / "pretrain", self.folder(seed, "pretrained")
        self._run(PRETRAINING, data, seed, folder, self.settings.updates[0], overrides)

    def midtrain(self, seed: int) -> None:
        start = self.folder(seed, "pretrained") / "checkpoint_best.pt"
        overrides = [
            *self.settings.size.ours_with_decoder(),
            *self.settings.midtraining(),
            f"model.init_encoder_from={start}",
        ]
        data, folder = self.manifests / "st", self.folder(seed, "midtrained")
        checkpoint = self._run(MIDTRAINING, data, seed, folder, self.settings.updates[1], overrides)
        decode(checkpoint, data, "dev", folder / "decoded", "bleu", search_options(data))

    def finetune(self, seed: int, transcripts: str, system: str) -> None:
        """Stage 3 from stage 2 (``stages``), from stage 1 (``pretrained``) or from nothing."""
        updates = self.settings.finetuning(transcripts)
        if system == "longer":
            updates = self.updates_in_time(seed, transcripts)
        start, options = "null", self.settings.from_scratch()
        stage = {"stages": "midtrained", "pretrained": "pretrained"}.get(system)
        if stage:
            start = str(self.folder(seed, stage) / "checkpoint_best.pt")
            waits = round(self.settings.frozen * updates)
            fresh = self.settings.fresh_layers if system == "stages" else 0
            options = [
                *self.settings.taken_over(fresh),
                f"+model.freeze_encoder_updates={waits}",
            ]
        size = self.settings.size
        if self.settings.decoding == "ctc":
            size = replace(size, decoder_layers=0)
        overrides = [
            *size.ours_with_decoder(),
            *options,
            f"model.init_encoder_from={start}",
        ]
        data, folder = self.asr(transcripts), self.folder(seed, transcripts, system)
        interval = self.interval(transcripts)
        checkpoint = self._run(FINETUNING, data, seed, folder, updates, overrides, interval)
        options = ["--decoding", self.settings.decoding]
        if self.settings.decoding == "attention":
            options += search_options(data)
        decode(checkpoint, data, "dev", folder / "decoded", "wer", options)

    def conformer(self, seed: int, transcripts: str) -> None:
        """fairseq's own model for the seconds of the three stages."""
        data, folder = self.asr(transcripts), self.folder(seed, transcripts, "s2t_conformer")
        updates = self.updates_in_time(seed, transcripts)
        checkpoint = train_conformer(
            data,
            folder,
            self.settings.size,
            seed,
            self.settings.conformer_rate,
            self.seconds_of_stages(seed, transcripts),
            updates,
            self.interval(transcripts),
        )
        decode_conformer(checkpoint, data, "dev", folder / "decoded", search_options(data))

    def seconds_of_stages(self, seed: int, transcripts: str) -> float:
        """Training time of the three stages together."""
        stages = [("pretrained",), ("midtrained",), (transcripts, "stages")]
        return sum(effort(self.folder(seed, *stage)).seconds for stage in stages)

    def updates_in_time(self, seed: int, transcripts: str) -> int:
        """Updates of stage 3 from scratch that fit into the time of the three stages."""
        scratch = effort(self.folder(seed, transcripts, "scratch"))
        return updates_within(
            self.seconds_of_stages(seed, transcripts), scratch.updates, scratch.seconds
        )

    def _run(
        self,
        config: Path,
        data: Path,
        seed: int,
        folder: Path,
        updates: int,
        overrides: Sequence[str],
        interval: int | None = None,
    ) -> Path:
        """One of our trainings, validated and saved every ``interval`` updates."""
        interval = interval or self.settings.interval(updates)
        common = [
            f"common.seed={seed}",
            f"optimization.max_update={updates}",
            f"lr_scheduler.warmup_updates={warmup(updates)}",
            f"checkpoint.save_interval_updates={interval}",
            "checkpoint.keep_interval_updates=1",
            f"checkpoint.save_interval={NEVER}",
            f"dataset.validate_interval={NEVER}",
        ]
        half = updates // 2 if self.settings.interrupt else None
        overrides = [*common, *overrides]
        return train(config.parent, config.stem, data, folder, overrides, interrupt_at=half)


def updates_within(seconds: float, updates: int, took: float) -> int:
    """As many as fit into ``seconds`` at the pace of a run whose ``updates`` ``took`` as long.

    A cosine schedule of that many updates ends when the time does.
    """
    return max(1, round(updates * seconds / took))


def levels(
    comparison: Comparison,
    systems: Sequence[str],
    transcripts: Sequence[str],
    seeds: Sequence[int],
) -> list[list[Callable[[], None]]]:
    """Every training once, each in a level after those that it needs, the longest first.

    What has the time of the three stages needs them and ``scratch``, which tells the pace.
    """
    timed = {"longer", "s2t_conformer"} & set(systems)
    wanted = {*systems, *(("stages", "scratch") if timed else ())}
    first, second, third, fourth = [], [], [], []
    for seed in seeds:
        if wanted & {"stages", "pretrained"}:
            first.append(partial(comparison.pretrain, seed))
        if "stages" in wanted:
            second.append(partial(comparison.midtrain, seed))
    for seed in seeds:
        for amount in transcripts:
            steps = {
                "scratch": second,
                "pretrained": second,
                "stages": third,
                "longer": fourth,
            }
            for system, level in steps.items():
                if system in wanted:
                    level.append(partial(comparison.finetune, seed, amount, system))
            if "s2t_conformer" in wanted:
                fourth.append(partial(comparison.conformer, seed, amount))
    return [level for level in (first, second, third, fourth) if level]


def search_options(data: Path) -> list[str]:
    """Beam search up to the longest training target: characters pass fairseq's limit of 200."""
    longest = 1 + max(len(text) for text in Manifest(data / "train.tsv").column("tgt_text"))
    return ["--beam", "5", "--max-len-b", str(longest)]
