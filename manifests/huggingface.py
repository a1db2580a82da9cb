"""Hugging Face audio folders (https://huggingface.co/docs/datasets/audio_dataset).

    python -m manifests.huggingface FOLDER OUT [--target-lang de]

``metadata.csv`` or ``metadata.jsonl`` beside the files, with the column file_name and any of
transcription, text, sentence, translation, speaker, language, start, end; in ``<split>/``, in
``data/<split>/``, or in FOLDER itself, which is then ``train`` unless a column split says
otherwise.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from manifests.candidate import Candidate
from manifests.prepare import Recipe, main
from manifests.tables import read_table, row_candidate

PLACES = ("metadata.*", "*/metadata.*", "data/*/metadata.*")


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--source-lang", default="")
    add("--target-lang", default="", help="language of the texts")


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Rows of every table, in its order."""
    columns = {"src_lang": args.source_lang, "tgt_lang": args.target_lang or args.source_lang}
    columns = {name: value for name, value in columns.items() if value}
    for path in sorted({p for place in PLACES for p in args.corpus.glob(place)}):
        if path.suffix in (".csv", ".jsonl"):
            split = "train" if path.parent == args.corpus else _split(path.parent)
            for row in read_table(path):
                yield row_candidate(row, path.parent, split, **columns)


def _split(folder: Path) -> str:
    return {"validation": "valid"}.get(folder.name, folder.name)


RECIPE = Recipe(
    name="huggingface",
    description=__doc__,
    candidates=candidates,
    add_options=add_options,
    longest=60.0,
    corpus="FOLDER",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
