"""Any tree of sound or video files, with or without texts.

    python -m manifests.folder DIR OUT [--target-lang de] [--csv clips.csv]

Texts come from files beside a recording: ``talk.srt`` or ``talk.vtt`` (each cue becomes a segment
of the recording, sound and pictures), else ``talk.txt`` (all of it). With ``--target-lang de``,
``talk.de.srt`` goes before ``talk.srt``; cues of ``talk.en.srt`` or else ``talk.srt`` at the same
times are then the source texts of ``--source-lang en``. Or they come from a table: a column file
and any of text, split, speaker, start, end, src_text, src_lang, tgt_lang. ``talk.wav`` beside
``talk.mp4`` is taken for its sound.

Splits: folders at the top named train, valid, dev, test ... are splits, as is a column split.
Where none of them is for validation, one recording in twenty of ``train`` becomes ``valid``, but
at least one; with speakers (``--speaker folder``, a column) whole speakers, the smallest ones,
where these take at most a third; where recordings are few and have many clips, the last clips.
Where no recording has a text, they go as they are, or in pieces of ``--cut`` seconds, for stage 1;
where some have, those that have none are left out, for nothing was transcribed there that could be
learnt or scored, unless ``--without-texts`` takes all for stage 1. A film without sound is left
out; where there are no texts ``--keep-silent`` keeps its pictures, whole or in pieces. Sentences
that recur in several splits are counted, not refused, because short phrases recur in the subtitles
of any two films.
"""

from __future__ import annotations

import argparse
import codecs
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from manifests.candidate import LONGEST_WITH_TEXT, Candidate
from manifests.headers import SOUNDFILE_SUFFIXES
from manifests.holdout import (
    RecordingsHeldOut,
    SpeakersHeldOut,
    drawn,
    ends_held_out,
    hold_out,
    is_usable,
)
from manifests.prepare import main
from manifests.recipe import Recipe, add_keep_silent, add_valid_every
from manifests.recording import inspect
from manifests.sidecars import SUFFIXES, Recording, Sidecars
from manifests.splits import FOLDERS, role_of
from manifests.tables import Placed, describe, read_table, table_candidates
from manifests.text import clean, plain, spoken

SOUND = {*SOUNDFILE_SUFFIXES, ".m4a", ".aac", ".wma", ".ac3", ".amr", ".caf", ".mka", ".weba"}
SOUND |= {".mp2", ".m4b", ".au", ".w64", ".sph", ".wv", ".ape"}
VIDEO = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp"}
VIDEO |= {".ts", ".mts", ".m2ts", ".ogv", ".vob"}
OTHERS = {"", ".csv", ".tsv", ".json", ".jsonl", ".txt", ".md", ".xml", ".html", ".pdf", ".log"}
OTHERS |= {".jpg", ".jpeg", ".png", ".gif", ".nfo", ".yaml", ".zip"}


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--csv", type=Path, help="a table of the clips, instead of files beside them")
    add("--text-column", metavar="NAME", help="of the table, where several hold texts")
    add("--target-lang", default="", help="language of the texts")
    add("--source-lang", default="", help="language that is spoken")
    add("--speaker", choices=["folder"], help="the folder that a file lies in is its speaker")
    add(
        "--encoding",
        type=_encoding,
        default="cp1252",
        help="of texts that are not UTF-8 (%(default)s)",
    )
    add("--spoken", action="store_true", help="texts without (Applause), [Music], speaker labels")
    add("--plain", action="store_true", help="texts in small letters, without punctuation")
    add("--without-texts", action="store_true", help="leave texts aside: all clips, for stage 1")
    add("--cut", type=_positive, metavar="SECONDS", help="pieces of recordings that have no text")
    add("--require-video", action="store_true", help="leave out what has no pictures")
    add_keep_silent(parser)
    add_valid_every(parser, 20, "recordings (of speakers with --speaker)")


