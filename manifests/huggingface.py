"""Hugging Face audio folders (https://huggingface.co/docs/datasets/audio_dataset).

    python -m manifests.huggingface FOLDER OUT [--target-lang de]

``metadata.csv`` or ``metadata.jsonl`` beside the files, with the column file_name and any of
transcription, text, sentence, translation, speaker, language, start, end; in ``<split>/``, in
``data/<split>/``, or in FOLDER itself. The split is the value of a column split, else the first
folder of a clip's path with the name of a split (``train/a.wav``), else ``train``. If there is no
validation split, some of ``train`` becomes ``valid``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from manifests.candidate import LONGEST_WITH_TEXT, Candidate
from manifests.prepare import main
from manifests.recipe import Recipe, add_valid_every
from manifests.splits import FOLDERS
from manifests.tables import Placed, read_table, table_candidates
from manifests.text import clean

PLACES = ("metadata.*", "*/metadata.*", "data/*/metadata.*")


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--source-lang", default="")
    add("--target-lang", default="", help="language of the texts")
    add_valid_every(parser, 20, "speakers or recordings of train, if there is no validation split,")


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Rows of every table, in its order."""
    columns = {"src_lang": args.source_lang, "tgt_lang": args.target_lang or args.source_lang}
    columns = {name: value for name, value in columns.items() if value}
    read = partial(placed_rows, args.corpus)
    return table_candidates(read, args.valid_every, clean, **columns)


def placed_rows(corpus: Path) -> Iterator[Placed]:
    """Every row with its folder, and the split given by the folder or by the file's path."""
    for path in sorted({p for place in PLACES for p in corpus.glob(place)}):
        if path.suffix in (".csv", ".jsonl"):
            folders = path.parent.relative_to(corpus).parts
            default = next((name for name in folders if name != "data"), "train")
            for row in read_table(path):
                parts = (*folders, *Path(row.get("file", "")).parts[:-1])
                split = next((name for name in parts if name.lower() in FOLDERS), default)
                yield row, path.parent, split


RECIPE = Recipe(
    name="huggingface",
    description=__doc__,
    candidates=candidates,
    add_options=add_options,
    longest=LONGEST_WITH_TEXT,
    corpus="FOLDER",
)

if __name__ == "__main__":
    main(RECIPE)
