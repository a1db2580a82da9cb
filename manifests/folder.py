"""Any tree of audio or video files, with or without texts.

    python -m manifests.folder DIR OUT [--target-lang de] [--csv clips.csv]

Texts come from files beside a recording: annotations of ELAN (``talk.eaf``) or Praat
(``talk.TextGrid``), in the tier ``--tier`` if there are several, else ``talk.srt`` or ``talk.vtt``
(each annotation or cue becomes a segment of the recording, audio and video), else ``talk.txt`` (the
whole recording, or Audacity's labels). With ``--target-lang de``, ``talk.de.srt`` is preferred to
``talk.srt``; cues of ``talk.en.srt``, or else ``talk.srt``, at the same times are then the source
texts of ``--source-lang en``; of annotations, those of ``--source-tier``. Alternatively, texts come
from a table: a column file and any of text, split, speaker, start, end, src_text, src_lang,
tgt_lang. ``--csv`` can be given several times, as for Common Voice's ``train.tsv``, ``dev.tsv`` and
``test.tsv``. If ``talk.wav`` is beside ``talk.mp4``, it provides the audio.

Splits: top-level folders named train, valid, dev, test-clean ... are splits, as is a column split
or the name of the table. If none of them is for validation, one recording in twenty of ``train``
becomes ``valid``, but at least one; with speakers (``--speaker folder`` or a column), whole
speakers, the smallest first, if these take at most a third; with few recordings of many clips each,
their last clips. If no recording has a text, recordings are used for stage 1, whole or in pieces of
``--cut`` seconds. If some have, those without are left out, because they have no transcript to
train on or score, unless ``--without-texts`` takes all for stage 1. A video without audio is left
out; if there are no texts, ``--keep-silent`` keeps its frames, whole or in pieces. Sentences that
recur in several splits are counted, not refused, because short phrases recur in the subtitles of
any two videos.
"""

from __future__ import annotations

import argparse
import codecs
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from manifests.candidate import LONGEST_WITH_TEXT, Candidate
from manifests.errors import InputError
from manifests.holdout import (
    RecordingsHeldOut,
    SpeakersHeldOut,
    ends_held_out,
    hold_out,
    is_usable,
    to_valid,
)
from manifests.prepare import main
from manifests.recipe import Recipe, add_keep_silent, add_valid_every
from manifests.recording import inspect
from manifests.sidecars import Sidecars, Wanted
from manifests.splits import canonical_split, is_split, role_of
from manifests.table_clips import Placed, table_candidates
from manifests.tables import Row, confidence_of, describe, read_table
from manifests.text import clean, plain, spoken
from manifests.tree import Recording, recordings, unknown_suffixes, without_recording


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--csv",
        type=Path,
        action="append",
        metavar="TABLE",
        help="a table of the clips, instead of text files beside them; again for more tables",
    )
    add("--text-column", metavar="NAME", help="column of the target texts if several hold texts")
    add(
        "--min-confidence",
        type=_fraction,
        metavar="C",
        help="leave out rows of a table whose confidence, as given by mmpt-transcribe, is lower",
    )
    add("--target-lang", default="", help="language of the texts")
    add("--source-lang", default="", help="language that is spoken")
    help_text = "the annotations' tier (ELAN, Praat) with the target texts; * is any text; again "
    help_text += "for the name in other files: the first that a file has is used"
    add("--tier", default=[], action="append", metavar="NAME", help=help_text)
    help_text = "the same, of what is spoken"
    add("--source-tier", default=[], action="append", metavar="NAME", help=help_text)
    add("--speaker", choices=["folder"], help="take a file's folder as its speaker")
    add(
        "--encoding",
        type=_encoding,
        default="cp1252",
        help="encoding of texts that are not UTF-8 (%(default)s)",
    )
    add("--spoken", action="store_true", help="remove (Applause), [Music] and speaker labels")
    add("--plain", action="store_true", help="lower-case texts and remove punctuation")
    add("--without-texts", action="store_true", help="ignore texts: take all clips, for stage 1")
    add(
        "--cut",
        type=_positive_seconds,
        metavar="SECONDS",
        help="cut recordings without text into pieces",
    )
    add("--require-video", action="store_true", help="leave out clips without video")
    add_keep_silent(parser)
    add_valid_every(parser, 20, "recordings (of speakers with --speaker)")


