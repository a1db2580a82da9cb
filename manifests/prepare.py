"""From a corpus's candidates to manifests: the command that every recipe shares.

A recipe lists the clips of its corpus (:class:`Recipe`); the rest happens here: inspection of every
file in parallel, journals from which a killed run resumes, duplicates, leaks, the manifests,
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
    is_complete,
    journal_path,
    read_settings,
)
from manifests.recipe import Recipe, parse
from manifests.reporting import report
from manifests.splits import checked_split

CHUNK = 32  # clips per task of a worker
SAME_RECORDING = 512  # limit for segments of one recording
FORMAT = 4  # version of the journals; raised when older ones become invalid

# Options that do not change what inspection finds, or that are in Limits.
SHARED = {"out", "jobs", "rank", "restart", "allow_leaks", "command"}
SHARED |= {"decode", "min_seconds", "max_seconds"}
PATHS = ("audio", "audio_else", "video")

Numbered = tuple[int, Candidate, str]  # index in the corpus, clip, its content key


def prepare(recipe: Recipe, args: argparse.Namespace) -> dict | None:
    """Inspect this machine's clips; the last machine to finish writes the manifests.

    Returns:
        The summary, or None if other shards are not finished.

    Raises:
        InputError: no such corpus, no usable clip, splits leak, or a journal belongs to another
            corpus or to other settings.
    """
    if not args.corpus.exists():
        raise InputError(f"there is no {args.corpus}; name the folder of the corpus")
    for name, value in vars(args).items():
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, Path) and name != "out" and not path.exists():
                raise InputError(f"there is no {path} (given with --{name.replace('_', '-')})")
    if args.out == args.corpus:
        raise InputError(f"{args.out} is the corpus itself; choose another output folder")
    journals = [journal_path(args.out, rank, args.nshard) for rank in range(args.nshard)]
    if args.restart:
        _discard_journals(args, journals[args.rank])
    remove_stale(args.out)
    limits = Limits(args.min_seconds, args.max_seconds, recipe.longest, args.decode)
    settings = _settings(recipe, args, limits)
    _check_other_shards(args, journals, settings)
    with Journal(journals[args.rank], settings) as journal:
        inspect_clips(recipe, args, limits, journal)
    missing = [str(rank) for rank, path in enumerate(journals) if not is_complete(path)]
    if missing:
        print(f"--rank {', '.join(missing)} of {args.nshard} not finished yet", file=sys.stderr)
        return None
    check_agreement(journals)
    # Imported here because it imports fairseq, which no worker needs.
    from manifests.writing import write

    every = getattr(args, "valid_every", 0)
    with closing(Catalogue(journals, recipe.roles, every)) as catalogue:
        return write(recipe, args, catalogue)


def inspect_clips(
    recipe: Recipe, args: argparse.Namespace, limits: Limits, journal: Journal
) -> None:
    """Complete this machine's journal."""
    count, corpus = 0, blake2b(digest_size=16)

    def own_clips() -> Iterator[Numbered]:
        nonlocal count
        for place, candidate in enumerate(offered(recipe, args)):
            key = content_key(candidate)
            corpus.update(key.encode())
            # By recording, so that its segments stay together, independently of the mount point.
            recording = candidate.audio.removeprefix(str(args.corpus))
            if zlib.crc32(recording.encode("utf-8", "replace")) % args.nshard == args.rank:
                count += 1
                yield place, candidate, key

    work, lost = partial(_measure_chunk, limits=limits), partial(_after_crash, limits=limits)
    with tqdm(desc=recipe.name, unit=" clips", smoothing=0.05) as bar:
        chunks = _chunks(journal.remaining(own_clips()))
        for chunk, found in parallel_stream(work, chunks, args.jobs, lost):
            journal.write(chunk, found)
            bar.update(len(found))
    journal.finish(count, corpus.hexdigest())
    if journal.changed:
        print(f"{journal.changed} clips had changed and were inspected again", file=sys.stderr)


