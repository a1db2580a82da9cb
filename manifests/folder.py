"""Any tree of sound or video files, with or without texts.

    python -m manifests.folder DIR OUT [--target-lang de] [--csv clips.csv]

Texts come from files beside a recording: ``talk.srt`` or ``talk.vtt`` (each cue becomes a segment
of the recording, sound and pictures), else ``talk.txt`` (all of it). With ``--target-lang de``,
``talk.de.srt`` goes before ``talk.srt``. Or they come from a table: a column file and any of text,
split, speaker, start, end, src_text, src_lang, tgt_lang. ``talk.wav`` beside ``talk.mp4`` is taken
for its sound.

Splits: folders at the top named train, valid, dev, test ... are splits. Without them everything is
``train``, and one recording in twenty, evenly spread, is ``valid``. A recording that has no text
goes as it is, or in pieces of ``--cut`` seconds, and cannot be used for translation or recognition.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from manifests.candidate import Candidate
from manifests.captions import SUFFIXES, read_cues
from manifests.catalogue import role_of
from manifests.prepare import Recipe, add_valid_every, main
from manifests.recording import COMPRESSED, PLAIN
from manifests.tables import read_table, row_candidate
from manifests.text import clean, spoken

SOUND = {*PLAIN, *COMPRESSED, ".m4a", ".aac", ".wma"}
VIDEO = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".flv", ".wmv"}
SPLIT_FOLDERS = {"train", "training", "valid", "validation", "val", "dev", "test", "eval"}

Rule = Callable[[str], str]


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--csv", type=Path, help="a table of the clips, instead of files beside them")
    add("--target-lang", default="", help="language of the texts")
    add("--source-lang", default="", help="language that is spoken")
    add("--speaker", choices=["folder"], help="the folder that a file lies in is its speaker")
    add("--spoken", action="store_true", help="texts without (Applause), [Music], speaker labels")
    add("--cut", type=float, metavar="SECONDS", help="pieces of recordings that have no text")
    add("--require-video", action="store_true", help="leave out what has no pictures")
    add_valid_every(parser, 20, "recordings (of speakers with --speaker)")


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Clips, sorted by path, or in the order of the table."""
    rule = spoken if args.spoken else clean
    columns = {"src_lang": args.source_lang, "tgt_lang": args.target_lang or args.source_lang}
    columns = {name: value for name, value in columns.items() if value}
    if args.csv:
        for row in read_table(args.csv):
            yield row_candidate(row, args.corpus, "train", rule, **columns)
        return
    valid = _validation(args)
    for place, recording in enumerate(recordings(args.corpus)):
        split = _split(recording, args.corpus) or ("valid" if valid(place, recording) else "train")
        base = _base(recording, args, split, columns)
        yield from recording_candidates(base, recording, args, rule)


def recordings(folder: Path) -> Iterator[tuple[Path, Path | None]]:
    """(sound, pictures or None) of every recording under a folder, sorted."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not _loops(parent, f))
        named: dict[str, list[Path]] = {}
        for name in sorted(files):
            path = Path(parent, name)
            if path.suffix.lower() in SOUND | VIDEO and not name.startswith("."):
                named.setdefault(path.stem, []).append(path)
        for paths in named.values():
            videos = [p for p in paths if p.suffix.lower() in VIDEO]
            sounds = [p for p in paths if p.suffix.lower() in SOUND]
            yield (sounds or videos)[0], videos[0] if videos else None
            # A third file of the same name is told as a duplicate.
            for path in [*sounds[1:], *videos[1:]]:
                yield path, path if path in videos else None


def _loops(parent: str, name: str) -> bool:
    """Whether a folder is a link to one that it lies in."""
    path, here = Path(parent, name), Path(parent).resolve()
    return path.is_symlink() and path.resolve() in (here, *here.parents)


def _validation(args: argparse.Namespace) -> Callable[[int, tuple], bool]:
    """Which recordings are held out, where no folder says so.

    Their number is counted first, so that a folder of few recordings has one for validation too.
    """
    if not args.valid_every:
        return lambda place, recording: False
    if args.speaker:
        speakers = sorted({sound.parent.name for sound, _ in recordings(args.corpus)})
        every = min(args.valid_every, max(2, len(speakers)))
        held = set(speakers[every - 1 :: every])
        return lambda place, recording: recording[0].parent.name in held
    count = sum(1 for _ in recordings(args.corpus))
    every = min(args.valid_every, max(2, count))
    return lambda place, recording: place % every == every - 1


def _split(recording: tuple[Path, Path | None], corpus: Path) -> str:
    top = recording[0].relative_to(corpus).parts[0]
    if top.lower() not in SPLIT_FOLDERS:
        return ""
    return {"train": "train", "valid": "valid", "test": "test"}[role_of(top)]


def _base(
    recording: tuple[Path, Path | None], args: argparse.Namespace, split: str, columns: dict
) -> dict:
    """What all clips of a recording share."""
    sound, video = recording
    name = str(sound.relative_to(args.corpus).with_suffix(""))
    if args.speaker:
        columns = {**columns, "speaker": sound.parent.name}
    return {
        "split": split,
        "audio": str(sound),
        # Where pictures are wanted, a file that may have none is asked for them too.
        "video": str(video or (sound if args.require_video else "")),
        "video_optional": not args.require_video,
        "source": name,
        "columns": columns,
    }


def recording_candidates(
    base: dict, recording: tuple[Path, Path | None], args: argparse.Namespace, rule: Rule
) -> Iterator[Candidate]:
    """The clips of one recording: its cues, its text, or its pieces."""
    name = base["source"]
    beside = sidecar(recording, args.target_lang)
    if beside and beside.suffix.lower() in SUFFIXES:
        for i, cue in enumerate(read_cues(beside)):
            seconds, text = cue.end - cue.start, rule(cue.text)
            yield Candidate(
                id=f"{name}_{i:04d}", **base, start=cue.start, seconds=seconds, text=text
            )
    elif beside:
        text = beside.read_text(encoding="utf-8-sig", errors="replace")
        yield Candidate(id=name, **base, text=rule(text))
    else:
        yield Candidate(id=name, **base, cut=args.cut)


def sidecar(recording: tuple[Path, Path | None], language: str) -> Path | None:
    """The text file that belongs to a recording."""
    stem = recording[0].with_suffix("")
    middles = [f".{language}", ""] if language else [""]
    for middle in middles:
        for suffix in (*SUFFIXES, ".txt"):
            path = stem.with_name(f"{stem.name}{middle}{suffix}")
            if path.is_file():
                return path
    return None


RECIPE = Recipe(
    name="folder",
    description=__doc__,
    candidates=candidates,
    add_options=add_options,
    longest=60.0,
    corpus="DIR",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