def _encoding(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise argparse.ArgumentTypeError(f"there is no encoding {name!r}") from None


def _fraction(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{value} is not a number from 0 to 1")
    return number


def _positive_seconds(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{value} is not a number of seconds, such as 10")
    return number


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Clips, sorted by path, or in the order of the table."""
    rule = _rule(args)
    columns = {"src_lang": args.source_lang, "tgt_lang": args.target_lang or args.source_lang}
    columns = {name: value for name, value in columns.items() if value}
    _check_options(args)
    if args.csv:
        for table in args.csv:
            for note in describe(table, args.encoding, args.text_column):
                print(note, file=sys.stderr)
        _report_doubtful(args)
        read = partial(_rows, args)
        yield from table_candidates(read, args.valid_every, rule, **columns)
        return
    _report_ignored(args.corpus)
    _report_splits(args.corpus)
    target = args.target_lang or args.source_lang
    tiers, source_tiers = tuple(args.tier), tuple(args.source_tier)
    wanted = Wanted(args.source_lang, target, tiers, source_tiers, args.encoding)
    sidecars = Sidecars(rule, wanted)
    with_texts = not args.without_texts and any(map(sidecars.find, recordings(args.corpus)))
    if (args.tier or args.source_tier) and not sidecars.has_annotations(recordings(args.corpus)):
        raise InputError(
            f"--tier is for annotations, and no recording in {args.corpus} has an .eaf or "
            ".TextGrid of its name beside it"
        )
    held, splits = _held_out(args, sidecars if with_texts else None)
    for recording in recordings(args.corpus):
        split = _split(recording, args.corpus) or "train"
        may_hold_out = split == "train" and "valid" not in splits
        base = _base(recording, args, split, columns)
        if with_texts:
            clips = sidecars.clips(recording, base)
        else:
            clips = iter([Candidate(id=base["source"], **base, cut=args.cut)])
        if may_hold_out and not held.possible:
            clips = ends_held_out(clips, args.valid_every)
        elif may_hold_out and _group(recording, args.corpus, held.by_speaker) in held:
            clips = map(to_valid, clips)
        yield from clips


def _check_options(args: argparse.Namespace) -> None:
    """Check that options of tables are used with tables only, and those of annotations without.

    Raises:
        InputError: they are not.
    """
    if args.csv and (args.tier or args.source_tier):
        raise InputError("--tier is for annotations beside recordings; a table has columns")
    if not args.csv and args.min_confidence is not None:
        raise InputError("--min-confidence is for tables; give one with --csv")


def _rule(args: argparse.Namespace) -> Callable[[str], str]:
    """The function that cleans every text."""
    rule = spoken if args.spoken else clean
    return (lambda text: plain(rule(text))) if args.plain else rule


def _rows(args: argparse.Namespace) -> Iterator[Placed]:
    """The rows of all tables that are used."""
    for table in args.csv:
        split = canonical_split(table.stem) if is_split(table.stem) else "train"
        for row in read_table(table, args.encoding, args.text_column):
            if not _is_doubtful(row, table, args.min_confidence):
                yield row, args.corpus, split


def _is_doubtful(row: Row, table: Path, least: float | None) -> bool:
    confidence = None if least is None else confidence_of(row, table)
    return confidence is not None and confidence < least


def _report_doubtful(args: argparse.Namespace) -> None:
    """Report how many rows are left out by ``--min-confidence``.

    Raises:
        InputError: no row has a confidence.
    """
    least = args.min_confidence
    if least is None:
        return
    confidences = [
        confidence_of(row, table)
        for table in args.csv
        for row in read_table(table, args.encoding, args.text_column)
    ]
    if not any(confidence is not None for confidence in confidences):
        raise InputError("--min-confidence needs a table with a column confidence")
    count = sum(confidence is not None and confidence < least for confidence in confidences)
    print(
        f"{count} of {len(confidences)} rows have a confidence under {least:g} and are left out",
        file=sys.stderr,
    )


def _held_out(
    args: argparse.Namespace, sidecars: Sidecars | None
) -> tuple[RecordingsHeldOut | SpeakersHeldOut, set[str]]:
    """The recordings or speakers that may go to valid, and the splits given by top-level folders.

    Recordings without a text are excluded if ``sidecars`` are given, and so are empty files.
    """
    splits: set[str] = set()

    def usable() -> Iterator[Recording]:
        for recording in recordings(args.corpus):
            split = _split(recording, args.corpus)
            splits.add(split)
            if split not in ("", "train") or not _size(recording.audio):
                continue
            if sidecars is None or sidecars.find(recording):
                yield recording

    def sized() -> Iterator[tuple[str, int]]:
        return ((_group(r, args.corpus, False), _size(r.audio)) for r in usable())

    def clips() -> Iterator[tuple[str, int]]:
        return ((_group(r, args.corpus, False), _clip_count(r, args, sidecars)) for r in usable())

    speakers = (_group(r, args.corpus, True) for r in usable()) if args.speaker else None
    return hold_out(speakers, sized, args.valid_every, clips), splits


def _clip_count(recording: Recording, args: argparse.Namespace, sidecars: Sidecars | None) -> int:
    """Approximate number of clips in a recording."""
    if sidecars is not None:
        clips = sidecars.clips(recording, _base(recording, args, "train", {}))
        return sum(map(is_usable, clips))
    audio = inspect(str(recording.audio)) if args.cut else None
    whole = audio and audio.rate and not audio.cut_off
    return int(audio.samples / audio.rate / args.cut) if whole else 1


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _group(recording: Recording, corpus: Path, by_speaker: bool) -> str:
    """The unit that is held out as a whole: a speaker or a recording."""
    return recording.audio.parent.name if by_speaker else _name(recording, corpus)


def _report_ignored(folder: Path) -> None:
    """Report files under a folder that are of no known kind or belong to no recording."""
    if alone := without_recording(folder):
        print(
            f"ignored: {len(alone)} annotations or subtitles without a recording of the same name "
            f"beside them, such as {alone[0].relative_to(folder)}",
            file=sys.stderr,
        )
    if others := unknown_suffixes(folder):
        counts = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(8))
        print(f"ignored: files that are not audio or video by name: {counts}", file=sys.stderr)


def _report_splits(folder: Path) -> None:
    """Report top-level folders whose names are only similar to a split's."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and is_split(path.name) and path.name.lower() != role_of(path.name):
            print(f"the folder {path.name} is taken as {role_of(path.name)}", file=sys.stderr)


def _split(recording: Recording, corpus: Path) -> str:
    """The split given by the top-level folder; empty if it is not the name of a split."""
    top = recording.audio.relative_to(corpus).parts[0]
    return role_of(top) if is_split(top) else ""


def _name(recording: Recording, corpus: Path) -> str:
    return str(recording.audio.relative_to(corpus).with_suffix(""))


def _base(recording: Recording, args: argparse.Namespace, split: str, columns: dict) -> dict:
    """The fields that all clips of a recording share."""
    audio, video = recording.audio, recording.video
    if args.speaker:
        columns = {**columns, "speaker": audio.parent.name}
    return {
        "split": split,
        "audio": str(audio),
        # With --require-video, video is also looked for in files that may have none.
        "video": str(video or (audio if args.require_video else "")),
        "video_optional": not args.require_video,
        "source": _name(recording, args.corpus),
        "columns": columns,
    }


RECIPE = Recipe(
    name="folder",
    description=__doc__,
    candidates=candidates,
    add_options=add_options,
    allowed=("sentence",),
    longest=LONGEST_WITH_TEXT,
    corpus="DIR",
)

if __name__ == "__main__":
    main(RECIPE)
