"""Libri2Mix for SUPERB's speaker diarization (arXiv 2005.11262, 2105.01051).

    python -m manifests.libri2mix LABELS OUT [--mixtures Libri2Mix/wav16k/max]

LABELS has the directories ``train``, ``dev``, ``test`` (``train2`` ... in later versions) that
SUPERB's preparation writes (s3prl, ``downstream/diarization``; the speech in LibriSpeech was
aligned by Kaldi): ``rttm`` with the turns of each mixture, ``wav.scp`` with its path. If a path in
``wav.scp`` no longer exists, the mixture is looked for in ``--mixtures``, in the official
``{train-100,dev,test}/mix_both/<id>.wav`` of train-clean-100, dev-clean and test-clean. ``dev`` is
written as ``valid``. The column ``segments`` holds ``speaker:start-end``, in seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from manifests.candidate import NOT_TWO_SPEAKERS, Candidate
from manifests.errors import InputError
from manifests.kaldi import read_pairs
from manifests.prepare import main
from manifests.recipe import Recipe
from manifests.text import read_lines

OFFICIAL = {"train": "train-100", "dev": "dev", "test": "test"}
RTTM_CELLS = 8  # SPEAKER mixture channel start seconds <NA> <NA> speaker ...

Turn = tuple[str, float, float]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mixtures", type=Path, help="folder of train-100, dev and test")


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Mixtures of each split, sorted.

    Raises:
        InputError: splits share a speaker and --allow-leaks does not accept it.
    """
    # Imported here because it imports fairseq, which no worker needs.
    from mmpt_fairseq.data.segments import format_segments

    if not {"speaker", "all"} & set(args.allow_leaks.split(",")):
        refuse_shared_speakers(args.corpus)
    for split, official in OFFICIAL.items():
        labels = rttm_of(args.corpus, split)
        if not labels.is_file():
            raise InputError(f"there is no {labels}; SUPERB's preparation writes it")
        recordings = labels.with_name("wav.scp")
        paths = dict(read_pairs(recordings)) if recordings.is_file() else {}
        moved, labelled = 0, read_rttm(labels)
        for name in sorted({*labelled, *paths}):
            turns, path = labelled.get(name, []), Path(paths.get(name, f"{name}.wav"))
            if args.mixtures and not path.is_file():
                path = args.mixtures.absolute() / official / "mix_both" / f"{name}.wav"
            moved += not path.is_file()
            speakers = {speaker for speaker, _, _ in turns}
            fault = (
                None if len(speakers) == 2 else (NOT_TWO_SPEAKERS, f"{len(speakers)} in its rttm")
            )
            yield Candidate(
                id=name,
                split="valid" if split == "dev" else split,
                audio=str(path.absolute()),
                columns={"segments": format_segments(turns)},
                fault=fault,
            )
        if moved:
            print(
                f"{moved} mixtures of {split} are not where {recordings} says"
                + (f" nor in {args.mixtures}" if args.mixtures else "; see --mixtures"),
                file=sys.stderr,
            )


def rttm_of(labels: Path, split: str) -> Path:
    """The RTTM file of a split; later versions append the number of speakers to the folder."""
    later = labels / f"{split}2/rttm"
    return later if later.is_file() else labels / split / "rttm"


def refuse_shared_speakers(labels: Path) -> None:
    """Stop if a speaker is in two splits; checked here because a row has two speakers.

    LibriSpeech's speakers are numbers; in RTTM they may be the beginning of an utterance id.
    """
    found: dict[str, set[str]] = {}
    for split in OFFICIAL:
        path = rttm_of(labels, split)
        turns = read_rttm(path).values() if path.is_file() else ()
        for speaker in {who.partition("-")[0] for several in turns for who, _, _ in several}:
            found.setdefault(speaker, set()).add(split)
    shared = {speaker: sorted(splits) for speaker, splits in found.items() if len(splits) > 1}
    if shared:
        speaker, splits = min(shared.items())
        raise InputError(
            f"{len(shared)} speakers are in two splits, such as {speaker} in {' and '.join(splits)}"
            "; fix the splits, or accept it with --allow-leaks speaker"
        )


def read_rttm(path: Path) -> dict[str, list[Turn]]:
    """Mixture -> turns (speaker, start, end) by start, to 10 ms; empty ones are dropped."""
    found: dict[str, list[Turn]] = {}
    for number, line in enumerate(read_lines(path), 1):
        cells = line.split()
        if not cells or cells[0] != "SPEAKER":
            continue
        try:
            start, seconds = float(cells[3]), float(cells[4])
            name, speaker = cells[1], cells[RTTM_CELLS - 1]
        except (IndexError, ValueError):
            raise InputError(f"{path}, line {number} is not a valid SPEAKER line of RTTM") from None
        turn = max(0.0, round(start, 2)), round(start + seconds, 2)
        if turn[0] < turn[1]:
            found.setdefault(name, []).append((speaker, *turn))
    return {name: sorted(turns, key=lambda turn: turn[1]) for name, turns in found.items()}


RECIPE = Recipe(
    name="libri2mix",
    description=__doc__,
    candidates=candidates,
    add_options=add_options,
    corpus="LABELS",
)

if __name__ == "__main__":
    main(RECIPE)
