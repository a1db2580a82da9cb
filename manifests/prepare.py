"""From a corpus's candidates to manifests: the command that every recipe shares.

A recipe says what clips its corpus offers (:class:`Recipe`); the rest happens here: every file
looked at in parallel, journals from which a killed run goes on, duplicates, leaks, the manifests,
``skipped.tsv`` and the summary.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from zlib import crc32

from tqdm import tqdm

from manifests.candidate import UNREADABLE, Candidate, Limits, Measured
from manifests.catalogue import LEAKS, Catalogue, checked_split
from manifests.common import CorpusError, atomic_path, parallel_stream, remove_stale, run_alone
from manifests.inspection import inspect, measure_all
from manifests.journal import FOLDER, Journal, is_whole, journal_path

CHUNK = 32  # clips that a worker gets at a time
SAME_RECORDING = 512  # at most, where they are segments of one recording
TOO_MANY = 0.05  # share of clips left out that calls for a loud warning
FORMAT = 1  # raised when older journals no longer hold

Numbered = tuple[int, Candidate]


@dataclass(frozen=True)
class Recipe:
    """A corpus.

    Attributes:
        name: of the module.
        description: what its release looks like.
        candidates: (parsed options) -> clips, sorted, lazily; raises CorpusError where the folder
            is not such a corpus.
        add_options: further options of the command.
        roles: what splits are for where their names do not tell.
        allowed: leaks that the official release is known to have; counted, not refused.
        longest: seconds of the longest clip with a text that is kept by default.
        corpus: what the first argument is called in the help.
    """

    name: str
    description: str
    candidates: Callable[[argparse.Namespace], Iterable[Candidate]]
    add_options: Callable[[argparse.ArgumentParser], None] | None = None
    roles: dict[str, str] = field(default_factory=dict)
    allowed: tuple[str, ...] = ()
    longest: float | None = None
    corpus: str = "CORPUS_DIR"


def add_valid_every(parser: argparse.ArgumentParser, default: int, what: str) -> None:
    """The option of recipes whose release has no validation split."""
    parser.add_argument(
        "--valid-every",
        type=int,
        default=default,
        metavar="N",
        help=f"one in N {what} goes to valid (%(default)s; 0: none)",
    )


def parse(recipe: Recipe, arguments: list[str] | None = None) -> argparse.Namespace:
    """The shared options and the recipe's own."""
    parser = argparse.ArgumentParser(
        prog=f"python -m manifests.{recipe.name}",
        description=recipe.description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("corpus", type=Path, metavar=recipe.corpus)
    add("out", type=Path, metavar="OUT_DIR", help="an unfinished one is resumed")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    add("--rank", type=int, default=0, help="this machine's share of the work, from 0")
    add("--nshard", type=int, default=1, help="machines; the last to end writes the manifests")
    add("--decode", action="store_true", help="decode also what a header tells exactly")
    add("--min-seconds", type=float, default=Limits.shortest, help="shortest clip (%(default)s)")
    longest = f"{recipe.longest:g} with a text, else any" if recipe.longest else "any"
    add("--max-seconds", type=float, help=f"longest clip ({longest})")
    add("--allow-leaks", default="", metavar="KINDS", help=f"of {', '.join(LEAKS)}; or all")
    add("--restart", action="store_true", help="forget what an earlier run found")
    if recipe.add_options:
        recipe.add_options(parser)
    args = parser.parse_args(arguments)
    if not 0 <= args.rank < args.nshard:
        parser.error(f"--rank must be from 0 to {args.nshard - 1}")
    if args.jobs < 1:
        parser.error("--jobs must be at least 1")
    unknown = set(_kinds(args)) - set(LEAKS)
    if unknown:
        parser.error(f"--allow-leaks knows {', '.join(LEAKS)} and all, not {', '.join(unknown)}")
    args.corpus, args.out = (Path(os.path.abspath(p)) for p in (args.corpus, args.out))
    return args


def _kinds(args: argparse.Namespace) -> list[str]:
    kinds = [kind for kind in args.allow_leaks.split(",") if kind]
    return list(LEAKS) if kinds == ["all"] else kinds


def prepare(recipe: Recipe, args: argparse.Namespace) -> dict | None:
    """Look at this machine's clips; the last machine writes the manifests.

    Returns:
        The summary, or None where other shards are not done.

    Raises:
        CorpusError: no such corpus, none of its clips is usable, splits leak, or the journal is
            of another corpus.
    """
    if not args.corpus.exists():
        raise CorpusError(f"there is no {args.corpus}; name the folder of the corpus")
    if args.out == args.corpus:
        raise CorpusError(f"{args.out} is the corpus itself; write the manifests elsewhere")
    journals = [journal_path(args.out, rank, args.nshard) for rank in range(args.nshard)]
    if args.restart:
        journals[args.rank].unlink(missing_ok=True)
    remove_stale(args.out)
    _refuse_other_shards(args.out, args.nshard)
    look_at_clips(recipe, args, journals[args.rank])
    missing = [str(rank) for rank, path in enumerate(journals) if not is_whole(path)]
    if missing:
        print(f"--rank {', '.join(missing)} of {args.nshard} not done yet", file=sys.stderr)
        return None
    catalogue = Catalogue(journals, recipe.roles)
    try:
        return _write(recipe, args, catalogue)
    finally:
        catalogue.close()


def look_at_clips(recipe: Recipe, args: argparse.Namespace, path: Path) -> None:
    """Complete this machine's journal."""
    inspect.cache_clear()
    limits = Limits(args.min_seconds, args.max_seconds, recipe.longest, args.decode)
    count = 0

    def mine() -> Iterator[Numbered]:
        nonlocal count
        for place, candidate in enumerate(recipe.candidates(args)):
            # By recording, so that its segments stay together.
            if crc32(candidate.audio.encode("utf-8", "replace")) % args.nshard == args.rank:
                count += 1
                yield place, replace(candidate, split=checked_split(candidate.split))

    bar = tqdm(desc=recipe.name, unit="clip", smoothing=0.05)
    with Journal(path, _settings(recipe, args, limits)) as journal, bar:
        chunks = _chunks(journal.remaining(mine()))
        work = partial(_measure_chunk, limits=limits)
        lost = partial(_killed, limits=limits)
        for chunk, found in parallel_stream(work, chunks, args.jobs, lost):
            places, candidates = (list(part) for part in zip(*chunk, strict=True))
            journal.write(places, candidates, found)
            bar.update(len(found))
        journal.finish(count)


def _settings(recipe: Recipe, args: argparse.Namespace, limits: Limits) -> dict:
    shared = {"out", "jobs", "rank", "restart", "allow_leaks", "min_seconds", "max_seconds"}
    own = {k: v for k, v in vars(args).items() if k not in {*shared, "decode"}}
    settings = {"format": FORMAT, "recipe": recipe.name, **asdict(limits), **own}
    # As they come back from the journal: paths are text, tuples are lists.
    return json.loads(json.dumps(settings, default=str))


def _measure_chunk(chunk: list[Numbered], limits: Limits) -> list[Measured]:
    return measure_all([candidate for _, candidate in chunk], limits)


def _killed(chunk: list[Numbered], limits: Limits) -> list[Measured]:
    """For a chunk that kills its process: clip by clip; the one that does it is left out."""
    if len(chunk) == 1:
        return [Measured(reason=UNREADABLE, detail="it kills the process that reads it")]
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


def _refuse_other_shards(out: Path, shards: int) -> None:
    others = {p.stem.split("-of-")[1] for p in (out / FOLDER).glob("*-of-*.jsonl")} - {str(shards)}
    if others:
        raise CorpusError(
            f"{out} was begun with --nshard {' and '.join(sorted(others))}; say the same, or "
            f"remove {out / FOLDER}"
        )


def _write(recipe: Recipe, args: argparse.Namespace, catalogue: Catalogue) -> dict:
    """Check, then write the manifests, ``skipped.tsv`` and the summary."""
    # Imported here because it brings fairseq, which no worker needs.
    from manifests.summary import Tally, write_summary
    from mmpt_fairseq.data.audio import num_frames
    from mmpt_fairseq.data.manifest import write_manifest

    _write_skipped(args.out / "skipped.tsv", catalogue)
    splits = catalogue.splits()
    if not splits:
        raise CorpusError(_nothing(recipe, args, catalogue.reasons()))
    leaks = _check_leaks(recipe, args, catalogue)
    _remove_earlier(args.out, splits)
    tallies = {}
    for split in splits:
        tally = tallies[split] = Tally(speakers=catalogue.speakers(split))

        def rows(split: str = split, tally: Tally = tally) -> Iterator[dict]:
            for row in catalogue.rows(split):
                row["n_frames"] = num_frames(row.pop("samples"))
                tally.add(row)
                yield row

        write_manifest(args.out / f"{split}.tsv", rows())
    command = f"python -m manifests.{recipe.name} {args.corpus} {args.out}"
    return write_summary(args.out, command, tallies, catalogue.reasons(), leaks)


def _remove_earlier(out: Path, splits: list[str]) -> None:
    """Remove manifests that an earlier run wrote and this one does not, such as a valid.tsv."""
    summary = out / "summary.json"
    written = json.loads(summary.read_text(encoding="utf-8"))["splits"] if summary.is_file() else ()
    for split in set(written) - set(splits):
        (out / f"{split}.tsv").unlink(missing_ok=True)


def _write_skipped(path: Path, catalogue: Catalogue) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("id\tpath\treason\tdetail\n")
        for cells in catalogue.skipped():
            file.write("\t".join(" ".join(cell.split()) for cell in cells) + "\n")


def _nothing(recipe: Recipe, args: argparse.Namespace, reasons: dict[str, int]) -> str:
    if not reasons:
        first = recipe.description.strip().splitlines()[0]
        return f"{args.corpus} holds no clip where this recipe looks for them ({first})"
    told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return f"not one clip of {args.corpus} can be used ({told}); see {args.out / 'skipped.tsv'}"


def _check_leaks(recipe: Recipe, args: argparse.Namespace, catalogue: Catalogue) -> dict:
    """Kind -> count and examples.

    Raises:
        CorpusError: a kind that is not allowed occurs.
    """
    found = {}
    for kind in LEAKS:
        count, shown = catalogue.leaks(kind)
        if not count:
            continue
        found[kind] = {"count": count, "examples": shown}
        if kind not in (*recipe.allowed, *_kinds(args)):
            raise CorpusError(
                f"{count} times splits share a {kind}: {'; '.join(shown)}; mend the splits, or "
                f"accept it with --allow-leaks {kind}"
            )
    return found


def warn_of_skipped(summary: dict, out: Path) -> None:
    """Say what was left out; loudly where it is much."""
    skipped, clips = sum(summary["skipped"].values()), summary["clips"]
    told = ", ".join(f"{count} {reason}" for reason, count in summary["skipped"].items())
    if skipped > TOO_MANY * (skipped + clips):
        line = "!" * 78
        share = f"{skipped} of {skipped + clips} clips ({skipped / (skipped + clips):.0%})"
        print(f"{line}\nWARNING: {share} are LEFT OUT: {told}\n{line}", file=sys.stderr)
    elif skipped:
        print(f"left out: {told}; see {out / 'skipped.tsv'}", file=sys.stderr)


def main(recipe: Recipe, arguments: list[str] | None = None) -> int:
    """The command line of a recipe; returns the exit status."""
    args = parse(recipe, arguments)
    try:
        summary = prepare(recipe, args)
    except (CorpusError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    if summary is not None:
        splits = ", ".join(f"{s} {v['clips']}" for s, v in summary["splits"].items())
        print(f"{args.out}: {summary['clips']} clips ({splits}), {summary['hours']:.2f} hours")
        warn_of_skipped(summary, args.out)
    return 0
