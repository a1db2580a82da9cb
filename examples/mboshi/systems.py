"""The compared systems and the steps that train and decode them.

Every system is trained for each amount of transcripts (``few``, ``all``) and each seed:

* ``stages``: the three stages; stages 1 and 2 are shared by both amounts;
* ``pretrained``: stage 3 directly after stage 1;
* ``scratch``: only stage 3, with the same number of updates;
* ``longer``: only stage 3, for the total training time of the three stages;
* ``s2t_conformer``: fairseq's own model, for the same time.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path

from examples.mboshi.s2t_conformer import Size, decode_conformer, train_conformer, warmup
from examples.stages import decode, effort, path_override, run_step, train
from manifests.errors import InputError
from mmpt_fairseq.data.manifest import Manifest

# Settings with which MAE learns within minutes: see examples/probe/EXPERIMENTS.md.
PRETRAINING = Path("examples/probe/config/pretraining.yaml")
MIDTRAINING = Path("examples/demo/config/midtraining.yaml")
FINETUNING = Path("examples/demo/config/finetuning.yaml")
SYSTEMS = ("stages", "pretrained", "scratch", "longer", "s2t_conformer")
BASELINES = ("scratch", "longer", "s2t_conformer")
TRANSCRIPTS = ("few", "all")
CTC_WEIGHT = 0.7  # in joint decoding; chosen on valid (examples/finetuning)
NEVER = 10**9


@dataclass(frozen=True)
class Curriculum:
    """Start a training with ``epochs`` epochs of only the clips of up to ``frames`` frames."""

    epochs: int = 0
    frames: int = 250

    def overrides(self) -> list[str]:
        return [
            f"++task.short_first_epochs={self.epochs}",
            f"++task.short_first_frames={self.frames}",
        ]


@dataclass(frozen=True)
class Settings:
    """Settings of the comparison.

    Attributes:
        minutes: minutes of transcripts in ``few``.
        updates: of pre-training, mid-training, fine-tuning on few and on all transcripts.
        rate: peak learning rate of stage 2.
        finetuning_rate: peak learning rate of stage 3.
        conformer_rate: peak learning rate of fairseq's model.
        guide: number of initial updates of stage 3 with guided CTC
            (``criterion.ctc_guide_updates``); without it, chance decides when, if ever, CTC leaves
            its initial plateau.
        frozen: fraction of stage 3's updates for which an initialised encoder is frozen.
        dropout: of stage 3; other trainings have the model's default.
        translation_ctc: weight of stage 2's CTC term.
        encoder_lr_scale: multiplier of the encoder's learning rate in stage 2. At the full rate a
            few hours of translations degrade the encoder.
        checkpoints: evenly spaced validations per stage; the best checkpoint is decoded. Longer
            trainings have more, at the same interval.
        short_midtraining, short_finetuning: curricula; the latter also applies to ``scratch`` and
            ``longer``.
        fresh_layers: number of the mid-trained encoder's last layers that stage 3 reinitialises,
            because they are specific to the text of the translations.
        kind, entries: type and size of the translations' vocabulary.
        decoding: ``ctc``, ``attention`` or ``joint``, for our recognisers; for CTC they are trained
            without a decoder.
        interrupt: kill each of our trainings once half-way; it resumes from its checkpoint.
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
        """Settings of a finished comparison; those that an older one did not have are defaults.

        Raises:
            InputError: it has not finished, or is so old that its stage 3 differs.
        """
        path = out / "results.json"
        if not path.is_file():
            raise InputError(f"there is no {path}; run python -m examples.mboshi.run first")
        stored = json.loads(path.read_text(encoding="utf-8"))["settings"]
        if "guide" not in stored:
            raise InputError(
                f"{path} is of an earlier version that did not guide CTC in stage 3 and is not "
                "comparable; move its folder away and run python -m examples.mboshi.run again"
            )
        convert = {
            "updates": tuple,
            "size": lambda size: Size(**size),
            "short_midtraining": lambda first: Curriculum(**first),
            "short_finetuning": lambda first: Curriculum(**first),
        }
        names = {f.name for f in fields(cls)}
        return cls(**{k: convert.get(k, lambda v: v)(v) for k, v in stored.items() if k in names})

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

    def from_encoder(self, fresh_layers: int) -> list[str]:
        """Overrides of stage 3 with an initial encoder, except how long that is frozen."""
        return [*self.from_scratch(), f"+model.fresh_encoder_layers={fresh_layers}"]

    def interval(self, updates: int) -> int:
        """Number of updates between validations."""
        return max(1, updates // self.checkpoints)


class Comparison:
    """The steps in ``out``, where the folder of a training is ``seed{seed}/{name}``."""

    def __init__(self, data: Path, out: Path, settings: Settings) -> None:
        self.data, self.out, self.settings = data, out, settings
        self.manifests = out / "manifests"

    def prepare(self) -> None:
        """Write manifests, vocabularies, filterbanks and counts."""
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
        """Folder of a training; ``name``: ``pretrained``, ``midtrained`` or transcripts, system."""
        return self.out / f"seed{seed}" / "_".join(name)

    def asr(self, transcripts: str) -> Path:
        """Folder of stage 3's manifests."""
        return self.manifests / f"asr_{transcripts}"

    def interval(self, transcripts: str) -> int:
        """Number of updates between validations of stage 3, the same for all systems.

        As longer runs therefore validate more often, time is proportional to updates.
        """
        return self.settings.interval(self.settings.finetuning(transcripts))

    def pretrain(self, seed: int) -> None:
        overrides = self.settings.size.encoder_overrides()
        data, folder = self.manifests / "pretrain", self.folder(seed, "pretrained")
        self._run(PRETRAINING, data, seed, folder, self.settings.updates[0], overrides)

    def midtrain(self, seed: int) -> None:
        start = self.folder(seed, "pretrained") / "checkpoint_best.pt"
        overrides = [
            *self.settings.size.model_overrides(),
            *self.settings.midtraining(),
            path_override("model.init_encoder_from", start),
        ]
        data, folder = self.manifests / "st", self.folder(seed, "midtrained")
        checkpoint = self._run(MIDTRAINING, data, seed, folder, self.settings.updates[1], overrides)
        decode(checkpoint, data, "dev", folder / "decoded", "bleu", search_options(data))

    def finetune(self, seed: int, transcripts: str, system: str) -> None:
        """Stage 3 from stage 2 (``stages``), from stage 1 (``pretrained``) or from scratch."""
        updates = self.settings.finetuning(transcripts)
        if system == "longer":
            updates = self.updates_in_time(seed, transcripts)
        start, options = "null", self.settings.from_scratch()
        stage = {"stages": "midtrained", "pretrained": "pretrained"}.get(system)
        if stage:
            start = str(self.folder(seed, stage) / "checkpoint_best.pt")
            frozen = round(self.settings.frozen * updates)
            fresh = self.settings.fresh_layers if system == "stages" else 0
            options = [
                *self.settings.from_encoder(fresh),
                f"+model.freeze_encoder_updates={frozen}",
            ]
        size = self.settings.size
        if self.settings.decoding == "ctc":
            size = replace(size, decoder_layers=0)
        overrides = [
            *size.model_overrides(),
            *options,
            path_override("model.init_encoder_from", start),
        ]
        data, folder = self.asr(transcripts), self.folder(seed, transcripts, system)
        interval = self.interval(transcripts)
        checkpoint = self._run(FINETUNING, data, seed, folder, updates, overrides, interval)
        options = ["--decoding", self.settings.decoding]
        if self.settings.decoding != "ctc":
            options += search_options(data)
        if self.settings.decoding == "joint":
            options += ["--ctc-decoding-weight", str(CTC_WEIGHT)]
        decode(checkpoint, data, "dev", folder / "decoded", "wer", options)

    def conformer(self, seed: int, transcripts: str) -> None:
        """Train fairseq's own model for the total time of the three stages, and decode."""
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
        """Total training time of the three stages."""
        stages = [("pretrained",), ("midtrained",), (transcripts, "stages")]
        return sum(effort(self.folder(seed, *stage)).seconds for stage in stages)

    def updates_in_time(self, seed: int, transcripts: str) -> int:
        """Number of updates from scratch that fit into the total time of the three stages."""
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
        """Run one of our trainings, validated and saved every ``interval`` updates."""
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
    """Number of updates in ``seconds``, at the speed of a run whose ``updates`` took ``took``.

    A cosine schedule of that length ends when the time is over.
    """
    return max(1, round(updates * seconds / took))


def levels(
    comparison: Comparison,
    systems: Sequence[str],
    transcripts: Sequence[str],
    seeds: Sequence[int],
) -> list[list[Callable[[], None]]]:
    """Group the trainings into levels, each of which depends only on earlier levels.

    Every training occurs once. Systems that get the total time of the three stages depend on those
    and on ``scratch``, whose speed gives their number of updates.
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
    """Options of beam search up to the length of the longest training target.

    In characters, targets exceed fairseq's default limit of 200.
    """
    longest = 1 + max(len(text) for text in Manifest(data / "train.tsv").column("tgt_text"))
    return ["--beam", "5", "--max-len-b", str(longest)]
