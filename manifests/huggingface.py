"""Hugging Face audio folders (https://huggingface.co/docs/datasets/audio_dataset).

    python -m manifests.huggingface FOLDER OUT [--target-lang de]

``metadata.csv`` or ``metadata.jsonl`` beside the files, with the column file_name and any of
transcription, text, sentence, translation, speaker, language, start, end; in ``<split>/``, in
``data/<split>/``, or in FOLDER itself. The split is the value of a column split, else the first
folder of a clip's path with the name of a split (``train/a.wav``, ``test-clean/b.wav``), else
``train``. If there is no validation split, some of ``train`` becomes ``valid``. Of a transcription
and a translation, ``--text-column translation`` makes the latter the target and the former the
source text.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from manifests.candidate import LONGEST_WITH_TEXT, Candidate
from manifests.prepare import main
from manifests.recipe import Recipe, add_valid_every
from manifests.splits import is_split
from manifests.table_clips import Placed, table_candidates
from manifests.tables import describe, read_table
from manifests.text import clean

FILES = ("file", "video")
PLACES = ("metadata.*", "*/metadata.*", "data/*/metadata.*")


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--text-column", metavar="NAME", help="column of the target texts if several hold texts")
    add("--source-lang", default="")
    add("--target-lang", default="", help="language of the texts")
    add_valid_every(parser, 20, "speakers or recordings of train, if there is no validation split,")


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Rows of every table, in its order."""
    columns = {"src_lang": args.source_lang, "tgt_lang": args.target_lang or args.source_lang}
    columns = {name: value for name, value in columns.items() if value}
    for path in tables_in(args.corpus):
        for note in describe(path, text_column=args.text_column):
            print(note, file=sys.stderr)
    read = partial(placed_rows, args.corpus, args.text_column)
    return table_candidates(read, args.valid_every, clean, **columns)


def tables_in(corpus: Path) -> list[Path]:
    """The tables of a corpus, sorted."""
    found = {path for place in PLACES for path in corpus.glob(place)}
    return sorted(path for path in found if path.suffix in (".csv", ".jsonl"))


def placed_rows(corpus: Path, text_column: str | None = None) -> Iterator[Placed]:
    """Every row with its folder, and the split given by the folder or by the file's path."""
    for path in tables_in(corpus):
        folders = path.parent.relative_to(corpus).parts
        is_part = any(name != "data" for name in folders) and not any(map(is_split, folders))
        for row in read_table(path, text_column=text_column):
            parts = (*folders, *Path(row.get("file", "")).parts[:-1])
            split = next(filter(is_split, parts), "train")
            if is_part:  # a language, say: its clips may have the names of another part's
                inside = {key: str(Path(*folders, row[key])) for key in FILES if key in row}
                yield {**row, **inside}, corpus, split
            else:
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
