"""LibriSpeech with phone targets, as in SUPERB's phoneme recognition.

    python -m manifests.librispeech_phones LibriSpeech OUT --lexicon librispeech-lexicon.txt

train-clean-100, dev-clean and test-clean in the layout of ``manifests.librispeech``, written as
``train``, ``valid`` and ``test``, like all of SUPERB's tasks here. The lexicon
(https://www.openslr.org/11, with g2p for other words) has one word with its phones per line; of
several pronunciations the first over all files is used, as in SUPERB's recipe. An utterance with a
word that is in no file is left out; ``skipped.tsv`` names its words, and ``out_of_lexicon.txt``
lists all such words with their number of occurrences, most frequent first.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from manifests.candidate import LONGEST_WITH_TEXT, OUT_OF_LEXICON, Candidate
from manifests.common import atomic_path
from manifests.errors import InputError
from manifests.librispeech import chapter_candidates
from manifests.prepare import main
from manifests.recipe import Recipe
from manifests.text import read_lines

SPLITS = {"train-clean-100": "train", "dev-clean": "valid", "test-clean": "test"}


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--lexicon", type=Path, nargs="+", required=True, metavar="FILE")


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """LibriSpeech's utterances with phones as targets."""
    lexicon, unknown = read_lexicon(args.lexicon), Counter()
    for official, split in SPLITS.items():
        for chapter in sorted((args.corpus / official).glob("*/*/")):
            for clip in chapter_candidates(chapter, split):
                if not clip.fault:
                    unknown.update(word for word in clip.text.split() if word not in lexicon)
                yield clip if clip.fault or not clip.text else to_phones(clip, lexicon)
    write_counts(args.out / "out_of_lexicon.txt", unknown)


def write_counts(path: Path, words: Counter[str]) -> None:
    """Write ``word TAB occurrences`` per line, and report the totals on stderr."""
    with atomic_path(path) as partial:
        lines = (f"{word}\t{count}\n" for word, count in words.most_common())
        partial.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    if words:
        summary = f"{len(words)} words are not in the lexicon, {words.total()} occurrences in all"
        print(f"{summary}; see {path}", file=sys.stderr)


def to_phones(clip: Candidate, lexicon: dict[str, str]) -> Candidate:
    """The clip with its phones as target, or with a fault that names its unknown words."""
    words = clip.text.split()
    unknown = sorted({word for word in words if word not in lexicon})
    columns = {**clip.columns, "src_text": clip.text, "tgt_lang": ""}
    if unknown:
        return replace(clip, fault=(OUT_OF_LEXICON, " ".join(unknown)))
    return replace(clip, text=" ".join(lexicon[word] for word in words), columns=columns)


def read_lexicon(paths: list[Path]) -> dict[str, str]:
    """Word (lower case) -> its first pronunciation, as phones separated by spaces."""
    lexicon: dict[str, str] = {}
    for path in paths:
        if not path.is_file():
            raise InputError(f"there is no lexicon {path}")
        for number, line in enumerate(read_lines(path), 1):
            word, *phones = line.split() or [""]
            if word and not phones:
                raise InputError(f"{path}, line {number}: {word!r} has no phones after it")
            if word:
                lexicon.setdefault(word.lower(), " ".join(phones))
    return lexicon


RECIPE = Recipe(
    name="librispeech_phones",
    description=__doc__,
    candidates=candidates,
    add_options=add_options,
    allowed=("sentence",),
    longest=LONGEST_WITH_TEXT,
)

if __name__ == "__main__":
    main(RECIPE)