def offered(recipe: Recipe, args: argparse.Namespace) -> Iterator[Candidate]:
    """The corpus's candidates, with absolute paths and checked split names.

    Raises:
        InputError: one of its lists or texts cannot be read.
    """
    cwd, last, keep_silent = os.getcwd(), "", getattr(args, "keep_silent", False)
    try:
        for candidate in recipe.candidates(args):
            known = {"split": checked_split(candidate.split)}
            if not candidate.fault:  # otherwise a path may not be that of a file
                known |= {name: _absolute(cwd, getattr(candidate, name)) for name in PATHS}
            if keep_silent and candidate.text is None:
                known["audio_optional"] = True
            yield replace(candidate, **known)
            last = candidate.id
    except (UnicodeError, csv.Error, EOFError, zlib.error) as error:
        where = f"after the clip {last}" if last else "at its beginning"
        raise InputError(
            f"a list or text file of {args.corpus} cannot be read, {where} ({error}); it must be a "
            "complete UTF-8 file"
        ) from None


def _absolute(folder: str, path: str) -> str:
    return path and os.path.join(folder, path)


def _settings(recipe: Recipe, args: argparse.Namespace, limits: Limits) -> dict:
    own = {name: value for name, value in vars(args).items() if name not in SHARED}
    settings = {"format": FORMAT, "recipe": recipe.name, **asdict(limits), **own}
    # In the form that the journal returns: paths as text, tuples as lists.
    return json.loads(json.dumps(settings, default=str))


def _measure_chunk(chunk: list[Numbered], limits: Limits) -> list[Measured]:
    return measure_all([candidate for _, candidate, _ in chunk], limits)


def _after_crash(chunk: list[Numbered], limits: Limits) -> list[Measured]:
    """Results of a chunk that kills its process: clip by clip, leaving out the one that does it."""
    if len(chunk) == 1:
        detail, stamp = "it crashes the process that reads it", stamp_of(chunk[0][1])
        return [Measured(reason=UNREADABLE, detail=detail, stamp=stamp)]
    work, lost = partial(_measure_chunk, limits=limits), partial(_after_crash, limits=limits)
    return [found for clip in chunk for found in run_alone(work, [clip], lost)]


def _chunks(candidates: Iterable[Numbered]) -> Iterator[list[Numbered]]:
    """Tasks for workers; segments of a recording go to the same worker, which inspects it once."""
    chunk: list[Numbered] = []
    for numbered in candidates:
        same = chunk and chunk[-1][1].audio == numbered[1].audio
        if len(chunk) >= (SAME_RECORDING if same else CHUNK):
            yield chunk
            chunk = []
        chunk.append(numbered)
    if chunk:
        yield chunk


def _discard_journals(args: argparse.Namespace, journal: Path) -> None:
    """Remove this machine's journal, and those of runs with another ``--nshard``."""
    for path in (journal, *(path for path, _ in _other_journals(args))):
        path.unlink(missing_ok=True)


def _other_journals(args: argparse.Namespace) -> Iterator[tuple[Path, str]]:
    for path in (args.out / FOLDER).glob("*-of-*.jsonl"):
        shards = path.stem.split("-of-")[1]
        if shards != str(args.nshard):
            yield path, shards


def _check_other_shards(args: argparse.Namespace, journals: list[Path], settings: dict) -> None:
    """Stop before work is done that could not be merged with that of other machines."""
    others = sorted({shards for _, shards in _other_journals(args)})
    if others:
        raise InputError(
            f"{args.out} was started with --nshard {' and '.join(others)}; use the same --rank and "
            "--nshard, or --restart to discard the earlier results"
        )
    for rank, path in enumerate(journals):
        if rank == args.rank or args.restart or not path.is_file():
            continue
        stored = read_settings(path)
        if stored:
            remedy = f"use the same, or --restart for every rank, also --rank {rank}"
            compare_settings(path, stored, settings, remedy)


def main(recipe: Recipe, arguments: list[str] | None = None) -> None:
    """The command line of a recipe."""
    args = parse(recipe, arguments)
    with command_line("interrupted; the same command resumes here"):
        summary = prepare(recipe, args)
    if summary is not None:
        report(summary, args, recipe.roles)
