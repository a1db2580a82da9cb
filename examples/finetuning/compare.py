"""How to fine-tune and how to decode, compared on the demo's corpus after ``make demo``, or on real
speech after ``python -m examples.mboshi.run``:

    python -m examples.finetuning.compare [--demo runs/demo] [--out runs/finetuning] [--seeds 1]
    python -m examples.finetuning.compare --mboshi runs/mboshi --out runs/finetuning_mboshi

Encoder frozen, frozen for a while or free; decoder fresh or carried over; attention, CTC or both;
10, 30 and 100 % of the transcripts with and without mid-training; the best checkpoint or the mean
of the best five. What is done is not done again; what was interrupted goes on. It prints tables in
Markdown.

The decoder can be carried over only where both stages spell alike, and they do not: stage 2 goes on
for some updates with the letters of both languages, and both decoders start from there.
"""

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from examples.demo.run import CONFIG, FROZEN
from examples.finetuning import origin
from examples.finetuning.origin import Origin
from examples.finetuning.table import Tables
from examples.mboshi.systems import NEVER
from examples.stages import decode, exit_in_a_sentence, side_by_side, train
from manifests.common import atomic_path
from manifests.errors import InputError
from manifests.repoint import rows
from manifests.vocabulary import build_vocabulary
from mmpt_fairseq import average
from mmpt_fairseq.data.data_folder import DATA_CONFIG, DICTIONARY, SENTENCEPIECE
from mmpt_fairseq.data.manifest import Manifest, write_manifest

VOCABULARY = (DICTIONARY, SENTENCEPIECE, DATA_CONFIG)
WEIGHTS = (0.3, 0.5, 0.7)  # of CTC in joint decoding; the best on the validation split is taken
CHECKPOINTS = 20  # of a training, evenly spread
AVERAGED = 5  # of them
SHARES = (10, 30)  # percent of the transcripts; the origin's own trainings have all of them


@dataclass(frozen=True)
class System:
    """A fine-tuning; what is not said is as in its origin.

    Attributes:
        start: whose encoder it starts from: ``midtrained``, ``continued`` or None.
        share: percent of the transcripts, which the origin or the curve says.
        options: of the training.
        frozen: share of the updates for which the encoder stays as it is; 1: for good.
        carried: whether the decoder is that of ``start`` too.
        searches: how the test split is decoded: ``ctc``, ``attention``, ``joint``.
        averaged: whether the mean of the best checkpoints is decoded too.
    """

    start: str | None = "midtrained"
    share: int = 0
    options: tuple[str, ...] = ()
    frozen: float = 0.0
    carried: bool = False
    searches: tuple[str, ...] = ("ctc", "attention", "joint")
    averaged: bool = False


WAYS = {
    "encoder frozen": System(frozen=1.0, averaged=True),
    "encoder frozen at first": System(frozen=1 / 3, averaged=True),
    "encoder free": System(averaged=True),
    "decoder fresh": System("continued"),
    "decoder carried over": System("continued", carried=True),
}
CURVE = [f"{share} %, {start}" for share in SHARES for start in ("scratch", "midtrained")]


def systems(origin: Origin) -> dict[str, System]:
    """The ways on the origin's share of the transcripts, then the curve's points."""
    ways = {name: replace(way, share=origin.share) for name, way in WAYS.items()}
    scratch = System(None, options=tuple(origin.curve_from_scratch), searches=("ctc",))
    midtrained = System(
        options=tuple(origin.curve_taken_over), frozen=origin.curve_frozen, searches=("ctc",)
    )
    curve = [replace(way, share=share) for share in SHARES for way in (scratch, midtrained)]
    return {**ways, **dict(zip(CURVE, curve, strict=True))}


