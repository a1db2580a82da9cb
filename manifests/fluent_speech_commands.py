"""Fluent Speech Commands (arXiv 1904.03670) for SUPERB's intent classification.

    python -m manifests.fluent_speech_commands fluent_speech_commands_dataset OUT

``data/{train,valid,test}_data.csv`` with the columns path, speakerId, transcription, action,
object, location; clips under ``wavs/speakers/``. ``tgt_text`` holds the three slots action, object,
location, separated by spaces, with underscores for the spaces inside one:
``change_language none none``. ``src_text`` keeps the transcription.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator

from manifests.candidate import BAD_ROW, Candidate
from manifests.errors import InputError
from manifests.prepare import main
from manifests.recipe import Recipe
from manifests.text import clean

SLOTS = ("action", "object", "location")


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Clips in the order of the official lists."""
    for split in ("train", "valid", "test"):
        path = args.corpus / "data" / f"{split}_data.csv"
        if not path.is_file():
            raise InputError(f"there is no {path}; give the unpacked release")
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv.DictReader(file)
            missing = {"path", "speakerId", "transcription", *SLOTS} - set(rows.fieldnames or ())
            if missing:
                raise InputError(f"{path} lacks the column {', '.join(sorted(missing))}")
            for row in rows:
                if not row["path"]:
                    row_name = f"{path.name}, line {rows.line_num}"
                    yield Candidate(row_name, split, audio="", fault=(BAD_ROW, "it names no file"))
                    continue
                slots = [clean(row[slot] or "") for slot in SLOTS]
                name = row["path"].rsplit(".", 1)[0].removeprefix("wavs/speakers/")
                yield Candidate(
                    id=name,
                    split=split,
                    audio=str(args.corpus / row["path"]),
                    # An empty slot makes the whole label unusable.
                    text=" ".join(s.replace(" ", "_") for s in slots) if all(slots) else "",
                    columns={
                        "speaker": row["speakerId"] or "",
                        "src_text": clean(row["transcription"] or ""),
                        "src_lang": "en",
                    },
                )


RECIPE = Recipe(
    name="fluent_speech_commands",
    description=__doc__,
    candidates=candidates,
    allowed=("sentence",),
)

if __name__ == "__main__":
    main(RECIPE)
