"""Evaluate what stage 1 learns, by a probe of frozen encoders and by retrieval: see README.md.

    python -m examples.probe.run --data DIR

Runs every step that is not finished yet and resumes interrupted ones. Prints the tables at the end;
``results.json`` has all numbers.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

from examples.probe.results import results, tables
from examples.probe.systems import CORPORA, CRITERIA, Probe, Settings
from examples.processes import exit_with_one_line, run_parallel
from manifests.common import atomic_path


def main(arguments: list[str] | None = None) -> None:
    """Command-line entry point."""
    args = _parser().parse_args(arguments)
    settings = Settings(
        updates=dict(zip(CRITERIA, args.updates, strict=True)),
        drawn_updates=args.drawn_updates,
        drawn_clips=args.drawn_clips,
        overrides=tuple(args.override),
    )
    probe, seeds = Probe(args.data, args.out, settings), list(dict.fromkeys(args.seeds))
    with exit_with_one_line():
        probe.prepare()
        trainings = []
        if "real" in args.corpora:
            trainings += [partial(probe.train, o, seed) for seed in seeds for o in CRITERIA]
        if "drawn" in args.corpora:
            probe.draw()
            trainings += [partial(probe.train_on_drawn, o, s) for s in seeds for o in CRITERIA]
        run_parallel(trainings, args.jobs)
        record = results(probe, seeds, args.corpora)
    with atomic_path(args.out / "results.json") as partial_file:
        partial_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(tables(record))
    print(f"{args.out / 'results.json'} has all numbers", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    default, parser = (
        Settings(),
        argparse.ArgumentParser(
            prog="python -m examples.probe.run", description=__doc__.splitlines()[0]
        ),
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of the corpora")
    add("--out", type=Path, default=Path("runs/probe"))
    add("--seeds", type=int, nargs="+", default=[1, 2, 3])
    add(
        "--corpora",
        nargs="+",
        choices=list(CORPORA),
        default=list(CORPORA),
        help="corpora to train on",
    )
    add("--jobs", type=int, default=1, help="trainings to run in parallel")
    add(
        "--updates",
        type=int,
        nargs=len(CRITERIA),
        default=list(default.updates.values()),
        metavar=tuple(name.upper() for name in CRITERIA),
        help="updates on real data, by objective",
    )
    add("--drawn-updates", type=int, default=default.drawn_updates, help="updates on drawn faces")
    add(
        "--drawn-clips", type=int, default=default.drawn_clips, help="training clips of drawn faces"
    )
    add(
        "--override",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="options for fairseq-hydra-train",
    )
    return parser


if __name__ == "__main__":
    main()