class Comparison:
    """The steps in ``out``, over the corpus and the trainings of ``origin``."""

    def __init__(self, origin: Origin, out: Path) -> None:
        self.origin, self.out = origin, out

    def prepare(self) -> None:
        """Data folders: shares of the transcripts, and both stages' with one vocabulary.

        Raises:
            InputError: those that are there are of another corpus.
        """
        origin, told = self.origin, self.out / "corpus.txt"
        corpus = str(origin.asr.resolve())
        if told.is_file() and told.read_text(encoding="utf-8") != corpus:
            raise InputError(
                f"{self.out} compares ways on another corpus; give another folder with --out"
            )
        self.out.mkdir(parents=True, exist_ok=True)
        told.write_text(corpus, encoding="utf-8")
        for share in sorted({*SHARES, origin.share}):
            share_transcripts(origin.asr, self.out / f"asr_{share}", share, origin.test)
            _take_vocabulary(origin.asr, self.out / f"asr_{share}")
        share_transcripts(origin.st, self.out / "st_both", 100, origin.test)
        if not (self.out / "st_both" / DATA_CONFIG).is_file():
            build_vocabulary(self.out / "st_both", "char", with_source=True)
        share_transcripts(origin.asr, self.out / "asr_both", origin.share, origin.test)
        _take_vocabulary(self.out / "st_both", self.out / "asr_both")

    def folder(self, seed: int, name: str) -> Path:
        """Of a training."""
        return (
            self.out / f"seed{seed}" / name.replace(" %", "").replace(", ", " ").replace(" ", "_")
        )

    def data(self, system: System) -> Path:
        """Of a system's manifests."""
        return self.out / ("asr_both" if system.start == "continued" else f"asr_{system.share}")

    def checkpoint(self, seed: int, start: str | None) -> str:
        """Whose encoder a training takes, as the configs want it."""
        if start == "continued":
            return str(self.folder(seed, "continued") / "checkpoint_best.pt")
        return str(self.origin.midtrained(seed)) if start else "null"

    def continue_midtraining(self, seed: int) -> None:
        """Stage 2 with the letters of both languages."""
        overrides = [
            f"common.seed={seed}",
            *self._updates(self.origin.continued),
            *self.origin.overrides,
            *self.origin.continuing,
            f"model.init_encoder_from={self.checkpoint(seed, 'midtrained')}",
        ]
        train(
            CONFIG, "midtraining", self.out / "st_both", self.folder(seed, "continued"), overrides
        )

    def finetune(self, seed: int, name: str, system: System) -> None:
        """Stage 3, and the test split decoded in every way that the system is asked for."""
        folder, start = self.folder(seed, name), self.checkpoint(seed, system.start)
        updates, test = self.origin.updates, self.origin.test
        first = f"+model.freeze_encoder_updates={round(system.frozen * updates)}"
        overrides = [
            f"common.seed={seed}",
            *self._updates(updates),
            *self.origin.overrides,
            *(self.origin.taken_over if system.start else self.origin.from_scratch),
            f"model.init_encoder_from={start}",
            *system.options,
            *(FROZEN if system.frozen == 1 else [first] if system.frozen else []),
            *([f"+model.init_decoder_from={start}"] if system.carried else []),
            *([f"checkpoint.keep_best_checkpoints={AVERAGED}"] if system.averaged else []),
        ]
        best = train(CONFIG, "finetuning", self.data(system), folder, overrides)
        for search in system.searches:
            weight = self._weight(system, best, folder) if search == "joint" else None
            self._decode(system, best, test, folder / search, self._options(search, weight))
        if system.averaged:
            mean = folder / "averaged" / "mean.pt"
            if not mean.is_file():
                mean.parent.mkdir(exist_ok=True)
                average.main([str(folder), "--best", str(AVERAGED), "--output", str(mean)])
            self._decode(system, mean, test, folder / "ctc_averaged", self._options("ctc"))

    def _weight(self, system: System, best: Path, folder: Path) -> float:
        """The weight of CTC with which joint decoding is best on the validation split."""
        rates = {
            search: self._decode(
                system, best, "valid", folder / f"valid_{search}", self._options(search)
            )
            for search in ("ctc", "attention")
        }
        joint = {}
        for weight in WEIGHTS:
            results = folder / f"valid_joint_{weight}"
            options = self._options("joint", weight)
            found = self._decode(system, best, "valid", results, options)
            rates[f"joint, {weight} of CTC"] = found
            joint[weight] = found[self.origin.metric]
        with atomic_path(folder / "valid.json") as partial_file:
            partial_file.write_text(json.dumps(rates), encoding="utf-8")
        return min(joint, key=joint.get)

    def _decode(
        self, system: System, checkpoint: Path, split: str, results: Path, options: list[str]
    ) -> dict[str, float]:
        """The split's ``wer`` and ``cer``."""
        return decode(checkpoint, self.data(system), split, results, "wer", options)

    def _options(self, search: str, weight: float | None = None) -> list[str]:
        """Of ``fairseq-generate``; ``weight`` of CTC in joint decoding."""
        if search == "ctc":
            return ["--decoding", "ctc"]
        mixed = [] if weight is None else [f"--ctc-decoding-weight={weight}"]
        return ["--decoding", search, *mixed, *self.origin.search]

    def _updates(self, updates: int) -> list[str]:
        """A training of so many, validated and saved at even distances."""
        interval = max(1, updates // CHECKPOINTS)
        rises = self.origin.warmup
        return [
            f"optimization.max_update={updates}",
            *([f"lr_scheduler.warmup_updates={rises(updates)}"] if rises else []),
            *(f"dataset.validate_interval={NEVER}", f"checkpoint.save_interval={NEVER}"),
            f"dataset.validate_interval_updates={interval}",
            f"checkpoint.save_interval_updates={interval}",
            "checkpoint.keep_interval_updates=1",
        ]


def share_transcripts(data: Path, out: Path, share: int, test: str, seed: int = 1) -> None:
    """Manifests of ``share`` percent of the training rows; a smaller share is part of a larger."""
    for split in ("train", "valid", test):
        path = out / f"{split}.tsv"
        if path.is_file():
            continue
        kept = list(rows(Manifest(data / path.name)))
        for row in kept:
            row["audio"] = os.path.relpath(data / row["audio"], out)
            row["recording"] = row["recording"] and os.path.relpath(data / row["recording"], out)
        if split == "train":
            order = np.random.default_rng(seed).permutation(len(kept))
            kept = [kept[i] for i in sorted(order[: max(1, len(kept) * share // 100)])]
        write_manifest(path, kept)


def _take_vocabulary(source: Path, out: Path) -> None:
    for name in VOCABULARY:
        shutil.copyfile(source / name, out / name)


def run(comparison: Comparison, chosen: dict[str, System], seeds: Sequence[int], jobs: int) -> None:
    """Every step that is not done yet."""
    comparison.prepare()
    if any(system.start == "continued" for system in chosen.values()):
        side_by_side([partial(comparison.continue_midtraining, seed) for seed in seeds], jobs)
    steps = [
        partial(comparison.finetune, seed, name, system)
        for seed in seeds
        for name, system in chosen.items()
    ]
    side_by_side(steps, jobs)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--demo", type=Path, default=Path("runs/demo"), help="a finished demo")
    help_text = "a finished run of examples.mboshi.run, instead of a demo"
    either.add_argument("--mboshi", type=Path, help=help_text)
    add("--language", choices=["de", "it", "nl"], default="nl", help="of the demo's stage 2")
    add("--out", type=Path, help="default: runs/finetuning, or runs/finetuning_mboshi")
    add("--seeds", type=int, nargs="+", default=[1], help="of the origin's, to be compared")
    add("--updates", type=int, help="of each fine-tuning, instead of as many as the origin's")
    add("--continued", type=int, help="updates of stage 2 with both languages' letters")
    add("--jobs", type=int, default=1, help="trainings side by side")
    add("--only", nargs="+", choices=[*WAYS, *CURVE], metavar="SYSTEM", help="a part of it")
    args = parser.parse_args()
    with exit_in_a_sentence():
        start = origin.mboshi(args.mboshi) if args.mboshi else origin.demo(args.demo, args.language)
        given = {"updates": args.updates, "continued": args.continued}
        start = replace(
            start, **{name: value for name, value in given.items() if value is not None}
        )
        chosen = {name: x for name, x in systems(start).items() if name in (args.only or [name])}
        out = args.out or Path("runs") / ("finetuning_mboshi" if args.mboshi else "finetuning")
        comparison = Comparison(start, out)
        run(comparison, chosen, args.seeds, args.jobs)
        print(Tables(comparison, chosen, args.seeds))


if __name__ == "__main__":
    main()
