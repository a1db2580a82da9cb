"""Text for a language model of fairseq's that speaks a recogniser's vocabulary (shallow fusion).

    python -m manifests.pieces DATA OUT [--text FILE...]

DATA is the folder of the recogniser's vocabulary and manifests. OUT then holds ``dict.txt`` and, in
its pieces, one sentence a line, ``train`` (the training split's targets and the lines of the FILEs)
and ``valid`` (the validation split's targets), as ``fairseq-hydra-train`` with
``examples/own/config/language_model.yaml`` wants them. A line of a FILE that another split of DATA
says is left out, for it would flatter the scores of that split.
"""

import argparse
import shutil
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from manifests.common import atomic_path
from manifests.text import clean
from mmpt_fairseq.data.manifest import Manifest, splits_in
from mmpt_fairseq.errors import InputError, command_line


def pieces(folder: Path, texts: Iterable[str]) -> Iterator[str]:
    """Each text that is not blank as space-separated pieces of ``folder/spm.model``.

    Texts are cleaned as those of the manifests are, so that the language model knows the same.

    Raises:
        InputError: the folder has no SentencePiece model.
    """
    import sentencepiece

    model = folder / "spm.model"
    if not model.is_file():
        raise InputError(f"there is no {model}; build one with python -m manifests.vocabulary")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    for text in texts:
        cleaned = clean(text)
        if cleaned:
            yield " ".join(processor.encode(cleaned, out_type=str))


def read_text(path: Path) -> Iterator[str]:
    """Lines of a text.

    Raises:
        InputError: it is not there, or no UTF-8.
    """
    if not path.is_file():
        raise InputError(f"there is no text file {path}; check --text")
    try:
        with path.open(encoding="utf-8") as lines:
            yield from lines
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; convert it") from None


def targets(folder: Path, splits: Iterable[str], needed: bool = True) -> Iterator[str]:
    """Those of manifests; unless they are needed, of those that have any."""
    for split in splits:
        manifest = Manifest(folder / f"{split}.tsv", needs=["tgt_text"] if needed else [])
        if "tgt_text" in manifest.columns:
            yield from manifest.column("tgt_text")


def write_corpus(folder: Path, out: Path, train: str, valid: str, texts: Iterable[Path]) -> dict:
    """Write ``dict.txt``, ``train`` and ``valid``; returns how many sentences each has.

    Args:
        folder: of vocabulary and manifests.
        train, valid: names of splits, comma-separated.
        texts: further text for training.

    Raises:
        InputError: a manifest, a text or the vocabulary is at fault.
    """
    learnt, held = train.split(","), valid.split(",")
    others = [split for split in splits_in(folder) if split not in learnt]
    kept_out = {clean(text) for text in targets(folder, others, needed=False)}
    counts = {"train": 0, "valid": 0, "left out": 0}

    def further() -> Iterator[str]:
        for path in texts:
            for line in read_text(path):
                if clean(line) in kept_out:
                    counts["left out"] += bool(clean(line))
                else:
                    yield line

    out.mkdir(parents=True, exist_ok=True)
    for name, sentences in (
        ("train", chain(targets(folder, learnt), further())),
        ("valid", targets(folder, held)),
    ):
        with atomic_path(out / name) as partial, partial.open("w", encoding="utf-8") as file:
            for line in pieces(folder, sentences):
                file.write(line + "\n")
                counts[name] += 1
    shutil.copyfile(folder / "dict.txt", out / "dict.txt")
    return counts


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("folder", type=Path, help="folder of the vocabulary and the manifests")
    add("out", type=Path, help="folder to write, task.data of the language model")
    add("--text", type=Path, nargs="+", default=[], help="plain text, one sentence a line")
    add("--train", default="train", help="training splits, comma-separated")
    add("--valid", default="valid", help="validation splits, comma-separated")
    args = parser.parse_args(arguments)
    with command_line():
        counts = write_corpus(args.folder, args.out, args.train, args.valid, args.text)
        left = counts["left out"]
        told = (
            f"; {left} lines that other splits of {args.folder} say were left out" if left else ""
        )
        print(
            f"{args.out}: {counts['train']} sentences to train on, {counts['valid']} to validate"
            f"{told}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
