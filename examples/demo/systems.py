"""The demo's corpus, its recognisers, and how they are trained."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from examples.stages import decode, path_override, run_step, train

CONFIG = Path("examples/demo/config")
OBJECTIVES = {
    "mae": "mmpt_masked_reconstruction",
    "clr": "mmpt_contrastive",
    "mae+clr": "mmpt_masked_reconstruction_and_contrastive",
}
# A language that can be learnt in minutes: few words, short sentences.
LANGUAGE = ["--vocabulary=200", "--max-words=5", "--plain-speech", "--transcribed-valid=100"]
TRANSLATION_FRAMES = 3000  # filterbank frames per batch of stage 2
# Until the model aligns words it learns nothing from sentences: phrases first, and CTC guided.
CURRICULUM = [
    "+task.short_first_epochs=4",
    "+task.short_first_frames=125",
    f"dataset.max_tokens={TRANSLATION_FRAMES}",
]
# Filterbank frames that stages 2 and 3 process in the time of one update of stage 1, measured with
# two trainings in parallel.
PRETRAINING_FRAMES = 17_500
GUIDED_TRANSLATION = ["+criterion.ctc_guide_updates=1000"]
FROZEN = ["+model.freeze_encoder=true"]
# A mid-trained encoder is frozen while the new CTC head and decoder learn; that would only delay
# an encoder of a hundred updates of stage 1, whose last layer is reinitialised (EXPERIMENTS.md).
FROZEN_AT_FIRST = 1 / 3  # of the updates
FRESH_LAST_LAYER = ["+model.fresh_encoder_layers=1"]
# Select the checkpoint by validation WER with the decoding that is used for the test split.
CHECKPOINT_SELECTION = [
    "+task.eval_wer=true",
    "+task.decoding=ctc",
    "checkpoint.best_checkpoint_metric=wer",
]


@dataclass(frozen=True)
class Recogniser:
    """How a recogniser is trained.

    Attributes:
        pretraining: objective of stage 1; None: without stage 1.
        midtraining: target language of stage 2; None: without stage 2.
        ctc: whether stage 2 has its CTC term.
        frozen: whether stage 3 freezes the encoder.
        update_factor: multiplier of the number of fine-tuning updates.
        lr: learning rate of fine-tuning; None: that of the config.
    """

    pretraining: str | None = None
    midtraining: str | None = None
    ctc: bool = True
    frozen: bool = False
    update_factor: float = 1.0
    lr: float | None = None

    @property
    def start(self) -> str | None:
        """Name of the training whose encoder stage 3 starts from."""
        return self.midtrained or self.pretrained

    @property
    def pretrained(self) -> str | None:
        return self.pretraining and f"pretrained_{self.pretraining}"

    @property
    def midtrained(self) -> str | None:
        if self.midtraining is None:
            return None
        parts = [self.pretraining, self.midtraining, None if self.ctc else "attention"]
        return "_".join(["midtrained", *filter(None, parts)])


def _size(default: int, meaning: str) -> int:
    return field(default=default, metadata={"help": meaning})


@dataclass
class Sizes:
    """Numbers of clips and updates."""

    pretrain: int = _size(500, "clips of talking faces for stage 1")
    translated: int = _size(3000, "translated sentences for stage 2")
    phrases: int = _size(2500, "translated phrases for stage 2")
    transcribed: int = _size(150, "transcripts for stage 3")
    test: int = _size(300, "test sentences")
    pretraining_updates: int = _size(100, "updates of stage 1")
    midtraining_updates: int = _size(2000, "updates of stage 2")
    finetuning_updates: int = _size(2400, "updates of stage 3")
    finetuning_frames: int = _size(1000, "filterbank frames per batch of stage 3")
    guided_updates: int = _size(900, "first updates of stage 3, with guided CTC")

    def command(self) -> list[str]:
        """Options of the corpus generator."""
        counts = ("pretrain", "translated", "phrases", "transcribed", "test")
        return [f"--{name}={getattr(self, name)}" for name in counts]


def stages(language: str) -> dict[str, Recogniser]:
    """The three stages, and two recognisers that skip stages."""
    return {
        "scratch": Recogniser(),
        "pretrained": Recogniser("mae"),
        "midtrained": Recogniser("mae", language),
    }


def full(language: str) -> dict[str, Recogniser]:
    """:func:`stages`, with frozen encoders as in the paper, and baselines of larger budgets."""
    return {
        **stages(language),
        "scratch, twice as long": Recogniser(update_factor=2.0),
        "scratch, four times as long": Recogniser(update_factor=4.0),
        "pretrained, frozen": Recogniser("mae", frozen=True),
        "midtrained, frozen": Recogniser("mae", language, frozen=True),
    }


def ablations(language: str, sizes: Sizes) -> dict[str, Recogniser]:
    """:func:`full`, other rates, variants of stages 1 and 2, and equal compute spent on stage 3."""
    others = [lang for lang in ("it", "de", "nl") if lang != language]
    stage_3_frames = sizes.finetuning_updates * sizes.finetuning_frames
    stage_2 = sizes.midtraining_updates * TRANSLATION_FRAMES / stage_3_frames
    stage_1 = sizes.pretraining_updates * PRETRAINING_FRAMES / stage_3_frames
    return {
        **full(language),
        **{f"scratch at a rate of {lr}": Recogniser(lr=lr) for lr in (0.001, 0.006)},
        "pretrained by CLR": Recogniser("clr"),
        "pretrained by MAE+CLR": Recogniser("mae+clr"),
        "midtrained without stage 1": Recogniser(None, language),
        "midtrained without CTC": Recogniser("mae", language, ctc=False),
        **{f"midtrained en-{lang}": Recogniser("mae", lang) for lang in others},
        "pretrained, as much sound": Recogniser("mae", update_factor=1 + stage_2),
        "scratch, as much compute": Recogniser(update_factor=1 + stage_2 + stage_1),
    }


def encoder_overrides(recogniser: Recogniser, updates: int) -> list[str]:
    """How stage 3 of this many updates treats its initial encoder."""
    if recogniser.frozen:
        return FROZEN
    if recogniser.midtraining:
        return [f"+model.freeze_encoder_updates={round(FROZEN_AT_FIRST * updates)}"]
    return FRESH_LAST_LAYER if recogniser.pretraining else []


class Demo:
    """The steps in ``out``, where the folder of a training is ``seed{seed}/{name}``.

    ``overrides`` are Hydra overrides for every training.
    """

    def __init__(
        self, out: Path, sizes: Sizes, language: str, overrides: Sequence[str] = ()
    ) -> None:
        self.out, self.sizes, self.language, self.overrides = out, sizes, language, overrides
        self.corpus = out / "corpus"

    def generate_corpus(self) -> None:
        """Generate clips, cache filterbanks of those with texts, and build the vocabularies."""
        corpus, translated = self.corpus, sorted({"it", "de", "nl"})
        options = [*LANGUAGE, *self.sizes.command()]
        run_step(["python", "-m", "manifests.generated", str(corpus), *options], corpus)
        folders = [corpus / "asr", *(corpus / f"st_en-{lang}" for lang in translated)]
        cached = corpus / "features.zip"
        command = ["python", "-m", "manifests.features", str(cached), *map(str, folders)]
        run_step(command, corpus / "features")  # first, because it rewrites the manifests
        for folder in folders:
            command = ["python", "-m", "manifests.vocabulary", str(folder), "--kind", "char"]
            run_step(command, folder / "vocabulary", [folder / "train.tsv"])

    def folder(self, seed: int, name: str) -> Path:
        """The folder of a training."""
        return self.out / f"seed{seed}" / name.replace(", ", "_").replace(" ", "_")

    def pretrain(self, seed: int, recogniser: Recogniser) -> None:
        """Stage 1 on talking faces."""
        train(
            CONFIG,
            "pretraining",
            self.corpus / "pretrain",
            self.folder(seed, recogniser.pretrained),
            [
                f"common.seed={seed}",
                f"optimization.max_update={self.sizes.pretraining_updates}",
                f"criterion._name={OBJECTIVES[recogniser.pretraining]}",
                *self.overrides,
            ],
        )

    def midtrain(self, seed: int, recogniser: Recogniser) -> None:
        """Stage 2 on translated speech; then translate the test set."""
        data = self.corpus / f"st_en-{recogniser.midtraining}"
        folder = self.folder(seed, recogniser.midtrained)
        checkpoint = train(
            CONFIG,
            "midtraining",
            data,
            folder,
            [
                f"common.seed={seed}",
                f"optimization.max_update={self.sizes.midtraining_updates}",
                path_override(
                    "model.init_encoder_from", self.checkpoint(seed, recogniser.pretrained)
                ),
                *CURRICULUM,
                *(GUIDED_TRANSLATION if recogniser.ctc else ["criterion.ctc_weight=0"]),
                *self.overrides,
            ],
        )
        options = ["--beam", "5", "--max-len-b", "400"]
        decode(checkpoint, data, "test", folder / "decoded", "bleu", options)

    def finetune(self, seed: int, name: str, recogniser: Recogniser) -> None:
        """Stage 3 on transcripts; then decode the test set by CTC."""
        folder = self.folder(seed, f"asr_{name}")
        updates = round(self.sizes.finetuning_updates * recogniser.update_factor)
        checkpoint = train(
            CONFIG,
            "finetuning",
            self.corpus / "asr",
            folder,
            [
                f"common.seed={seed}",
                f"optimization.max_update={updates}",
                path_override("model.init_encoder_from", self.checkpoint(seed, recogniser.start)),
                *([f"optimization.lr=[{recogniser.lr}]"] if recogniser.lr else []),
                *encoder_overrides(recogniser, updates),
                *self.finetuning_overrides(),
                *self.overrides,
            ],
        )
        options = ["--decoding", "ctc"]
        decode(checkpoint, self.corpus / "asr", "test", folder / "decoded", "wer", options)

    def finetuning_overrides(self) -> list[str]:
        """Overrides of stage 3 that do not depend on its initial encoder."""
        return [
            f"dataset.max_tokens={self.sizes.finetuning_frames}",
            f"+criterion.ctc_guide_updates={self.sizes.guided_updates}",
            *CHECKPOINT_SELECTION,
        ]

    def checkpoint(self, seed: int, name: str | None) -> str:
        """Value of ``model.init_encoder_from``: the checkpoint of a training, or null."""
        return str(self.folder(seed, name) / "checkpoint_best.pt") if name else "null"
