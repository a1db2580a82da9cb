"""The whole method at small scale: ``make demo`` and ``make demo-full``.

Generates a corpus, pre-trains on talking faces without labels, mid-trains on translated speech,
fine-tunes on a few transcripts, and compares the recogniser with others that leave stages out or
do them otherwise (``ablations``). All see the same transcripts and decode the same test set.
What is done is not done again; what was interrupted goes on. It ends with a table,
``results.json`` and ``report.html``.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from examples.demo.table import results, table
from examples.stages import decode, exit_in_a_sentence, run_step, side_by_side, train
from manifests.common import atomic_path

CONFIG = Path("examples/demo/config")
OBJECTIVES = {
    "mae": "mmpt_masked_reconstruction",
    "clr": "mmpt_contrastive",
    "mae+clr": "mmpt_masked_reconstruction_and_contrastive",
}
# A language that can be learnt in minutes: few words, short sentences.
LANGUAGE = ["--vocabulary=200", "--max-words=5", "--plain-speech", "--transcribed-valid=100"]
# Until words are found, sentences cost time and teach nothing: phrases first, and CTC guided.
TRANSLATED_FRAMES = 3000  # of a batch of stage 2
CURRICULUM = [
    "+task.short_first_epochs=4",
    "+task.short_first_frames=125",
    f"dataset.max_tokens={TRANSLATED_FRAMES}",
]
# That the other stages hear while stage 1 makes an update, measured side by side.
PRETRAINING_FRAMES = 17_500
GUIDED_TRANSLATION = ["+criterion.ctc_guide_updates=1000"]
# The last layer knows how translations are spelt; what it knows stands in the way.
TAKEN_OVER = ["+model.fresh_encoder_layers=1"]
FROZEN = ["+model.freeze_encoder=true"]
# What is decoded is the checkpoint that, decoded alike, was best on the validation split.
CHOICE = ["+task.eval_wer=true", "+task.decoding=ctc", "checkpoint.best_checkpoint_metric=wer"]


@dataclass(frozen=True)
class Recogniser:
    """How a recogniser comes about; what is not said is as in the others.

    Attributes:
        pretraining: objective of stage 1, None without it.
        midtraining: target language of stage 2, None without it.
        ctc: whether stage 2 has its CTC term.
        frozen: whether stage 3 keeps the encoder as it is.
        longer: fine-tuning updates, as a multiple of the others'.
        rate: of fine-tuning, None for the config's.
    """

    pretraining: str | None = None
    midtraining: str | None = None
    ctc: bool = True
    frozen: bool = False
    longer: float = 1.0
    rate: float | None = None

    @property
    def start(self) -> str | None:
        """Folder of the training whose encoder it starts from."""
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


@dataclass
class Sizes:
    """How much of everything: clips, updates; of stage 3 also the filterbank frames of a batch and
    the first updates in which CTC is guided."""

    pretrain: int = 500
    translated: int = 3000
    phrases: int = 2500
    transcribed: int = 150
    test: int = 300
    pretraining_updates: int = 100
    midtraining_updates: int = 2000
    finetuning_updates: int = 2400
    finetuning_frames: int = 1000
    guided_updates: int = 900

    def command(self) -> list[str]:
        """Options of the generator."""
        counts = ("pretrain", "translated", "phrases", "transcribed", "test")
        return [f"--{name}={getattr(self, name)}" for name in counts]


def stages(language: str) -> dict[str, Recogniser]:
    """The method and the two that leave stages out."""
    return {
        "scratch": Recogniser(),
        "pretrained": Recogniser("mae"),
        "midtrained": Recogniser("mae", language),
    }


def full(language: str) -> dict[str, Recogniser]:
    """Besides: the paper's frozen encoder, and the baseline with twice its budget."""
    return {
        **stages(language),
        "scratch, twice as long": Recogniser(longer=2.0),
        "pretrained, frozen": Recogniser("mae", frozen=True),
        "midtrained, frozen": Recogniser("mae", language, frozen=True),
    }


