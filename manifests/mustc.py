"""MuST-C (Di Gangi et al., NAACL 2019; v1.0 to v3.0, https://ict.fbk.eu/must-c/) as released.

    python -m manifests.mustc MUSTC/en-de OUT [--task asr]

``en-XX/data/{train,dev,tst-COMMON,tst-HE}/{wav,txt}``: one talk per ``wav/ted_N.wav``; in ``txt``,
``<split>.yaml`` lists segments (duration, offset, speaker_id, wav), and line i of ``<split>.en``
and ``<split>.XX`` is segment i's transcript and translation. Segments are read directly from the
talks; no audio is copied. The texts of speech translation stay as released, including mark-up such
as "(Applause)", because published BLEU scores are computed against them; ``--task asr`` uses the
English transcripts without it (manifests/README.md).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from manifests.candidate import BAD_ROW, LONGEST_WITH_TEXT, Candidate
from manifests.errors import InputError
from manifests.prepare import main
from manifests.recipe import Recipe
from manifests.text import clean, read_lines, spoken

SPLITS = ("train", "dev", "tst-COMMON", "tst-HE")
# Each line holds one segment, {duration: 3.5, offset: 16.08, ...}; parsed line by line, a list of
# 250,000 takes almost no memory, and seconds with libyaml.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", choices=["st", "asr"], default="st", help="kind of target")


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Every segment, in the order of the lists."""
    language, data = target_language(args.corpus), args.corpus / "data"
    lists = {
        split: [data / split / "txt" / f"{split}.{kind}" for kind in ("yaml", "en", language)]
        for split in SPLITS
        if (data / split).is_dir()
    }
    for paths in lists.values():  # before hours of inspection
        check_lists(paths)
    for split, (listed, english, target) in lists.items():
        folder, seen = data / split, {}
        lines = zip(read_segments(listed), read_lines(english), read_lines(target), strict=True)
        for segment, source, translation in lines:
            if "fault" in segment:
                yield Candidate(segment["line"], split, audio="", fault=segment["fault"])
                continue
            talk = Path(segment["wav"]).stem
            number = seen[talk] = seen.get(talk, -1) + 1
            columns = {"src_text": clean(source), "src_lang": "en", "tgt_lang": language}
            text = clean(translation)
            if args.task == "asr":
                text = columns["src_text"] = spoken(source)
                columns["tgt_lang"] = "en"
            yield Candidate(
                id=f"{talk}_{number}",
                split=split,
                audio=str(folder / "wav" / segment["wav"]),
                start=segment["offset"],
                seconds=segment["duration"],
                text=text,
                source=talk,
                columns={**columns, "speaker": str(segment.get("speaker_id", ""))},
            )


def target_language(corpus: Path) -> str:
    """``de`` of ``en-de``."""
    match = re.fullmatch(r"en-([a-z]{2,3})", corpus.name)
    if not match or not (corpus / "data").is_dir():
        raise InputError(f"{corpus} is not a MuST-C pair; give a folder such as MUSTC/en-de")
    return match[1]


def read_segments(path: Path) -> Iterator[dict]:
    """The segments of a YAML list; ``line`` and ``fault`` for a line that holds none."""
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            [segment] = yaml.load(line, _LOADER)
            times = {name: float(segment[name]) for name in ("offset", "duration")}
            yield {**segment, **times, "wav": str(segment["wav"])}
        except (yaml.YAMLError, TypeError, ValueError, KeyError):
            fault = (BAD_ROW, "not a segment with wav, offset and duration")
            yield {"line": f"{path.name}, line {number}", "fault": fault}


def check_lists(paths: list[Path]) -> None:
    """Check that a split's three lists exist and have a line for each segment.

    Raises:
        InputError: they do not.
    """
    for path in paths:
        if not path.is_file():
            raise InputError(f"there is no {path}; unpack the release completely")
    # As read_segments does, without blank lines of the YAML list; a text may be one.
    lengths = {
        path.name: sum(path.suffix != ".yaml" or bool(line.strip()) for line in read_lines(path))
        for path in paths
    }
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(
            f"the lists in {paths[0].parent} differ in length ({counts} lines); each has one line "
            "per segment, as released"
        )


RECIPE = Recipe(
    name="mustc",
    description=__doc__,
    candidates=candidates,
    add_options=add_options,
    roles={"tst-COMMON": "test", "tst-HE": "test"},
    # Splits are by talk; a speaker of several TED talks may be in two.
    allowed=("sentence", "speaker"),
    longest=LONGEST_WITH_TEXT,
    corpus="MUSTC/en-XX",
)

if __name__ == "__main__":
    main(RECIPE)
