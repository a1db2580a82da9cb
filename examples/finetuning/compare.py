"""Compare ways to fine-tune and to decode, on the demo's corpus or on real speech.

After ``make demo``, or after ``python -m examples.mboshi.run``:

    python -m examples.finetuning.compare [--demo runs/demo] [--out runs/finetuning] [--seeds 1]
    python -m examples.finetuning.compare --mboshi runs/mboshi --out runs/finetuning_mboshi

Encoder random, or mid-trained and frozen, frozen at first or free; decoder fresh or initialised
from stage 2; decoding by attention, CTC or both; 10, 30 and 100 % of the transcripts with and
without mid-training; the best checkpoint or the average of the best five. Finished steps are not
repeated and interrupted ones resume. Prints tables in Markdown.

Initialising the decoder requires that both stages share a vocabulary, which they do not: stage 2 is
therefore continued for some updates with the characters of both languages, and the systems with a
fresh and with an initialised decoder both start from there.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from examples.demo.systems import CONFIG, FROZEN, FROZEN_AT_FIRST
from examples.finetuning import origin
from examples.finetuning.origin import Origin
from examples.finetuning.table import Tables
from examples.mboshi.systems import NEVER
from examples.processes import exit_with_one_line, run_parallel
from examples.stages import data_files, decode, path_override, train
from manifests.common import atomic_path
from manifests.errors import InputError
from manifests.repoint import absolute, relative, rows
from manifests.vocabulary import build_vocabulary
from mmpt_fairseq import average
from mmpt_fairseq.data.data_folder import DATA_CONFIG, DICTIONARY, SENTENCEPIECE
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from mmpt_fairseq.fingerprint import fingerprint

VOCABULARY = (DICTIONARY, SENTENCEPIECE, DATA_CONFIG)
CTC_WEIGHTS = (0.3, 0.5, 0.7)  # in joint decoding; the best one on the validation split is used
CHECKPOINTS = 20  # evenly spaced validations of a training
AVERAGED = 5  # number of best checkpoints to average
PERCENTAGES = (10, 30)  # of the transcripts; the origin's own trainings use all of them


@dataclass(frozen=True)
class System:
    """A fine-tuning system; settings not listed here are those of its origin.

    Attributes:
        start: training whose encoder it starts from: ``midtrained``, ``continued`` or None.
        percent: percentage of the transcripts, set by the origin or by the point of a curve.
        options: further overrides of the training.
        frozen: fraction of the updates with a frozen encoder; 1: frozen throughout.
        init_decoder: whether the decoder is initialised from ``start`` too.
        searches: how the test split is decoded: ``ctc``, ``attention``, ``joint``.
        averaged: whether the average of the best checkpoints is decoded too.
    """

    start: str | None = "midtrained"
    percent: int = 0
    options: tuple[str, ...] = ()
    frozen: float = 0.0
    init_decoder: bool = False
    searches: tuple[str, ...] = ("ctc", "attention", "joint")
    averaged: bool = False


VARIANTS = {
    "scratch": System(None),
    "encoder frozen": System(frozen=1.0, averaged=True),
    "encoder frozen at first": System(frozen=FROZEN_AT_FIRST, averaged=True),
    "encoder free": System(averaged=True),
    "decoder fresh": System("continued"),
    "decoder carried over": System("continued", init_decoder=True),
}
CURVE = [f"{percent} %, {start}" for percent in PERCENTAGES for start in ("scratch", "midtrained")]


def systems(origin: Origin) -> dict[str, System]:
    """The variants on the origin's fraction of the transcripts, then the points of the curves."""
    variants = {name: replace(x, percent=origin.percent) for name, x in VARIANTS.items()}
    scratch = System(None, options=tuple(origin.curve_from_scratch), searches=("ctc",))
    midtrained = System(
        options=tuple(origin.curve_from_encoder), frozen=origin.curve_frozen, searches=("ctc",)
    )
    curve = [replace(x, percent=percent) for percent in PERCENTAGES for x in (scratch, midtrained)]
    return {**variants, **dict(zip(CURVE, curve, strict=True))}