def ablations(language: str, sizes: Sizes) -> dict[str, Recogniser]:
    """Besides: other rates, every choice of stages 1 and 2, the same compute spent otherwise."""
    others = [lang for lang in ("it", "de", "nl") if lang != language]
    heard = sizes.finetuning_updates * sizes.finetuning_frames
    stage_2 = sizes.midtraining_updates * TRANSLATED_FRAMES / heard
    stage_1 = sizes.pretraining_updates * PRETRAINING_FRAMES / heard
    return {
        **full(language),
        **{f"scratch at a rate of {rate}": Recogniser(rate=rate) for rate in (0.001, 0.006)},
        "pretrained by CLR": Recogniser("clr"),
        "pretrained by MAE+CLR": Recogniser("mae+clr"),
        "midtrained without stage 1": Recogniser(None, language),
        "midtrained without CTC": Recogniser("mae", language, ctc=False),
        **{f"midtrained en-{lang}": Recogniser("mae", lang) for lang in others},
        "pretrained, as much sound": Recogniser("mae", longer=1 + stage_2),
        "scratch, as much compute": Recogniser(longer=1 + stage_2 + stage_1),
    }


class Demo:
    """The steps in ``out``; a training's folder is named after what it is, under its seed.

    ``overrides`` are options of ``fairseq-hydra-train`` that every training gets.
    """

    def __init__(
        self, out: Path, sizes: Sizes, language: str, overrides: Sequence[str] = ()
    ) -> None:
        self.out, self.sizes, self.language, self.overrides = out, sizes, language, overrides
        self.corpus = out / "corpus"

    def generate_corpus(self) -> None:
        """Clips, filterbanks of those with texts, vocabularies of the two kinds of text."""
        corpus, translated = self.corpus, sorted({"it", "de", "nl"})
        options = [*LANGUAGE, *self.sizes.command()]
        run_step(["python", "-m", "manifests.generated", str(corpus), *options], corpus)
        folders = [corpus / "asr", *(corpus / f"st_en-{lang}" for lang in translated)]
        cached = corpus / "features.zip"
        command = ["python", "-m", "manifests.features", str(cached), *map(str, folders)]
        run_step(command, corpus / "features")  # rewrites the manifests, so it comes first
        for folder in folders:
            command = ["python", "-m", "manifests.vocabulary", str(folder), "--kind", "char"]
            run_step(command, folder / "vocabulary", [folder / "train.tsv"])

    def folder(self, seed: int, name: str) -> Path:
        """Of a training."""
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
        """Stage 2 on translated speech, and the test set translated."""
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
                f"model.init_encoder_from={self.checkpoint(seed, recogniser.pretrained)}",
                *CURRICULUM,
                *(GUIDED_TRANSLATION if recogniser.ctc else ["criterion.ctc_weight=0"]),
                *self.overrides,
            ],
        )
        options = ["--beam", "5", "--max-len-b", "400"]
        decode(checkpoint, data, "test", folder / "decoded", "bleu", options)

    def finetune(self, seed: int, name: str, recogniser: Recogniser) -> None:
        """Stage 3 on transcripts, and the test set recognised by CTC."""
        folder = self.folder(seed, f"asr_{name}")
        updates = round(self.sizes.finetuning_updates * recogniser.longer)
        checkpoint = train(
            CONFIG,
            "finetuning",
            self.corpus / "asr",
            folder,
            [
                f"common.seed={seed}",
                f"optimization.max_update={updates}",
                f"model.init_encoder_from={self.checkpoint(seed, recogniser.start)}",
                *([f"optimization.lr=[{recogniser.rate}]"] if recogniser.rate else []),
                *(FROZEN if recogniser.frozen else TAKEN_OVER if recogniser.start else []),
                *self.every_finetuning(),
                *self.overrides,
            ],
        )
        options = ["--decoding", "ctc"]
        decode(checkpoint, self.corpus / "asr", "test", folder / "decoded", "wer", options)

    def every_finetuning(self) -> list[str]:
        """What stage 3 is told whatever it starts from."""
        return [
            f"dataset.max_tokens={self.sizes.finetuning_frames}",
            f"+criterion.ctc_guide_updates={self.sizes.guided_updates}",
            *CHOICE,
        ]

    def checkpoint(self, seed: int, name: str | None) -> str:
        """Where to take an encoder from, as the configs want it."""
        return str(self.folder(seed, name) / "checkpoint_best.pt") if name else "null"


