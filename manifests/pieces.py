"""Text as the pieces of a vocabulary, to train a fairseq language model for shallow fusion.

    python -m manifests.pieces DATA [--splits train | --text FILE] > train.pieces

writes one line a target (or a line of FILE) in the tokens of ``DATA/dict.txt``. fairseq does the
rest, with the recogniser's dictionary:

    fairseq-preprocess --only-source --srcdict DATA/dict.txt --trainpref train.pieces \\
        --validpref valid.pieces --destdir DATA/lm
    fairseq-train DATA/lm --user-dir mmpt_fairseq --task language_modeling \\
        --arch transformer_lm --sample-break-mode eos ...
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from manifests.text import clean
from mmpt_fairseq.data.manifest import Manifest
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


def read_texts(folder: Path, splits: Iterable[str], text: Path | None) -> Iterator[str]:
    """Lines of ``text`` if given, else the targets of the manifests.

    Raises:
        InputError: a manifest or the file is at fault.
    """
    if text is None:
        for split in splits:
            yield from Manifest(folder / f"{split}.tsv", needs=["tgt_text"]).column("tgt_text")
        return
    if not text.is_file():
        raise InputError(f"there is no text file {text}; check --text")
    try:
        with text.open(encoding="utf-8") as lines:
            yield from lines
    except UnicodeDecodeError:
        raise InputError(f"{text} is not UTF-8 text; convert it") from None


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the vocabulary and the manifests")
    parser.add_argument("--splits", default="train", help="manifests, comma-separated")
    parser.add_argument("--text", type=Path, help="plain text instead, one sentence a line")
    args = parser.parse_args(arguments)
    with command_line():
        for line in pieces(args.folder, read_texts(args.folder, args.splits.split(","), args.text)):
            print(line)


if __name__ == "__main__":
    main()
