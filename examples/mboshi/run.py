"""The three stages on real speech against their baselines: see README.md beside this file.

    python -m examples.mboshi.run --data DIR

Everything that is not done yet is done, and what was interrupted goes on; a table of scores is
printed at the end and written with all numbers to ``results.json``.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from examples.mboshi.counts import statement
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
from examples.stages import exit_in_a_sentence, side_by_side
from manifests.common import atomic_path


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    args = _parser().parse_args(arguments)
    comparison = Comparison(args.data, args.out, _settings(args))
    chosen = args.systems, args.transcripts, list(dict.fromkeys(args.seeds))
    started = time.monotonic()
    with exit_in_a_sentence():
        comparison.prepare()
        for level in levels(comparison, *chosen):
            side_by_side(level, args.jobs)
        found = results(comparison, *chosen)
    counts = json.loads((comparison.manifests / "counts.json").read_text(encoding="utf-8"))
    with atomic_path(args.out / "results.json") as partial:
        content = json.dumps({**found, "counts": counts}, indent=1, ensure_ascii=False)
        partial.write_text(content + "\n", encoding="utf-8")
    print(statement(counts))
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
    default, parser = Settings(), argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of the corpora")
    add("--out", type=Path, default=Path("runs/mboshi"))
    add("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="shown in the table")
    add("--transcripts", nargs="+", choices=TRANSCRIPTS, default=list(TRANSCRIPTS))
    add("--seeds", type=int, nargs="+", default=[1])
    # Two trainings side by side are slower than one alone: equal times need one at a time.
    add("--jobs", type=int, default=1, help="trainings side by side; more than 1 distorts times")
    add("--minutes", type=float, default=default.minutes, help="of transcripts in 'few'")
    add(
        "--budget",
        type=int,
        nargs=4,
        default=default.updates,
        metavar=("PRE", "MID", "FEW", "ALL"),
        help="updates of the stages; fine-tuning on few and on all transcripts",
    )
    add("--rate", type=float, default=default.rate, help="of stage 2, at its peak")
    help_text = "of stage 3, at its peak"
    add("--finetuning-rate", type=float, default=default.finetuning_rate, help=help_text)
    help_text = "first updates of stage 3 for which CTC is guided"
    add("--guide", type=int, default=default.guide, help=help_text)
    help_text = "share of stage 3's updates for which an encoder that was taken over waits"
    add("--frozen", type=float, default=default.frozen, help=help_text)
    add("--dropout", type=float, default=default.dropout, help="of stage 3")
    add("--conformer-rate", type=float, default=default.conformer_rate, help="of s2t_conformer")
    help_text = "weight of stage 2's CTC term"
    add("--translation-ctc", type=float, default=default.translation_ctc, help=help_text)
    help_text = "encoder's rate in stage 2, as a multiple of --rate"
    add("--encoder-lr-scale", type=float, default=default.encoder_lr_scale, help=help_text)
    add("--checkpoints", type=int, default=default.checkpoints, help="validations of a training")
    for name, value in vars(default.size).items():
        help_text = "10 ms frames a batch, stages 2 and 3" if name == "max_tokens" else "of models"
        add(f"--{name.replace('_', '-')}", type=int, default=value, help=help_text)
    for name in ("short_midtraining", "short_finetuning"):
        add(
            f"--{name.replace('_', '-')}",
            type=int,
            nargs=2,
            default=(getattr(default, name).epochs, getattr(default, name).frames),
            metavar=("EPOCHS", "FRAMES"),
            help="first epochs that see clips up to so many 10 ms frames alone",
        )
    add("--fresh-layers", type=int, default=default.fresh_layers, help="of stage 3's encoder")
    add("--translations", choices=["char", "unigram"], default=default.kind, help="vocabulary")
    add("--entries", type=int, default=default.entries, help="of it, unless it is char")
    add("--decoding", choices=["ctc", "attention"], default=default.decoding, help="of ours")
    add("--interrupt", action="store_true", help="kill every training of ours once half-way")
    return parser


if __name__ == "__main__":
    main()
