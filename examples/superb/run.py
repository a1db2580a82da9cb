"""Run SUPERB's tasks on one or several upstreams, sweeping learning rates: see README.md.

    python -m examples.superb.run --upstream runs/pretrained/checkpoint_best.pt \\
        --data data/superb --tasks ks ic pr sd --lrs 1e-2 1e-3 1e-4

Runs every step that is not finished yet and resumes interrupted ones. Prints a table at the end;
``results.json`` has all numbers and ``layer_weights.svg`` the layer weights.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from examples.forked import Forked
from examples.processes import exit_with_one_line, run_parallel
from examples.superb.data import prepare
from examples.superb.results import Scores, clips, draw_weights, table
from examples.superb.systems import KINDS, Compared, Settings, System, check
from manifests.common import atomic_path


def run(systems: list[System], jobs: int) -> Scores:
    """Run all systems and return upstream -> task -> scores by seed."""
    # Seeds share the states of an encoder, so each folder is stored only once.
    stores = {system.states: system.store for system in systems}
    run_parallel(list(stores.values()), jobs, start=Forked)
    leaders = [system for system in systems if not system.position]
    for group in (leaders, [system for system in systems if system.position]):
        trainings = [
            lambda system=system, rate=rate: system.train(rate)
            for system in group
            for rate in system.rates()
        ]
        run_parallel(trainings, jobs, start=Forked)
    scores = run_parallel([system.evaluate for system in systems], jobs, start=Forked)
    results: Scores = {}
    for system, score in zip(systems, scores, strict=True):
        results.setdefault(system.name, {}).setdefault(system.task, []).append(score)
    return results


def main(arguments: list[str] | None = None) -> None:
    """Command-line entry point."""
    parser = _parser()
    args = parser.parse_args(arguments)
    settings = Settings(
        seeds=tuple(dict.fromkeys(args.seeds)),
        rates=tuple(dict.fromkeys(args.lrs)) if args.lrs else None,
        updates=_updates(parser, args.updates),
        checkpoints=args.checkpoints,
        cached=not args.no_cache,
        overrides=tuple(args.override),
    )
    names = args.upstream if args.no_fbank else ["fbank", *args.upstream]
    if not names:
        parser.error("--no-fbank leaves nothing to compare; give --upstream")
    upstreams = [Compared.parse(name) for name in dict.fromkeys(names)]
    args.tasks = list(dict.fromkeys(args.tasks))
    systems = [
        System(upstream, task, position, args.data, args.out, settings)
        for upstream in upstreams
        for task in args.tasks
        for position in range(len(settings.seeds))
    ]
    with exit_with_one_line():
        if args.corpora:
            prepare(args.corpora, args.data, args.tasks, args.jobs, features=True)
        check(upstreams, args.data, args.tasks, settings)
        results = run(systems, args.jobs)
        counts = clips(args.data, args.tasks)
    with atomic_path(args.out / "results.json") as partial:
        record = {"clips": counts, "upstreams": results}
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table(results, args.tasks, counts))
    if draw_weights(results, args.tasks, args.out / "layer_weights.svg"):
        print(f"{args.out / 'layer_weights.svg'} shows the layer weights", file=sys.stderr)


def _updates(parser: argparse.ArgumentParser, values: Sequence[str]) -> dict[str, int]:
    """Parse e.g. ``["300", "sd=100"]``: N for every task, TASK=N for one."""
    updates: dict[str, int] = {}
    for value in sorted(values, key=lambda value: "=" in value):
        task, equals, number = value.rpartition("=")
        if not number.isdigit() or int(number) < 1 or (equals and task not in KINDS):
            parser.error(f"--updates takes N or TASK=N (ks, ic, pr, sd), not {value!r}")
        updates |= dict.fromkeys([task] if equals else KINDS, int(number))
    return updates


def _at_least_1(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a number from 1 on")
    return int(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.superb.run", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add(
        "--upstream",
        nargs="+",
        default=[],
        metavar="[NAME=]CKPT[,CKPT]",
        help="checkpoints or random:CKPT; several under one name are assigned to seeds in turn; "
        "fbank is included by default",
    )
    add("--data", type=Path, required=True, help="folder with the manifests in ks/, ic/, pr/, sd/")
    add("--corpora", type=Path, help="create --data from these first, see examples.superb.data")
    add("--out", type=Path, default=Path("runs/superb"))
    add("--tasks", nargs="+", choices=list(KINDS), default=list(KINDS))
    add("--lrs", nargs="+", type=float, help="learning rates to try (default: s3prl's own)")
    add(
        "--seeds",
        nargs="+",
        type=int,
        default=[1],
        help="seeds of the heads; the first one sweeps the rates",
    )
    add(
        "--updates",
        nargs="+",
        default=[],
        metavar="[TASK=]N",
        help="updates per training (default: s3prl's, up to 200000)",
    )
    help_text = "validations per training, with --updates"
    add("--checkpoints", type=_at_least_1, default=10, help=help_text)
    add("--jobs", type=_at_least_1, default=1, help="trainings to run in parallel")
    add("--no-cache", action="store_true", help="run the upstream in every update")
    add("--no-fbank", action="store_true", help="omit the FBANK baseline")
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
