"""Speech Commands v1 in 12 classes, as in SUPERB (arXiv 1804.03209, 2105.01051).

    python -m manifests.speech_commands speech_commands_v0.01 OUT

``<word>/<speaker>_nohash_<n>.wav``, ``validation_list.txt``, ``testing_list.txt`` and
``_background_noise_/*.wav``; the test set is the archive ``speech_commands_test_set_v0.01``,
unpacked beside it (or ``--test-set``), with a folder for each of the 12 classes. Ten words have
their own classes, all others are ``_unknown_``. ``_silence_`` clips are whole seconds of the noise
recordings, the last tenth of each for validation; SUPERB samples seconds at random, from the same
recordings for both splits.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from manifests.candidate import Candidate
from manifests.errors import InputError
from manifests.prepare import main
from manifests.recipe import Recipe
from manifests.recording import inspect

WORDS = {"yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"}
UNKNOWN, SILENCE, NOISE = "_unknown_", "_silence_", "_background_noise_"
TEST_SET = "speech_commands_test_set_v0.01"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--test-set", type=Path, help=f"{TEST_SET}, if it is elsewhere")


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Training and validation clips by the official lists, then the test archive."""
    test = args.test_set or args.corpus.parent / TEST_SET
    lists = {name: _list(args.corpus / f"{name}_list.txt") for name in ("validation", "testing")}
    if not test.is_dir():
        raise InputError(f"there is no {test}, SUPERB's test set; give its folder with --test-set")
    if not {*WORDS, UNKNOWN, SILENCE} & {folder.name for folder in test.glob("*/")}:
        raise InputError(f"{test} has no folder of a class; give the unpacked {TEST_SET}")
    for folder in sorted(args.corpus.glob("*/")):
        if folder.name == NOISE:
            yield from _silences(folder)
            continue
        for path in sorted(folder.glob("*.wav")):
            name = f"{folder.name}/{path.name}"
            if name not in lists["testing"]:
                split = "valid" if name in lists["validation"] else "train"
                yield _word(path, split, folder.name if folder.name in WORDS else UNKNOWN)
    for folder in sorted(test.glob("*/")):
        for path in sorted(folder.glob("*.wav")):
            yield _word(path, "test", folder.name)


def _list(path: Path) -> set[str]:
    if not path.is_file():
        raise InputError(f"there is no {path}; give the unpacked speech_commands_v0.01")
    return set(path.read_text(encoding="utf-8").split())


def _word(path: Path, split: str, label: str) -> Candidate:
    speaker, hashed, _ = path.stem.partition("_nohash_")
    return Candidate(
        id=f"{path.parent.name}/{path.stem}",
        split=split,
        audio=str(path),
        text=label,
        columns={"speaker": speaker} if hashed else {},
    )


def _silences(folder: Path) -> Iterator[Candidate]:
    for path in sorted(folder.glob("*.wav")):
        found = inspect(str(path))
        seconds = found.samples // found.rate if found.rate and not found.cut_off else 1
        for second in range(seconds):
            yield Candidate(
                id=f"{folder.name}/{path.stem}_{second:03d}",
                split="train" if second < 0.9 * seconds else "valid",
                audio=str(path),
                start=float(second),
                seconds=1.0,
                text=SILENCE,
            )


RECIPE = Recipe(
    name="speech_commands",
    description=__doc__,
    candidates=candidates,
    add_options=add_options,
    allowed=("sentence",),
    corpus="speech_commands_v0.01",
)

if __name__ == "__main__":
    main(RECIPE)
