"""How to fine-tune and how to decode, compared on the demo's corpus after ``make demo``:

    python -m examples.finetuning.compare [--demo runs/demo] [--out runs/finetuning] [--seeds 1]

Encoder frozen, frozen for a while or free; decoder fresh or carried over; attention, CTC or both;
10, 30 and 100 % of the transcripts with and without mid-training; the best checkpoint or the mean
of the best five. What is done is not done again; what was interrupted goes on. It prints tables in
Markdown.

The decoder can be carried over only where both stages spell alike, and the demo's do not: stage 2
goes on for some updates with the letters of both languages, and both decoders start from there.
"""

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from examples.demo.run import CONFIG, FROZEN, TAKEN_OVER, Demo, Sizes
from examples.finetuning.table import Tables
from examples.stages import decode, exit_in_a_sentence, side_by_side, train
from manifests.common import atomic_path
from manifests.repoint import rows
from manifests.vocabulary import build_vocabulary
from mmpt_fairseq import average
from mmpt_fairseq.data.manifest import Manifest, write_manifest

SPLITS = ("train", "valid", "test")
VOCABULARY = ("dict.txt", "spm.model", "config.yaml")
WEIGHTS = (0.3, 0.5, 0.7)  # of CTC in joint decoding; the best on the validation split is taken
INTERVAL = 25  # updates from one checkpoint to the next
AVERAGED = 5  # checkpoints
SHARES = (10, 30)  # percent of the transcripts; the demo's own trainings have all of them
SCHEDULED = ["+model.freeze_encoder_updates=100"]


@dataclass(frozen=True)
class System:
    """A fine-tuning; what is not said is as in the demo.

    Attributes:
        start: whose encoder it starts from: ``midtrained``, ``continued`` or None.
        share: percent of the transcripts.
        options: of the training.
        carried: whether the decoder is that of ``start`` too.
        searches: how the test split is decoded: ``ctc``, ``attention``, ``joint``.
        averaged: whether the mean of the best checkpoints is decoded too.
    """

    start: str | None = "midtrained"
    share: int = 100
    options: tuple[str, ...] = ()
    carried: bool = False
    searches: tuple[str, ...] = ("ctc",)
    averaged: bool = False


SYSTEMS = {
    "encoder frozen": System(options=tuple(FROZEN), averaged=True),
    "encoder frozen for 100 updates": System(options=tuple(SCHEDULED), averaged=True),
    "encoder free": System(searches=("ctc", "attention", "joint"), averaged=True),
    "decoder fresh": System("continued", searches=("ctc", "attention", "joint")),
    "decoder carried over": System(
        "continued", carried=True, searches=("ctc", "attention", "joint")
    ),
}
CURVE = {
    f"{share} %, {start or 'scratch'}": System(start, share, tuple(TAKEN_OVER if start else ()))
    for share in SHARES
    for start in (None, "midtrained")
}


