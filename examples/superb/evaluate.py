"""Evaluate a trained model on a split: score, layer weights and predictions.

    python -m examples.superb.evaluate runs/ks/checkpoint_best.pt data/superb/ks --split test \\
        --out runs/ks/test

Writes ``score.json`` and ``predictions.tsv`` (id, reference, prediction) into the folder.
"""

import argparse
import json
from pathlib import Path

from examples.superb.predictions import load, score
from manifests.common import atomic_path
from manifests.errors import command_line
from mmpt_fairseq.data.superb_labels import label_column


def evaluate(checkpoint: Path, data: Path, split: str, tuned_on: str, out: Path) -> dict:
    """Write score and predictions of ``split`` to ``out`` and return the content of score.json."""
    model, task = load(checkpoint, data)
    record, predictions = score(model, task, split, tuned_on)
    record |= {"kind": task.kind, "split": split, "weights": model.mix.weights.tolist()}
    manifest = task.dataset(split).manifest
    rows = zip(
        manifest.column("id"),
        manifest.column(label_column(task.kind)),
        predictions.texts,
        strict=True,
    )
    lines = ["id\treference\tprediction", *("\t".join(row) for row in rows)]
    for name, text in (
        ("predictions.tsv", "\n".join(lines) + "\n"),
        ("score.json", json.dumps(record, indent=1) + "\n"),
    ):
        with atomic_path(out / name) as partial:
            partial.write_text(text, encoding="utf-8")
    return record


def main(arguments: list[str] | None = None) -> None:
    """Command-line entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.superb.evaluate", description=__doc__.splitlines()[0]
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path, help="folder of the manifests, or of stored states")
    parser.add_argument("--split", default="test")
    parser.add_argument(
        "--tuned-on", default="valid", help="split that selects the threshold of diarization"
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    with command_line():
        record = evaluate(args.checkpoint, args.data, args.split, args.tuned_on, args.out)
    print(f"{record['kind']}, {args.split}: {record['metric']} {record['value']:.2f} %")


if __name__ == "__main__":
    main()