def _encoding(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise argparse.ArgumentTypeError(f"there is no encoding {name!r}") from None


def _positive(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{value} is no number of seconds, such as 10")
    return number


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Clips, sorted by path, or in the order of the table."""
    rule = _rule(args)
    columns = {"src_lang": args.source_lang, "tgt_lang": args.target_lang or args.source_lang}
    columns = {name: value for name, value in columns.items() if value}
    if args.csv:
        for note in describe(args.csv, args.encoding, args.text_column):
            print(note, file=sys.stderr)
        read = partial(_rows, args.csv, args.encoding, args.text_column, args.corpus)
        yield from table_candidates(read, args.valid_every, rule, **columns)
        return
    _tell_left_alone(args.corpus)
    sidecars = Sidecars(rule, args.source_lang, args.target_lang, args.encoding)
    with_texts = not args.without_texts and any(map(sidecars.find, recordings(args.corpus)))
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
            clips = map(drawn, clips)
        yield from clips


def _rule(args: argparse.Namespace) -> Callable[[str], str]:
    """What is made of every text."""
    rule = spoken if args.spoken else clean
    return (lambda text: plain(rule(text))) if args.plain else rule


def _rows(path: Path, encoding: str, text: str | None, folder: Path) -> Iterator[Placed]:
    return ((row, folder, "train") for row in read_table(path, encoding, text))


def _held_out(
    args: argparse.Namespace, sidecars: Sidecars | None
) -> tuple[RecordingsHeldOut | SpeakersHeldOut, set[str]]:
    """Which recordings or speakers may go to valid, and the splits that folders at the top tell.

    Those without a text do not, where ``sidecars`` are wanted, nor empty files.
    """
    splits: set[str] = set()

    def usable() -> Iterator[Recording]:
        for recording in recordings(args.corpus):
            split = _split(recording, args.corpus)
            splits.add(split)
            if split not in ("", "train") or not _size(recording.sound):
                continue
            if sidecars is None or sidecars.find(recording):
                yield recording

    def sized() -> Iterator[tuple[str, int]]:
        return ((_group(r, args.corpus, False), _size(r.sound)) for r in usable())

    def clips() -> Iterator[tuple[str, int]]:
        return ((_group(r, args.corpus, False), _clips(r, args, sidecars)) for r in usable())

    speakers = (_group(r, args.corpus, True) for r in usable()) if args.speaker else None
    return hold_out(speakers, sized, args.valid_every, clips), splits


def _clips(recording: Recording, args: argparse.Namespace, sidecars: Sidecars | None) -> int:
    """How many a recording makes, about."""
    if sidecars is not None:
        clips = sidecars.clips(recording, _base(recording, args, "train", {}))
        return sum(map(is_usable, clips))
    sound = inspect(str(recording.sound)) if args.cut else None
    whole = sound and sound.rate and not sound.cut_off
    return int(sound.samples / sound.rate / args.cut) if whole else 1


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _group(recording: Recording, corpus: Path, by_speaker: bool) -> str:
    """What is held out as a whole."""
    return recording.sound.parent.name if by_speaker else _name(recording, corpus)


def recordings(folder: Path) -> Iterator[Recording]:
    """Every recording under a folder, sorted."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not _loops(parent, f))
        named: dict[str, list[Path]] = {}
        texts: dict[str, Path] = {}
        for name in sorted(files):
            path = Path(parent, name)
            if path.suffix.lower() in SOUND | VIDEO and not name.startswith("."):
                named.setdefault(path.stem, []).append(path)
            elif path.suffix.lower() in SUFFIXES:
                texts[path.stem + path.suffix.lower()] = path
        for paths in named.values():
            videos = [p for p in paths if p.suffix.lower() in VIDEO]
            sounds = [p for p in paths if p.suffix.lower() in SOUND]
            yield Recording((sounds or videos)[0], videos[0] if videos else None, texts)
            # A third file of the same name is told as a duplicate.
            for path in [*sounds[1:], *videos[1:]]:
                yield Recording(path, path if path in videos else None, texts)


def _tell_left_alone(folder: Path) -> None:
    """Name the suffixes under a folder that are of no kind of file known here."""
    known = SOUND | VIDEO | {*SUFFIXES, *OTHERS}
    names = (name for _, _, files in os.walk(folder) for name in files)
    suffixes = (Path(name).suffix.lower() for name in names if not name.startswith("."))
    others = Counter(suffix for suffix in suffixes if suffix not in known)
    if others:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(8))
        print(f"files that are no sound or video by name are left alone: {counts}", file=sys.stderr)


def _loops(parent: str, name: str) -> bool:
    """Whether a folder is a link to one that it lies in."""
    path, here = Path(parent, name), Path(parent).resolve()
    return path.is_symlink() and path.resolve() in (here, *here.parents)


def _split(recording: Recording, corpus: Path) -> str:
    """As a folder at the top says; empty where none does."""
    top = recording.sound.relative_to(corpus).parts[0]
    return role_of(top) if top.lower() in FOLDERS else ""


def _name(recording: Recording, corpus: Path) -> str:
    return str(recording.sound.relative_to(corpus).with_suffix(""))


def _base(recording: Recording, args: argparse.Namespace, split: str, columns: dict) -> dict:
    """What all clips of a recording share."""
    sound, video = recording.sound, recording.video
    if args.speaker:
        columns = {**columns, "speaker": sound.parent.name}
    return {
        "split": split,
        "audio": str(sound),
        # Where pictures are wanted, a file that may have none is asked for them too.
        "video": str(video or (sound if args.require_video else "")),
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