class Comparison:
    """The steps in ``out``, based on the corpus and the trainings of ``origin``."""

    def __init__(self, origin: Origin, out: Path) -> None:
        self.origin, self.out = origin, out

    def prepare(self) -> None:
        """Write the data folders: transcript subsets, and both stages' data with one vocabulary.

        Raises:
            InputError: the existing data folders are of another corpus.
        """
        origin, record = self.origin, self.out / "corpus.txt"
        manifests = [*data_files(origin.asr), *data_files(origin.st)]
        place = str(origin.asr.resolve())
        corpus = f"{place}\n{fingerprint(manifests)}\n"
        # An earlier version recorded the place alone.
        if record.is_file() and record.read_text(encoding="utf-8") not in (corpus, place):
            raise InputError(
                f"{self.out} holds a comparison on another corpus; give another folder with --out"
            )
        self.out.mkdir(parents=True, exist_ok=True)
        record.write_text(corpus, encoding="utf-8")
        for percent in sorted({*PERCENTAGES, origin.percent}):
            write_subset(origin.asr, self.out / f"asr_{percent}", percent, origin.test)
            _copy_vocabulary(origin.asr, self.out / f"asr_{percent}")
        write_subset(origin.st, self.out / "st_both", 100, origin.test)
        if not (self.out / "st_both" / DATA_CONFIG).is_file():
            build_vocabulary(self.out / "st_both", "char", with_source=True)
        write_subset(origin.asr, self.out / "asr_both", origin.percent, origin.test)
        _copy_vocabulary(self.out / "st_both", self.out / "asr_both")

    def folder(self, seed: int, name: str) -> Path:
        """The folder of a training."""
        return (
            self.out / f"seed{seed}" / name.replace(" %", "").replace(", ", " ").replace(" ", "_")
        )

    def data(self, system: System) -> Path:
        """The folder of a system's manifests."""
        return self.out / ("asr_both" if system.start == "continued" else f"asr_{system.percent}")

    def checkpoint(self, seed: int, start: str | None) -> str:
        """Value of ``model.init_encoder_from`` of a training."""
        if start == "continued":
            return str(self.folder(seed, "continued") / "checkpoint_best.pt")
        return str(self.origin.midtrained(seed)) if start else "null"

    def continue_midtraining(self, seed: int) -> None:
        """Continue stage 2 with the characters of both languages."""
        overrides = [
            f"common.seed={seed}",
            *self._updates(self.origin.continued),
            *self.origin.overrides,
            *self.origin.midtraining,
            path_override("model.init_encoder_from", self.checkpoint(seed, "midtrained")),
        ]
        train(
            CONFIG, "midtraining", self.out / "st_both", self.folder(seed, "continued"), overrides
        )

    def finetune(self, seed: int, name: str, system: System) -> None:
        """Stage 3; then decode the test split by every search of the system."""
        folder, start = self.folder(seed, name), self.checkpoint(seed, system.start)
        updates, test = self.origin.updates, self.origin.test
        frozen = f"+model.freeze_encoder_updates={round(system.frozen * updates)}"
        overrides = [
            f"common.seed={seed}",
            *self._updates(updates),
            *self.origin.overrides,
            *(self.origin.from_encoder if system.start else self.origin.from_scratch),
            path_override("model.init_encoder_from", start),
            *system.options,
            *(FROZEN if system.frozen == 1 else [frozen] if system.frozen else []),
            *([path_override("+model.init_decoder_from", start)] if system.init_decoder else []),
            *([f"checkpoint.keep_best_checkpoints={AVERAGED}"] if system.averaged else []),
        ]
        best = train(CONFIG, "finetuning", self.data(system), folder, overrides)
        for search in system.searches:
            weight = self._ctc_weight(system, best, folder) if search == "joint" else None
            self._decode(system, best, test, folder / search, self._options(search, weight))
        if system.averaged:
            mean = folder / "averaged" / "mean.pt"
            if not mean.is_file():
                mean.parent.mkdir(exist_ok=True)
                average.main([str(folder), "--best", str(AVERAGED), "--output", str(mean)])
            self._decode(system, mean, test, folder / "ctc_averaged", self._options("ctc"))

    def _ctc_weight(self, system: System, best: Path, folder: Path) -> float:
        """The CTC weight with which joint decoding is best on the validation split."""
        rates = {
            search: self._decode(
                system, best, "valid", folder / f"valid_{search}", self._options(search)
            )
            for search in ("ctc", "attention")
        }
        joint = {}
        for weight in CTC_WEIGHTS:
            results = folder / f"valid_joint_{weight}"
            options = self._options("joint", weight)
            scores = self._decode(system, best, "valid", results, options)
            rates[f"joint, {weight} of CTC"] = scores
            joint[weight] = scores[self.origin.metric]
        with atomic_path(folder / "valid.json") as partial_file:
            partial_file.write_text(json.dumps(rates), encoding="utf-8")
        return min(joint, key=joint.get)

    def _decode(
        self, system: System, checkpoint: Path, split: str, results: Path, options: list[str]
    ) -> dict[str, float]:
        """Decode a split; return its ``wer`` and ``cer``."""
        return decode(checkpoint, self.data(system), split, results, "wer", options)

    def _options(self, search: str, weight: float | None = None) -> list[str]:
        """Options of ``fairseq-generate``; ``weight`` is that of CTC in joint decoding."""
        if search == "ctc":
            return ["--decoding", "ctc"]
        joint = [] if weight is None else [f"--ctc-decoding-weight={weight}"]
        return ["--decoding", search, *joint, *self.origin.search]

    def _updates(self, updates: int) -> list[str]:
        """Overrides for a number of updates, with validations and checkpoints evenly spaced."""
        interval = max(1, updates // CHECKPOINTS)
        warmup = self.origin.warmup
        return [
            f"optimization.max_update={updates}",
            *([f"lr_scheduler.warmup_updates={warmup(updates)}"] if warmup else []),
            *(f"dataset.validate_interval={NEVER}", f"checkpoint.save_interval={NEVER}"),
            f"dataset.validate_interval_updates={interval}",
            f"checkpoint.save_interval_updates={interval}",
            "checkpoint.keep_interval_updates=1",
        ]


def write_subset(data: Path, out: Path, percent: int, test: str, seed: int = 1) -> None:
    """Write manifests with ``percent`` of the training rows; smaller subsets are nested in larger.

    The validation and test splits are written in full.
    """
    for split in ("train", "valid", test):
        path = out / f"{split}.tsv"
        if path.is_file():
            continue
        kept = list(rows(Manifest(data / path.name)))
        for row in kept:
            for name in filter(row.get, ("audio", "recording")):
                row[name] = relative(path, absolute(data / path.name, row[name]))
        if split == "train":
            order = np.random.default_rng(seed).permutation(len(kept))
            kept = [kept[i] for i in sorted(order[: max(1, len(kept) * percent // 100)])]
        write_manifest(path, kept)


def _copy_vocabulary(source: Path, out: Path) -> None:
    for name in VOCABULARY:
        shutil.copyfile(source / name, out / name)


def run(comparison: Comparison, chosen: dict[str, System], seeds: Sequence[int], jobs: int) -> None:
    """Run every step that has not finished yet."""
    comparison.prepare()
    if any(system.start == "continued" for system in chosen.values()):
        run_parallel([partial(comparison.continue_midtraining, seed) for seed in seeds], jobs)
    steps = [
        partial(comparison.finetune, seed, name, system)
        for seed in seeds
        for name, system in chosen.items()
    ]
    run_parallel(steps, jobs)


def main() -> None:
    """Command-line entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.finetuning.compare", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    origins = parser.add_mutually_exclusive_group()
    origins.add_argument("--demo", type=Path, default=Path("runs/demo"), help="a finished demo")
    help_text = "a finished run of examples.mboshi.run, instead of a demo"
    origins.add_argument("--mboshi", type=Path, help=help_text)
    add("--language", choices=["de", "it", "nl"], default="nl", help="target of the demo's stage 2")
    add("--out", type=Path, help="default: runs/finetuning, or runs/finetuning_mboshi")
    add("--seeds", type=int, nargs="+", default=[1], help="seeds of the demo or of --mboshi to use")
    add("--updates", type=int, help="updates of each fine-tuning (default: those of its origin)")
    add("--continued", type=int, help="updates of stage 2 with the characters of both languages")
    add("--jobs", type=int, default=1, help="number of parallel trainings")
    add("--only", nargs="+", choices=[*VARIANTS, *CURVE], metavar="SYSTEM", help="systems to run")
    args = parser.parse_args()
    seeds = list(dict.fromkeys(args.seeds))
    with exit_with_one_line():
        start = origin.mboshi(args.mboshi) if args.mboshi else origin.demo(args.demo, args.language)
        given = {"updates": args.updates, "continued": args.continued}
        start = replace(
            start, **{name: value for name, value in given.items() if value is not None}
        )
        chosen = {name: x for name, x in systems(start).items() if name in (args.only or [name])}
        out = args.out or Path("runs") / ("finetuning_mboshi" if args.mboshi else "finetuning")
        comparison = Comparison(start, out)
        run(comparison, chosen, seeds, args.jobs)
        print(Tables(comparison, chosen, seeds))


if __name__ == "__main__":
    main()