class Comparison:
    """The steps in ``out``, over the corpus and the trainings of a finished demo."""

    def __init__(self, demo: Demo, out: Path, updates: int, continued: int) -> None:
        self.demo, self.out, self.updates, self.continued = demo, out, updates, continued

    def prepare(self) -> None:
        """Data folders: shares of the transcripts, and both stages' with one vocabulary."""
        asr, st = self.demo.corpus / "asr", self.demo.corpus / f"st_en-{self.demo.language}"
        for share in (*SHARES, 100):
            share_transcripts(asr, self.out / f"asr_{share}", share)
            _take_vocabulary(asr, self.out / f"asr_{share}")
        share_transcripts(st, self.out / "st_both", 100)
        if not (self.out / "st_both" / "config.yaml").is_file():
            build_vocabulary(self.out / "st_both", "char", with_source=True)
        share_transcripts(asr, self.out / "asr_both", 100)
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
        return self.demo.checkpoint(seed, start and f"midtrained_mae_{self.demo.language}")

    def continue_midtraining(self, seed: int) -> None:
        """Stage 2 with the letters of both languages."""
        overrides = [
            f"common.seed={seed}",
            f"optimization.max_update={self.continued}",
            f"model.init_encoder_from={self.checkpoint(seed, 'midtrained')}",
            "dataset.max_tokens=3000",
        ]
        train(
            CONFIG, "midtraining", self.out / "st_both", self.folder(seed, "continued"), overrides
        )

    def finetune(self, seed: int, name: str, system: System) -> None:
        """Stage 3, and the test split decoded in every way that the system is asked for."""
        folder, start = self.folder(seed, name), self.checkpoint(seed, system.start)
        overrides = [
            f"common.seed={seed}",
            f"optimization.max_update={self.updates}",
            f"model.init_encoder_from={start}",
            *("dataset.validate_interval=1000000", "checkpoint.save_interval=1000000"),
            f"dataset.validate_interval_updates={INTERVAL}",
            f"checkpoint.save_interval_updates={INTERVAL}",
            *system.options,
            *([f"+model.init_decoder_from={start}"] if system.carried else []),
        ]
        best = train(CONFIG, "finetuning", self.data(system), folder, overrides)
        for search in system.searches:
            weight = self._weight(system, best, folder) if search == "joint" else None
            self._decode(system, best, "test", folder / search, _options(search, weight))
        if system.averaged:
            mean = folder / "averaged" / "mean.pt"
            if not mean.is_file():
                mean.parent.mkdir(exist_ok=True)
                average.main([str(folder), "--best", str(AVERAGED), "--output", str(mean)])
            self._decode(system, mean, "test", folder / "ctc_averaged", _options("ctc"))

    def _weight(self, system: System, best: Path, folder: Path) -> float:
        """The weight of CTC with which joint decoding is best on the validation split."""
        wer = {
            search: self._decode(
                system, best, "valid", folder / f"valid_{search}", _options(search)
            )
            for search in ("ctc", "attention")
        }
        joint = {}
        for weight in WEIGHTS:
            results = folder / f"valid_joint_{weight}"
            joint[weight] = self._decode(system, best, "valid", results, _options("joint", weight))
            wer[f"joint, {weight} of CTC"] = joint[weight]
        with atomic_path(folder / "valid.json") as partial_file:
            partial_file.write_text(json.dumps(wer), encoding="utf-8")
        return min(joint, key=joint.get)

    def _decode(
        self, system: System, checkpoint: Path, split: str, results: Path, options: list[str]
    ) -> float:
        """The split's WER."""
        return decode(checkpoint, self.data(system), split, results, "wer", options)["wer"]


def _options(search: str, weight: float | None = None) -> list[str]:
    """Of ``fairseq-generate``; ``weight`` of CTC in joint decoding."""
    if search == "ctc":
        return ["--decoding", "ctc"]
    mixed = [] if weight is None else [f"--ctc-decoding-weight={weight}"]
    return ["--decoding", search, *mixed, "--beam", "5", "--max-len-b", "100"]


def share_transcripts(data: Path, out: Path, share: int, seed: int = 1) -> None:
    """Manifests of ``share`` percent of the training rows; a smaller share is part of a larger."""
    for split in SPLITS:
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


def run(
    comparison: Comparison, systems: dict[str, System], seeds: Sequence[int], jobs: int
) -> None:
    """Every step that is not done yet."""
    comparison.prepare()
    if any(system.start == "continued" for system in systems.values()):
        side_by_side([partial(comparison.continue_midtraining, seed) for seed in seeds], jobs)
    steps = [
        partial(comparison.finetune, seed, name, system)
        for seed in seeds
        for name, system in systems.items()
    ]
    side_by_side(steps, jobs)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--demo", type=Path, default=Path("runs/demo"), help="a finished demo")
    add("--language", choices=["de", "it", "nl"], default="nl", help="of its stage 2")
    add("--out", type=Path, default=Path("runs/finetuning"))
    add("--seeds", type=int, nargs="+", default=[1], help="of the demo's that are to be compared")
    add("--updates", type=int, default=Sizes().finetuning_updates, help="of each fine-tuning")
    add(
        "--continued", type=int, default=500, help="updates of stage 2 with both languages' letters"
    )
    add("--jobs", type=int, default=1, help="trainings side by side")
    add("--only", nargs="+", choices=[*SYSTEMS, *CURVE], metavar="SYSTEM", help="a part of it")
    args = parser.parse_args()
    systems = {**SYSTEMS, **CURVE}
    systems = {name: systems[name] for name in args.only or systems}
    comparison = Comparison(
        Demo(args.demo, Sizes(), args.language), args.out, args.updates, args.continued
    )
    with exit_in_a_sentence():
        run(comparison, systems, args.seeds, args.jobs)
        print(Tables(comparison, systems, args.seeds))


if __name__ == "__main__":
    main()
