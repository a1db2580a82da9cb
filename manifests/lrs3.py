"""LRS3-TED (arXiv 1809.00496, https://www.robots.ox.ac.uk/~vgg/data/lip_reading/lrs3.html).

    python -m manifests.lrs3 LRS3 OUT

``{pretrain,trainval,test}/<video>/NNNNN.mp4`` with ``NNNNN.txt`` beside it: ``Text:`` and ``Conf:``
lines, then in pretrain a table ``WORD START END ASDSCORE``. Pretrain clips of 15 s or more are cut
into utterances at pauses of over 0.4 s, half-way through the pause, with the last one extending to
the clip's end, as in AV-HuBERT's preparation (github.com/facebookresearch/av_hubert,
``preparation/lrs3_prepare.py``); the parts are read from the clip, nothing is copied. The release
has no validation split: the clips of one in a hundred videos, from pretrain and trainval, become
``valid``, so that no video is in two splits, except in pretrain and trainval.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from manifests.candidate import LONGEST_WITH_TEXT, NO_TEXT, Candidate
from manifests.prepare import main
from manifests.recipe import Recipe, add_valid_every
from manifests.splits import is_held_out
from manifests.text import lrs3 as clean
from manifests.text import read_lines

SPLITS = ("pretrain", "trainval", "test")
LONG = 15.0  # seconds; pretrain clips at least this long are cut
PAUSE = 0.4  # seconds; they are cut at longer pauses

Word = tuple[str, float, float]


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Utterances of all splits, sorted by video and number."""
    for split in SPLITS:
        for video in sorted((args.corpus / split).glob("*/")):
            held = split != "test" and is_held_out(video.name, args.valid_every)
            names = {path.stem for path in video.iterdir() if path.suffix in (".mp4", ".txt")}
            for name in sorted(names):
                yield from clip_candidates(video / f"{name}.mp4", split, "valid" if held else split)


def clip_candidates(path: Path, part: str, split: str) -> Iterator[Candidate]:
    """One clip, or the utterances that a long pretrain clip is cut into."""
    base = {
        "split": split,
        "audio": str(path),
        "video": str(path),
        "source": path.parent.name,
        "columns": {"src_lang": "en", "tgt_lang": "en"},
    }
    name = f"{part}/{path.parent.name}/{path.stem}"
    text, words = read_text(path.with_suffix(".txt"))
    if text is None:
        yield Candidate(id=name, **base, text="", fault=(NO_TEXT, "no .txt with Text: beside it"))
        return
    utterances = cut(words) if part == "pretrain" and words and words[-1][2] >= LONG else []
    if len(utterances) < 2:
        yield Candidate(id=name, **base, text=clean(text))
        return
    for i, (spoken, start, end) in enumerate(utterances):
        seconds = None if end is None else end - start
        yield Candidate(id=f"{name}_{i}", **base, start=start, seconds=seconds, text=clean(spoken))


def read_text(path: Path) -> tuple[str | None, list[Word]]:
    """The transcript, and the words with their times (seconds)."""
    if not path.is_file():
        return None, []
    lines = list(read_lines(path))
    if not lines or not lines[0].startswith("Text:"):
        return None, []
    table = next((i for i, line in enumerate(lines) if line.startswith("WORD ")), len(lines))
    words = []
    for cells in (line.split() for line in lines[table + 1 :]):
        try:
            words.append((cells[0], float(cells[1]), float(cells[2])))
        except (IndexError, ValueError):
            break  # the table ends or is damaged: what follows has no times
    return lines[0].removeprefix("Text:").strip(), words


def cut(words: list[Word]) -> list[tuple[str, float, float | None]]:
    """Utterances (text, start, end) between pauses; boundaries are half-way through a pause.

    The first starts with the clip, the last extends to its end (None): word times may be past it.
    """
    groups = [[words[0]]]
    for word in words[1:]:
        if word[1] - groups[-1][-1][2] > PAUSE:
            groups.append([])
        groups[-1].append(word)
    edges = [0.0, *((a[-1][2] + b[0][1]) / 2 for a, b in pairwise(groups)), None]
    texts = (" ".join(word for word, _, _ in group) for group in groups)
    return [(text, *edge) for text, edge in zip(texts, pairwise(edges), strict=True)]


RECIPE = Recipe(
    name="lrs3",
    description=__doc__,
    candidates=candidates,
    add_options=lambda parser: add_valid_every(parser, 100, "videos"),
    allowed=("sentence",),
    longest=LONGEST_WITH_TEXT,
)

if __name__ == "__main__":
    main(RECIPE)
