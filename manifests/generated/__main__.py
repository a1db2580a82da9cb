"""Generate a corpus of talking faces: `python -m manifests.generated OUT`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..errors import command_line
from .corpus import Settings, write_corpus

_COUNTS = {
    "pretrain": "unlabelled clips",
    "pretrain-valid": "unlabelled clips for validation",
    "translated": "clips with translations",
    "phrases": "additional clips with translations, of at most four words",
    "translated-valid": "clips with translations for validation",
    "translated-test": "clips with translations for testing, by held-out speakers",
    "transcribed": "clips with transcripts",
    "transcribed-valid": "clips with transcripts for validation",
    "test": "clips with transcripts for testing, by held-out speakers",
}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m manifests.generated", description=__doc__)
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="output folder; an unfinished corpus is resumed")
    add("--jobs", type=int, default=os.cpu_count(), metavar="N", help="worker processes")
    add("--seed", type=int, default=Settings.seed, metavar="S")
    for name, description in _COUNTS.items():
        default = getattr(Settings, name.replace("-", "_"))
        add(
            f"--{name}", type=int, default=default, metavar="N", help=f"{description} (%(default)s)"
        )
    add("--speakers", type=int, default=Settings.speakers, metavar="N", help="(%(default)s)")
    add(
        "--size",
        type=int,
        default=Settings.size,
        help="side of a video frame in pixels (%(default)s)",
    )
    add("--max-words", type=int, default=Settings.max_words, help="per sentence (%(default)s)")
    add(
        "--vocabulary",
        type=int,
        default=Settings.vocabulary,
        metavar="N",
        help="use only the N most frequent words of the grammar (%(default)s: all)",
    )
    add(
        "--plain-speech",
        action="store_true",
        help="write clips that have a text as FLAC without video, as in MuST-C and LibriSpeech",
    )
    add("--text", type=Path, metavar="TSV", help="parallel text to speak: en and other languages")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = vars(parse_args(argv))
    out, jobs = args.pop("out"), args.pop("jobs")
    with command_line("interrupted; run the same command again to resume"):
        print(write_corpus(out, Settings(**args), jobs))


if __name__ == "__main__":
    main()
