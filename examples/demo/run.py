"""Run the whole method at small scale: ``make demo`` and ``make demo-full``.

Generates a corpus, pre-trains on talking faces without labels, mid-trains on translated speech,
fine-tunes on a few transcripts, and compares the recogniser with others that skip or vary stages
(``ablations``). All are fine-tuned on the same transcripts and decode the same test set. Finished
steps are not repeated and interrupted ones resume. Writes a table, ``results.json`` and
``report.html``.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

from examples.demo.systems import Demo, Recogniser, Sizes, ablations, full, stages
from examples.demo.table import results, table
from examples.processes import exit_with_one_line, run_parallel
from manifests.common import atomic_path


def run(demo: Demo, recognisers: dict[str, Recogniser], seeds: Sequence[int], jobs: int) -> dict:
    """Run every step that has not finished yet; return the results."""
    demo.generate_corpus()
    for level in levels(demo, recognisers, seeds):
        run_parallel(level, jobs)
    return results(demo, recognisers, seeds)


def levels(
    demo: Demo, recognisers: dict[str, Recogniser], seeds: Sequence[int]
) -> list[list[Callable[[], None]]]:
    """Group the trainings into levels; each starts from an encoder of an earlier level.

    Every training occurs once. Within a level, those whose encoder others need come first.
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
    """Command-line entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo.run", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder (runs/demo)")
    parser.add_argument(
        "--language",
        choices=["de", "it", "nl"],
        default="nl",
        help="of the translations that stage 2 learns from (nl)",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1], metavar="SEED", help="one run each (1)"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="number of parallel trainings (2)"
    )
    parser.add_argument(
        "--compare",
        choices=["stages", "full", "ablations"],
        default="stages",
        help="stages: scratch, pre-trained, mid-trained; full: also frozen encoders and baselines "
        "of two and four times the budget; ablations: also other learning rates, variants of "
        "stages 1 and 2, and baselines of equal compute",
    )
    for size in fields(Sizes):
        parser.add_argument(
            f"--{size.name.replace('_', '-')}",
            type=int,
            default=size.default,
            metavar="N",
            help=f"{size.metadata['help']} ({size.default})",
        )
    parser.add_argument(
        "--override",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="Hydra overrides for every training",
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
    with exit_with_one_line():
        found = run(Demo(out, sizes, language, overrides), chosen, seeds, jobs)
    with atomic_path(out / "results.json") as partial_file:
        partial_file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(table(found))
    page = subprocess.run([sys.executable, "-m", "mmpt_fairseq.report", str(out)], check=False)
    if page.returncode:
        sys.exit(page.returncode)
    print(
        f"{out / 'results.json'} and {out / 'report.html'} written after "
        f"{time.monotonic() - started:.0f} s; to repeat finished steps, move {out} away",
        file=sys.stderr,
    )
    print(f"Next steps:\n{next_steps(out, Path(found['checkpoints']['asr']))}")


def next_steps(out: Path, recogniser: Path) -> str:
    """Commands to try on the demo's results: transcribe one of its clips and report on it."""
    clip = sorted((out / "corpus" / "clips" / "asr_test").iterdir())[0]
    return "\n".join(
        [
            f"  {shlex.join(['mmpt-transcribe', str(recogniser), str(clip)])}",
            f"  {shlex.join(['mmpt-report', str(recogniser), str(clip)])}"
            f"   # writes {recogniser.with_suffix('.html')}",
            "  (first: . .venv/bin/activate)",
        ]
    )


if __name__ == "__main__":
    main()
