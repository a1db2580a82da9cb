"""Text for a language model of fairseq's that speaks a recogniser's vocabulary (shallow fusion).

    python -m manifests.pieces DATA OUT [--text FILE...]

DATA is the folder of the recogniser's vocabulary and manifests. OUT then holds ``dict.txt`` and, in
its pieces, one sentence a line, ``train`` (the training split's targets and the lines of the FILEs)
and ``valid`` (the validation split's targets), as ``fairseq-hydra-train`` with
``examples/own/config/language_model.yaml`` wants them. A line of a FILE that another split of DATA
says, spelt alike but for case and punctuation, is left out, for it would flatter the scores of that
split. Write the FILEs as the transcripts are written: letters that those lack are unknown.
"""

import argparse
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from fairseq.data import Dictionary

from manifests.common import atomic_path
from manifests.errors import InputError, command_line
from manifests.text import clean, sentence_key
from mmpt_fairseq.data.data_folder import DICTIONARY, SENTENCEPIECE
from mmpt_fairseq.data.manifest import Manifest, splits_in


class Pieces:
    """Cuts text into the pieces of a recogniser's vocabulary, and counts what it lacks.

    Args:
        folder: of ``spm.model`` and ``dict.txt``.

    Raises:
        InputError: it has none.
    """

    def __init__(self, folder: Path) -> None:
        import sentencepiece

        model, dictionary = folder / SENTENCEPIECE, folder / DICTIONARY
        for path in (model, dictionary):
            if not path.is_file():
                raise InputError(
                    f"there is no {path}; build one with python -m manifests.vocabulary"
                )
        self._processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
        self._dictionary = Dictionary.load(str(dictionary))
        self.written = self.unknown = 0

    def __call__(self, texts: Iterable[str]) -> Iterator[str]:
        """Each text that is not blank as space-separated pieces.

        Texts are cleaned as those of the manifests are, so that the language model knows the same.
        """
        for text in texts:
            cleaned = clean(text)
            if cleaned:
                found = self._processor.encode(cleaned, out_type=str)
                self.written += len(found)
                self.unknown += sum(piece not in self._dictionary for piece in found)
                yield " ".join(found)


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


def targets(folder: Path, split: str) -> Iterator[str]:
    """The target texts of a split's manifest.

    Raises:
        InputError: it is at fault, or has none.
    """
    yield from Manifest(folder / f"{split}.tsv", needs=["tgt_text"]).column("tgt_text")


def held_out(folder: Path, learnt: Iterable[str]) -> set[str]:
    """What the splits say that are not learnt from; other tables are told and passed over."""
    keys = set()
    for split in splits_in(folder):
        if split not in learnt:
            try:
                keys.update(map(sentence_key, targets(folder, split)))
            except InputError as error:
                print(f"not asked for its sentences: {error}", file=sys.stderr)
    return keys


def write_corpus(folder: Path, out: Path, train: str, valid: str, texts: Sequence[Path]) -> str:
    """Write ``dict.txt``, ``train`` and ``valid``; returns a sentence of what they hold.

    Args:
        folder: of vocabulary and manifests.
        train, valid: names of splits, comma-separated.
        texts: further text for training.

    Raises:
        InputError: a manifest, a text, a folder or the vocabulary is at fault.
    """
    if out.exists() and (not out.is_dir() or out.samefile(folder)):
        raise InputError(f"{out} cannot hold the language model's text; name another folder")
    pieces, counts, left = Pieces(folder), {"train": 0, "valid": 0}, 0
    other = held_out(folder, train.split(","))

    def further() -> Iterator[str]:
        nonlocal left
        for line in chain.from_iterable(map(read_text, texts)):
            if sentence_key(line) in other:
                left += 1
            else:
                yield line

    out.mkdir(parents=True, exist_ok=True)
    learnt, held = (
        [text for split in splits.split(",") for text in targets(folder, split)]
        for splits in (train, valid)
    )
    for name, sentences in (("train", chain(learnt, further())), ("valid", held)):
        with atomic_path(out / name) as partial, partial.open("w", encoding="utf-8") as file:
            for line in pieces(sentences):
                file.write(line + "\n")
                counts[name] += 1
    with atomic_path(out / DICTIONARY) as partial:
        shutil.copyfile(folder / DICTIONARY, partial)
    told = (
        f"{counts['train']} sentences to train on, {len(learnt)} of them transcripts, "
        f"{counts['valid']} to validate; {left} lines that other splits of {folder} say were left "
        "out"
    )
    if pieces.unknown:
        share = pieces.unknown / pieces.written
        told += f"; {share:.1%} of the pieces are unknown: are the texts written alike?"
    return told


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
        told = write_corpus(args.folder, args.out, args.train, args.valid, args.text)
        print(f"{args.out}: {told}", file=sys.stderr)


if __name__ == "__main__":
    main()
