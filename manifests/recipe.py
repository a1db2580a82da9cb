"""The description of a corpus (:class:`Recipe`) and the command-line options all recipes share."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from manifests.candidate import Candidate, Limits
from manifests.catalogue import LEAKS


@dataclass(frozen=True)
class Recipe:
    """A corpus, as the shared command needs it.

    Attributes:
        name: the recipe's module name.
        description: layout of the release; shown in the help.
        candidates: (parsed options) -> clips, sorted and lazy; raises InputError where the folder
            does not hold this corpus.
        add_options: adds the recipe's own options to the parser.
        roles: split -> train, valid or test, for splits whose names do not show their role.
        allowed: kinds of leaks known to be in the official release; counted, not refused.
        longest: default maximum length, in seconds, of a clip with a text.
        corpus: name of the first argument in the help.
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
    """Add the option of recipes whose release has no validation split."""
    parser.add_argument(
        "--valid-every",
        type=int,
        default=default,
        metavar="N",
        help=f"one in N {what} goes to valid (%(default)s; 0: none)",
    )


def add_keep_silent(parser: argparse.ArgumentParser) -> None:
    """Add the option of video recipes for stage 1, where some videos may have no audio."""
    parser.add_argument(
        "--keep-silent",
        action="store_true",
        help="keep videos without audio if there are no texts: MAE learns from their frames",
    )


def parse(recipe: Recipe, arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the shared options and the recipe's own."""
    parser = argparse.ArgumentParser(
        prog=f"python -m manifests.{recipe.name}",
        description=recipe.description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("corpus", type=Path, metavar=recipe.corpus)
    add("out", type=Path, metavar="OUT_DIR", help="output folder; an unfinished run is resumed")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="worker processes (%(default)s)")
    add("--rank", type=int, default=0, help="index of this machine, from 0")
    add("--nshard", type=int, default=1, help="machines; the last to finish writes the manifests")
    add("--decode", action="store_true", help="decode files even if their header is exact")
    add("--min-seconds", type=float, default=Limits.shortest, help="shortest clip (%(default)s)")
    longest = f"{recipe.longest:g} with a text, else any" if recipe.longest else "any"
    add("--max-seconds", type=float, help=f"longest clip ({longest})")
    add("--allow-leaks", default="", metavar="KINDS", help=f"any of {', '.join(LEAKS)}; or all")
    add("--restart", action="store_true", help="discard the results of an earlier run")
    if recipe.add_options:
        recipe.add_options(parser)
    args = parser.parse_args(arguments)
    if not 0 <= args.rank < args.nshard:
        parser.error(f"--rank must be from 0 to {args.nshard - 1}")
    if args.jobs < 1:
        parser.error("--jobs must be at least 1")
    unknown = set(allowed_leaks(args)) - set(LEAKS)
    if unknown:
        parser.error(f"--allow-leaks takes {', '.join(LEAKS)} or all, not {', '.join(unknown)}")
    args.corpus, args.out = (Path(os.path.abspath(p)) for p in (args.corpus, args.out))
    typed = sys.argv[1:] if arguments is None else arguments
    args.command = shlex.join(["python", "-m", f"manifests.{recipe.name}", *typed])
    return args


def allowed_leaks(args: argparse.Namespace) -> list[str]:
    """The kinds of leaks that the user accepts."""
    kinds = [kind for kind in args.allow_leaks.split(",") if kind]
    return list(LEAKS) if kinds == ["all"] else kinds
