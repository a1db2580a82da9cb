"""From a corpus's candidates to manifests: the command that every recipe shares.

A recipe says what clips its corpus offers (:class:`Recipe`); the rest happens here: every file
looked at in parallel, journals from which a killed run goes on, duplicates, leaks, the manifests,
``skipped.tsv`` and the summary.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path

from tqdm import tqdm

from manifests.candidate import UNREADABLE, Candidate, Limits, Measured
from manifests.catalogue import Catalogue
from manifests.common import parallel_stream, remove_stale, run_alone
from manifests.errors import InputError, command_line
from manifests.inspection import measure_all, stamp_of
from manifests.journal import (
    FOLDER,
    Journal,
    check_agreement,
    compare_settings,
    content_key,
    is_whole,
    journal_path,
    read_settings,
)
from manifests.recipe import Recipe, parse
from manifests.splits import checked_split
from manifests.telling import tell

CHUNK = 32  # clips that a worker gets at a time
SAME_RECORDING = 512  # at most, where they are segments of one recording
FORMAT = 4  # raised when older journals no longer hold

# Options that change no finding, or that Limits holds.
SHARED = {"out", "jobs", "rank", "restart", "allow_leaks", "command"}
SHARED |= {"decode", "min_seconds", "max_seconds"}
PATHS = ("audio", "audio_else", "video")

Numbered = tuple[int, Candidate, str]  # place in the corpus, the clip, its key


def prepare(recipe: Recipe, args: argparse.Namespace) -> dict | None:
    """Look at this machine's clips; the last machine writes the manifests.

    Returns:
        The summary, or None where other shards are not done.

    Raises:
        InputError: no such corpus, none of its clips is usable, splits leak, or a journal is of
            another corpus or of other settings.
    """
    if not args.corpus.exists():
        raise InputError(f"there is no {args.corpus}; name the folder of the corpus")
    for name, value in vars(args).items():
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, Path) and name != "out" and not path.exists():
                raise InputError(f"there is no {path}, which --{name.replace('_', '-')} names")
    if args.out == args.corpus:
        raise InputError(f"{args.out} is the corpus itself; write the manifests elsewhere")
    journals = [journal_path(args.out, rank, args.nshard) for rank in range(args.nshard)]
    if args.restart:
        _forget(args, journals[args.rank])
    remove_stale(args.out)
    limits = Limits(args.min_seconds, args.max_seconds, recipe.longest, args.decode)
    settings = _settings(recipe, args, limits)
    _refuse_other_shards(args, journals, settings)
    with Journal(journals[args.rank], settings) as journal:
        look_at_clips(recipe, args, limits, journal)
    missing = [str(rank) for rank, path in enumerate(journals) if not is_whole(path)]
    if missing:
        print(f"--rank {', '.join(missing)} of {args.nshard} not done yet", file=sys.stderr)
        return None
    check_agreement(journals)
    # Imported here because it brings fairseq, which no worker needs.
    from manifests.writing import write

    every = getattr(args, "valid_every", 0)
    with closing(Catalogue(journals, recipe.roles, every)) as catalogue:
        return write(recipe, args, catalogue)


def look_at_clips(
    recipe: Recipe, args: argparse.Namespace, limits: Limits, journal: Journal
) -> None:
    """Complete this machine's journal."""
    count, corpus = 0, blake2b(digest_size=16)

    def mine() -> Iterator[Numbered]:
        nonlocal count
        for place, candidate in enumerate(offered(recipe, args)):
            key = content_key(candidate)
            corpus.update(key.encode())
            # By recording, so that its segments stay together, wherever the corpus is mounted.
            recording = candidate.audio.removeprefix(str(args.corpus))
            if zlib.crc32(recording.encode("utf-8", "replace")) % args.nshard == args.rank:
                count += 1
                yield place, candidate, key

    work, lost = partial(_measure_chunk, limits=limits), partial(_killed, limits=limits)
    with tqdm(desc=recipe.name, unit=" clips", smoothing=0.05) as bar:
        chunks = _chunks(journal.remaining(mine()))
        for chunk, found in parallel_stream(work, chunks, args.jobs, lost):
            journal.write(chunk, found)
            bar.update(len(found))
    journal.finish(count, corpus.hexdigest())
    if journal.changed:
        print(f"{journal.changed} clips had changed and were looked at again", file=sys.stderr)