def run(demo: Demo, recognisers: dict[str, Recogniser], seeds: Sequence[int], jobs: int) -> dict:
    """Run every step that is not done yet; returns the results."""
    demo.generate_corpus()
    for level in levels(demo, recognisers, seeds):
        side_by_side(level, jobs)
    return results(demo, recognisers, seeds)


def levels(
    demo: Demo, recognisers: dict[str, Recogniser], seeds: Sequence[int]
) -> list[list[Callable[[], None]]]:
    """Every training once, each in a level after that of the one whose encoder it starts from.

    Within a level those come first that others wait for, so that no long one is left to the end.
    """
    first, second, third = {}, {}, {}
    for seed in seeds:
        for name, recogniser in recognisers.items():
            if recogniser.pretrained:
                first[seed, recogniser.pretrained] = partial(demo.pretrain, seed, recogniser)
            if recogniser.midtrained:
                level = second if recogniser.pretrained else first
                level[seed, recogniser.midtrained] = partial(demo.midtrain, seed, recogniser)
            level = third if recogniser.midtrained else second if recogniser.pretrained else first
            level[seed, f"asr_{name}"] = partial(demo.finetune, seed, name, recogniser)
    return [
        [step for _, step in sorted(level.items(), key=lambda item: item[0][1].startswith("asr_"))]
        for level in (first, second, third)
        if level
    ]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--language", choices=["de", "it", "nl"], default="nl")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side")
    parser.add_argument(
        "--compare",
        choices=["stages", "full", "ablations"],
        default="stages",
        help="scratch, pre-trained, mid-trained; with frozen encoders and a baseline of twice the "
        "budget; with other rates, every choice of the first two stages and the same compute "
        "spent otherwise",
    )
    for name, value in vars(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    parser.add_argument(
        "--override",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="of fairseq-hydra-train, in every training",
    )
    args = vars(parser.parse_args())
    args["seeds"] = list(dict.fromkeys(args["seeds"]))
    out, language, seeds, jobs = (args.pop(k) for k in ("out", "language", "seeds", "jobs"))
    compare, overrides = args.pop("compare"), args.pop("override")
    sizes = Sizes(**args)
    chosen = {
        "stages": lambda: stages(language),
        "full": lambda: full(language),
        "ablations": lambda: ablations(language, sizes),
    }[compare]()
    started = time.monotonic()
    with exit_in_a_sentence():
        found = run(Demo(out, sizes, language, overrides), chosen, seeds, jobs)
    with atomic_path(out / "results.json") as partial_file:
        partial_file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(table(found))
    page = subprocess.run([sys.executable, "-m", "mmpt_fairseq.report", str(out)], check=False)
    if page.returncode:
        sys.exit(page.returncode)
    print(
        f"{out / 'results.json'} and {out / 'report.html'} written after "
        f"{time.monotonic() - started:.0f} s; to run finished steps anew, move {out} away",
        file=sys.stderr,
    )
    print(f"To go on from here:\n{what_next(out, Path(found['checkpoints']['asr']))}")


def what_next(out: Path, recogniser: Path) -> str:
    """Commands that work with what a demo leaves: recognise one of its clips, look at it."""
    clip = sorted((out / "corpus" / "clips" / "asr_test").iterdir())[0]
    return "\n".join(
        [
            f"  mmpt-transcribe {recogniser} {clip}",
            f"  mmpt-report {recogniser} {clip}   # writes {recogniser.with_suffix('.html')}",
            "  (after: . .venv/bin/activate)",
        ]
    )


if __name__ == "__main__":
    main()
