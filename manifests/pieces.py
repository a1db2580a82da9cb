"""Text for a fairseq language model with a recogniser's vocabulary (shallow fusion).

    python -m manifests.pieces DATA OUT [--text FILE...]

DATA is the folder of the recogniser's vocabulary and manifests. OUT then holds ``dict.txt`` and,
tokenised with that vocabulary, one sentence per line, ``train`` (the training split's targets and
the lines of the FILEs) and ``valid`` (the validation split's targets), as expected by
``fairseq-hydra-train`` with ``examples/own/config/language_model.yaml``. A line of a FILE that also
occurs in another split of DATA, up to case and punctuation, is left out, because it would inflate
that split's scores. Write the FILEs like the transcripts: characters that those lack are unknown.
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
    """Tokenises text with a recogniser's vocabulary, and counts unknown pieces.

    Args:
        folder: folder of ``spm.model`` and ``dict.txt``.

    Raises:
        InputError: one of them is missing.
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
        """Each non-blank text as space-separated pieces.

        Texts are cleaned like those of the manifests, so that the language model matches them.
        """
        for text in texts:
            cleaned = clean(text)
            if cleaned:
                found = self._processor.encode(cleaned, out_type=str)
                self.written += len(found)
                self.unknown += sum(piece not in self._dictionary for piece in found)
                yield " ".join(found)


def read_text(path: Path) -> Iterator[str]:
    """Lines of a text file.

    Raises:
        InputError: it does not exist, or is not UTF-8.
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
        InputError: it is invalid, or has none.
    """
    yield from Manifest(folder / f"{split}.tsv", needs=["tgt_text"]).column("tgt_text")


def held_out(folder: Path, learnt: Iterable[str]) -> set[str]:
    """Sentence keys of the splits not trained on; other tables are reported and skipped."""
    keys = set()
    for split in splits_in(folder):
        if split not in learnt:
            try:
                keys.update(map(sentence_key, targets(folder, split)))
            except InputError as error:
                print(f"no sentences excluded for this split: {error}", file=sys.stderr)
    return keys


def write_corpus(folder: Path, out: Path, train: str, valid: str, texts: Sequence[Path]) -> str:
    """Write ``dict.txt``, ``train`` and ``valid``; returns a summary for the user.

    Args:
        folder: folder of vocabulary and manifests.
        train, valid: names of splits, comma-separated.
        texts: further text files for training.

    Raises:
        InputError: a manifest, a text, a folder or the vocabulary is invalid.
    """
    if out.exists() and (not out.is_dir() or out.samefile(folder)):
        raise InputError(f"{out} cannot hold the language model's text; name another folder")
    pieces, counts, left = Pieces(folder), {"train": 0, "valid": 0}, 0
    other = held_out(folder, train.split(","))

    def further_text() -> Iterator[str]:
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
    for name, sentences in (("train", chain(learnt, further_text())), ("valid", held)):
        with atomic_path(out / name) as partial, partial.open("w", encoding="utf-8") as file:
            for line in pieces(sentences):
                file.write(line + "\n")
                counts[name] += 1
    with atomic_path(out / DICTIONARY) as partial:
        shutil.copyfile(folder / DICTIONARY, partial)
    summary = (
        f"{counts['train']} sentences for training, {len(learnt)} of them transcripts, "
        f"{counts['valid']} for validation; {left} lines that occur in other splits of {folder} "
        "were left out"
    )
    if pieces.unknown:
        fraction = pieces.unknown / pieces.written
        summary += (
            f"; {fraction:.1%} of the pieces are unknown: is the spelling that of the transcripts?"
        )
    return summary


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m manifests.pieces", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("folder", type=Path, help="folder of the vocabulary and the manifests")
    add("out", type=Path, help="output folder, task.data of the language model")

    add("--text", type=Path, nargs="+", default=[], help="plain text, one sentence a line")
    add("--train", default="train", help="training splits, comma-separated")
    add("--valid", default="valid", help="validation splits, comma-separated")
    args = parser.parse_args(arguments)
    with command_line():
        summary = write_corpus(args.folder, args.out, args.train, args.valid, args.text)
        print(f"{args.out}: {summary}", file=sys.stderr)


if __name__ == "__main__":
    main()