def offered(recipe: Recipe, args: argparse.Namespace) -> Iterator[Candidate]:
    """What the corpus offers, with absolute paths and checked splits.

    Raises:
        InputError: one of its lists or texts cannot be read.
    """
    here, last, keep_silent = os.getcwd(), "", getattr(args, "keep_silent", False)
    try:
        for candidate in recipe.candidates(args):
            known = {"split": checked_split(candidate.split)}
            if not candidate.fault:  # else paths may be names of something that is no file
                known |= {name: _absolute(here, getattr(candidate, name)) for name in PATHS}
            if keep_silent and candidate.text is None:
                known["audio_optional"] = True
            yield replace(candidate, **known)
            last = candidate.id
    except (UnicodeError, csv.Error, EOFError, zlib.error) as error:
        where = f"behind the clip {last}" if last else "at its beginning"
        raise InputError(
            f"a list or a text of {args.corpus} cannot be read, {where} ({error}); lists and texts "
            "are read as whole UTF-8 files"
        ) from None


def _absolute(folder: str, path: str) -> str:
    return path and os.path.join(folder, path)


def _settings(recipe: Recipe, args: argparse.Namespace, limits: Limits) -> dict:
    own = {name: value for name, value in vars(args).items() if name not in SHARED}
    settings = {"format": FORMAT, "recipe": recipe.name, **asdict(limits), **own}
    # As they come back from the journal: paths are text, tuples are lists.
    return json.loads(json.dumps(settings, default=str))


def _measure_chunk(chunk: list[Numbered], limits: Limits) -> list[Measured]:
    return measure_all([candidate for _, candidate, _ in chunk], limits)


def _killed(chunk: list[Numbered], limits: Limits) -> list[Measured]:
    """For a chunk that kills its process: clip by clip; the one that does it is left out."""
    if len(chunk) == 1:
        detail, stamp = "it kills the process that reads it", stamp_of(chunk[0][1])
        return [Measured(reason=UNREADABLE, detail=detail, stamp=stamp)]
    work, lost = partial(_measure_chunk, limits=limits), partial(_killed, limits=limits)
    return [found for clip in chunk for found in run_alone(work, [clip], lost)]


def _chunks(candidates: Iterable[Numbered]) -> Iterator[list[Numbered]]:
    """Pieces of work; the segments of a recording go to one worker, which looks at it once."""
    chunk: list[Numbered] = []
    for numbered in candidates:
        same = chunk and chunk[-1][1].audio == numbered[1].audio
        if len(chunk) >= (SAME_RECORDING if same else CHUNK):
            yield chunk
            chunk = []
        chunk.append(numbered)
    if chunk:
        yield chunk


def _forget(args: argparse.Namespace, journal: Path) -> None:
    """Remove this machine's journal, and those of an earlier division among machines."""
    for path in (journal, *(path for path, _ in _other_journals(args))):
        path.unlink(missing_ok=True)


def _other_journals(args: argparse.Namespace) -> Iterator[tuple[Path, str]]:
    for path in (args.out / FOLDER).glob("*-of-*.jsonl"):
        shards = path.stem.split("-of-")[1]
        if shards != str(args.nshard):
            yield path, shards


def _refuse_other_shards(args: argparse.Namespace, journals: list[Path], settings: dict) -> None:
    """Stop before work is done that could not be merged with what other machines did."""
    others = sorted({shards for _, shards in _other_journals(args)})
    if others:
        raise InputError(
            f"{args.out} was begun with --nshard {' and '.join(others)}; give --rank and --nshard "
            "as then, or say --restart to forget what was found"
        )
    for rank, path in enumerate(journals):
        if rank == args.rank or args.restart or not path.is_file():
            continue
        stored = read_settings(path)
        if stored:
            remedy = f"say the same, or --restart for every rank, also --rank {rank}"
            compare_settings(path, stored, settings, remedy)


def main(recipe: Recipe, arguments: list[str] | None = None) -> None:
    """The command line of a recipe."""
    args = parse(recipe, arguments)
    with command_line("interrupted; the same command goes on from here"):
        summary = prepare(recipe, args)
    if summary is not None:
        tell(summary, args, recipe.roles)
