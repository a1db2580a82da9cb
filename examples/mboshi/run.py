"""Compare the three stages with baselines on real speech; see README.md in this folder.

    python -m examples.mboshi.run --data DIR

Finished steps are not repeated and interrupted ones resume. Prints a table of scores at the end and
writes all numbers to ``results.json``.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from examples.mboshi.counts import format_counts
from examples.mboshi.results import results, table
from examples.mboshi.s2t_conformer import Size
from examples.mboshi.systems import (
    SYSTEMS,
    TRANSCRIPTS,
    Comparison,
    Curriculum,
    Settings,
    levels,
)
from examples.processes import exit_with_one_line, run_parallel
from manifests.common import atomic_path


def main(arguments: list[str] | None = None) -> None:
    """Command-line entry point."""
    args = _parser().parse_args(arguments)
    comparison = Comparison(args.data, args.out, _settings(args))
    chosen = args.systems, args.transcripts, list(dict.fromkeys(args.seeds))
    started = time.monotonic()
    with exit_with_one_line():
        comparison.prepare()
        for level in levels(comparison, *chosen):
            run_parallel(level, args.jobs)
        found = results(comparison, *chosen)
    counts = json.loads((comparison.manifests / "counts.json").read_text(encoding="utf-8"))
    with atomic_path(args.out / "results.json") as partial:
        content = json.dumps({**found, "counts": counts}, indent=1, ensure_ascii=False)
        partial.write_text(content + "\n", encoding="utf-8")
    print(format_counts(counts))
    print(table(found))
    taken = time.monotonic() - started
    print(f"{args.out / 'results.json'} written after {taken:.0f} s", file=sys.stderr)


def _settings(args: argparse.Namespace) -> Settings:
    size = Size(
        **{name: getattr(args, name) for name in Size.__dataclass_fields__},
    )
    return Settings(
        minutes=args.minutes,
        updates=tuple(args.budget),
        rate=args.rate,
        finetuning_rate=args.finetuning_rate,
        guide=args.guide,
        frozen=args.frozen,
        dropout=args.dropout,
        conformer_rate=args.conformer_rate,
        translation_ctc=args.translation_ctc,
        encoder_lr_scale=args.encoder_lr_scale,
        checkpoints=args.checkpoints,
        size=size,
        short_midtraining=Curriculum(*args.short_midtraining),
        short_finetuning=Curriculum(*args.short_finetuning),
        fresh_layers=args.fresh_layers,
        kind=args.translations,
        entries=args.entries,
        decoding=args.decoding,
        interrupt=args.interrupt,
    )


def _parser() -> argparse.ArgumentParser:
    default, parser = (
        Settings(),
        argparse.ArgumentParser(
            prog="python -m examples.mboshi.run", description=__doc__.splitlines()[0]
        ),
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of the corpora")
    add("--out", type=Path, default=Path("runs/mboshi"))
    add("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="rows of the table")
    add("--transcripts", nargs="+", choices=TRANSCRIPTS, default=list(TRANSCRIPTS))
    add("--seeds", type=int, nargs="+", default=[1])
    # Parallel trainings slow each other down: comparable times need one at a time.
    add("--jobs", type=int, default=1, help="parallel trainings; more than 1 distorts times")
    add("--minutes", type=float, default=default.minutes, help="minutes of transcripts in 'few'")
    add(
        "--budget",
        type=int,
        nargs=4,
        default=default.updates,
        metavar=("PRE", "MID", "FEW", "ALL"),
        help="updates of pre-training, mid-training, fine-tuning on few and on all transcripts",
    )
    add("--rate", type=float, default=default.rate, help="peak learning rate of stage 2")
    help_text = "peak learning rate of stage 3"
    add("--finetuning-rate", type=float, default=default.finetuning_rate, help=help_text)
    help_text = "number of initial updates of stage 3 with guided CTC"
    add("--guide", type=int, default=default.guide, help=help_text)
    help_text = "fraction of stage 3's updates for which an initialised encoder is frozen"
    add("--frozen", type=float, default=default.frozen, help=help_text)
    add("--dropout", type=float, default=default.dropout, help="dropout of stage 3")
    add("--conformer-rate", type=float, default=default.conformer_rate, help="of s2t_conformer")
    help_text = "weight of stage 2's CTC term"
    add("--translation-ctc", type=float, default=default.translation_ctc, help=help_text)
    help_text = "encoder's learning rate in stage 2, as a multiple of --rate"
    add("--encoder-lr-scale", type=float, default=default.encoder_lr_scale, help=help_text)
    add("--checkpoints", type=int, default=default.checkpoints, help="validations per training")
    for name, value in vars(default.size).items():
        help_text = "10 ms frames per batch, stages 2-3" if name == "max_tokens" else "model size"
        add(f"--{name.replace('_', '-')}", type=int, default=value, help=help_text)
    for name in ("short_midtraining", "short_finetuning"):
        add(
            f"--{name.replace('_', '-')}",
            type=int,
            nargs=2,
            default=(getattr(default, name).epochs, getattr(default, name).frames),
            metavar=("EPOCHS", "FRAMES"),
            help="number of initial epochs with only clips of up to FRAMES 10 ms frames",
        )
    add("--fresh-layers", type=int, default=default.fresh_layers, help="in stage 3's encoder")
    add("--translations", choices=["char", "unigram"], default=default.kind, help="vocabulary")
    add("--entries", type=int, default=default.entries, help="its size, unless it is char")
    choices = ["ctc", "attention", "joint"]
    add("--decoding", choices=choices, default=default.decoding, help="of our systems")
    add("--interrupt", action="store_true", help="kill each of our trainings once half-way")
    return parser


if __name__ == "__main__":
    main()
