"""LibriSpeech (arXiv/ICASSP 2015, https://www.openslr.org/12) as released.

    python -m manifests.librispeech LibriSpeech OUT

``<split>/<speaker>/<chapter>/<speaker>-<chapter>-<utterance>.flac`` with one
``<speaker>-<chapter>.trans.txt`` per chapter: id, space, TRANSCRIPT. The official splits are
train-clean-100, train-clean-360, train-other-500, dev-clean, dev-other, test-clean, test-other;
those that exist are used. Transcripts are lower-cased, as in fairseq's recipe.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from manifests.candidate import LONGEST_WITH_TEXT, MISSING, NO_TEXT, Candidate
from manifests.prepare import main
from manifests.recipe import Recipe
from manifests.text import librispeech as clean
from manifests.text import read_lines

SPLITS = (
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
)


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Every utterance listed in a chapter's transcripts or present in its folder."""
    for split in SPLITS:
        for chapter in sorted((args.corpus / split).glob("*/*/")):
            yield from chapter_candidates(chapter, split)


def chapter_candidates(chapter: Path, split: str) -> Iterator[Candidate]:
    """Utterances of one chapter, sorted."""
    speaker = chapter.parent.name
    transcripts = read_transcripts(chapter / f"{speaker}-{chapter.name}.trans.txt")
    recorded = {path.stem: path for path in chapter.glob("*.flac")}
    for name in sorted({*transcripts, *recorded}):
        path = recorded.get(name, chapter / f"{name}.flac")
        text = transcripts.get(name)
        fault = (NO_TEXT, "not in the chapter's .trans.txt") if text is None else None
        yield Candidate(
            id=name,
            split=split,
            audio=str(path),
            text=clean(text or ""),
            source=f"{speaker}-{chapter.name}",
            columns={"speaker": speaker, "src_lang": "en", "tgt_lang": "en"},
            fault=(MISSING, "") if name not in recorded else fault,
        )


def read_transcripts(path: Path) -> dict[str, str]:
    """Utterance -> transcript; empty if there is no file."""
    if not path.is_file():
        return {}
    pairs = (line.strip().partition(" ") for line in read_lines(path) if line.strip())
    return {name: text for name, _, text in pairs}


RECIPE = Recipe(
    name="librispeech",
    description=__doc__,
    candidates=candidates,
    allowed=("sentence",),
    longest=LONGEST_WITH_TEXT,
)

if __name__ == "__main__":
    main(RECIPE)
