"""SUPERB's tasks on one or several upstreams, with a sweep of learning rates: see README.md.

    python -m examples.superb.run --upstream runs/pretrained/checkpoint_best.pt \\
        --data data/superb --tasks ks ic pr sd --lrs 1e-2 1e-3 1e-4

Everything that is not done yet is done, and what was interrupted goes on. At the end a table is
printed; ``results.json`` has all numbers and ``layer_weights.svg`` the weights of the layers.
"""

import argparse
import json
import sys
from pathlib import Path

from examples.stages import exit_in_a_sentence, side_by_side
from examples.superb.results import draw_weights, table
from examples.superb.systems import KINDS, Settings, System, check_upstreams
from manifests.common import atomic_path


def run(systems: list[System], jobs: int) -> dict[str, dict[str, list[dict]]]:
    """Upstream -> task -> scores of its seeds."""
    # Seeds share the states of an upstream that is not untrained: each folder is stored once.
    stores = {system.states: system.store for system in systems}
    side_by_side(list(stores.values()), jobs)
    trainings = [
        lambda system=system, rate=rate: system.train(rate)
        for system in systems
        for rate in system.rates()
    ]
    side_by_side(trainings, jobs)
    scores = side_by_side([system.evaluate for system in systems], jobs)
    found: dict[str, dict[str, list[dict]]] = {}
    for system, score in zip(systems, scores, strict=True):
        found.setdefault(system.name, {}).setdefault(system.task, []).append(score)
    return found


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    args = _parser().parse_args(arguments)
    settings = Settings(
        rates=tuple(args.lrs) if args.lrs else None,
        updates=args.updates,
        checkpoints=args.checkpoints,
        cached=not args.no_cache,
        overrides=tuple(args.override),
    )
    upstreams = list(dict.fromkeys(args.upstream if args.no_fbank else ["fbank", *args.upstream]))
    systems = [
        System(upstream, task, seed, args.data, args.out, settings)
        for upstream in upstreams
        for task in args.tasks
        for seed in args.seeds
    ]
    with exit_in_a_sentence():
        check_upstreams(upstreams, args.data, args.tasks)
        found = run(systems, args.jobs)
    with atomic_path(args.out / "results.json") as partial:
        partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found, args.tasks))
    if draw_weights(found, args.tasks, args.out / "layer_weights.svg"):
        print(f"{args.out / 'layer_weights.svg'} shows the layers' weights", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--upstream", nargs="+", default=[], help="checkpoints, random:CKPT; fbank is always there")
    add("--data", type=Path, required=True, help="folder of ks/, ic/, pr/, sd/ with manifests")
    add("--out", type=Path, default=Path("runs/superb"))
    add("--tasks", nargs="+", choices=list(KINDS), default=list(KINDS))
    add("--lrs", nargs="+", type=float, help="learning rates to try (default: s3prl's own)")
    add("--seeds", nargs="+", type=int, default=[1])
    add("--updates", type=int, help="of each training (default: s3prl's, up to 200000)")
    add("--checkpoints", type=int, default=10, help="validations, with --updates")
    add("--jobs", type=int, default=1, help="trainings side by side")
    add("--no-cache", action="store_true", help="run the upstream in every update")
    add("--no-fbank", action="store_true", help="leave the baseline out")
    add("--override", nargs="+", default=[], metavar="KEY=VALUE", help="of fairseq-hydra-train")
    return parser


if __name__ == "__main__":
    main()
