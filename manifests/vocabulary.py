"""Vocabulary and data config for a folder of manifests.

    python -m manifests.vocabulary DATA [--kind char|unigram|bpe] [--size N] [--with-source]

reads the targets of the training split only and writes ``spm.model``, ``dict.txt`` (fairseq's
dictionary) and ``config.yaml`` (fairseq's S2T data config) beside the manifests. In an existing
``config.yaml`` only the vocabulary's keys are changed. SentencePiece does not normalise the texts:
by default it would turn "½" into "1/2" in training, while scores are computed against the "½" of
the manifest.
"""

import argparse
import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from manifests.common import atomic_path
from manifests.errors import InputError, command_line
from mmpt_fairseq.data.data_folder import DATA_CONFIG, DICTIONARY, SENTENCEPIECE, read_config
from mmpt_fairseq.data.manifest import Manifest

# SpecAugment without time warping (arXiv 1904.08779), one mask of each kind as in fairseq's S2T
# recipes; but a time mask covers at most a fifth of the clip, because short clips have few words.
SPECAUGMENT = {
    "freq_mask_F": 27,
    "freq_mask_N": 1,
    "time_mask_N": 1,
    "time_mask_T": 100,
    "time_mask_p": 0.2,
    "time_warp_W": 0,
}
LONGEST_TEXT = 1 << 24  # bytes: SentencePiece leaves out longer ones
# fairseq's dictionary begins with these; their pieces are not in dict.txt.
SPECIAL = {"bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3}


def build_vocabulary(
    folder: Path,
    kind: str = "char",
    size: int = 1000,
    splits: Iterable[str] = ("train",),
    with_source: bool = False,
) -> int:
    """Train a SentencePiece model on the targets of ``splits``; returns the vocabulary's size.

    Args:
        folder: folder of the manifests; the files are written there.
        kind: ``char``, ``unigram`` or ``bpe``.
        with_source: cover ``src_text`` too, for CTC on it (``task.ctc_text=source``).
        size: number of entries (``char`` takes every character instead); fewer for a small text.

    Raises:
        InputError: a manifest is invalid, its targets are empty, or ``size`` is too small.
    """
    manifests = [Manifest(folder / f"{split}.tsv", needs=["tgt_text"]) for split in splits]
    columns = ["tgt_text", "src_text"] if with_source else ["tgt_text"]
    if not any(True for _ in _texts(manifests, columns)):
        raise InputError(f"the training manifests in {folder} hold no target text")
    tags = language_tags(manifests)
    try:
        model = train_model(_texts(manifests, columns), kind, size, tags)
    except RuntimeError as error:
        characters = len({c for text in _texts(manifests, columns) for c in text})
        raise InputError(
            f"SentencePiece cannot make {size} entries of the text in {folder}, which has "
            f"{characters} characters ({str(error).strip().splitlines()[0]}); use another --size"
        ) from None
    return _write(folder, model, tags)


def _texts(manifests: Iterable[Manifest], columns: list[str]) -> Iterator[str]:
    """The non-blank texts, read row by row from the files."""
    for manifest in manifests:
        for name in columns:
            yield from (text for text in manifest.column(name) if text.strip())


def language_tags(manifests: Iterable[Manifest]) -> list[str]:
    """fairseq's ``<lang:xx>`` tags for several target languages; none for a single one."""
    languages = {language for m in manifests for language in m.column("tgt_lang")} - {""}
    return [f"<lang:{language}>" for language in sorted(languages)] if len(languages) > 1 else []


def train_model(texts: Iterator[str], kind: str, size: int, tags: list[str]) -> bytes:
    """Train a SentencePiece model that changes nothing in a text but runs of spaces.

    Raises:
        RuntimeError: SentencePiece cannot make ``size`` entries of the texts.
    """
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts,
        model_writer=model,
        model_type=kind,
        vocab_size=size,
        use_all_vocab=kind == "char",
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",
        max_sentence_length=LONGEST_TEXT,
        user_defined_symbols=tags,
        num_threads=1,
        minloglevel=1,
        **SPECIAL,
    )
    return model.getvalue()


def _write(folder: Path, model: bytes, tags: list[str]) -> int:
    """Write the three files; returns the number of entries."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [processor.id_to_piece(i) for i in range(len(SPECIAL), len(processor))]
    config = _config(folder, tags)
    files = {
        SENTENCEPIECE: model,
        DICTIONARY: "".join(f"{piece} 1\n" for piece in pieces).encode(),
        DATA_CONFIG: yaml.safe_dump(config, sort_keys=False).encode(),
    }
    _report_replaced(folder / DICTIONARY, files[DICTIONARY])
    for name, content in files.items():
        with atomic_path(folder / name) as partial:
            partial.write_bytes(content)
    return len(pieces)


def _report_replaced(path: Path, content: bytes) -> None:
    """Report a replaced vocabulary: a training resumes only with the one it was started with."""
    before = path.read_bytes() if path.is_file() else content
    if before != content:
        entries = before.count(b"\n")
        print(
            f"{path} held another vocabulary, of {entries} entries: models trained with it can be "
            "decoded, but their training cannot resume until it is rebuilt",
            file=sys.stderr,
        )


def _config(folder: Path, tags: list[str]) -> dict:
    """fairseq's S2T data config; an existing one keeps all keys but the vocabulary's.

    Raises:
        InputError: the existing one is not a YAML mapping.
        InputError: it is no YAML of keys.
    """
    before = read_config(folder)
    default = {
        "shuffle": True,
        "feature_transforms": {"_train": ["specaugment"]},
        "specaugment": SPECAUGMENT,
    }
    vocabulary = {
        "vocab_filename": DICTIONARY,
        "bpe_tokenizer": {"bpe": "sentencepiece", "sentencepiece_model": SENTENCEPIECE},
        **({"prepend_tgt_lang_tag": True} if tags else {}),
    }
    if before is None:
        return vocabulary | default
    before.pop("prepend_tgt_lang_tag", None)
    if {**vocabulary, **default} != {**vocabulary, **before, **vocabulary}:
        print(f"{folder / DATA_CONFIG} is unchanged except for the vocabulary", file=sys.stderr)
    return {**vocabulary, **before, **vocabulary}


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m manifests.vocabulary", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder", type=Path, help="folder of the manifests")
    parser.add_argument("--kind", choices=["char", "unigram", "bpe"], default="char")
    parser.add_argument("--size", type=int, default=1000, help="entries, unless --kind char")
    parser.add_argument("--splits", default="train", help="training splits, comma-separated")
    parser.add_argument("--with-source", action="store_true", help="cover src_text too")
    args = parser.parse_args(arguments)
    with command_line():
        splits = args.splits.split(",")
        entries = build_vocabulary(args.folder, args.kind, args.size, splits, args.with_source)
    short = args.kind != "char" and entries < args.size - len(SPECIAL)
    note = f" of the {args.size} requested: the text has no more" if short else ""
    print(f"{args.folder}: vocabulary of {entries} entries{note}", file=sys.stderr)


if __name__ == "__main__":
    main()
