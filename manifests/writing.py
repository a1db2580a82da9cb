"""From all shards' clips to the files in OUT_DIR: manifests, ``skipped.tsv`` and the summary."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from manifests.candidate import BAD_TIMES, MISSING, NO_TIER, PAST_END
from manifests.catalogue import LEAKS, Catalogue
from manifests.common import atomic_path
from manifests.errors import InputError
from manifests.recipe import Recipe, allowed_leaks
from manifests.summary import Tally, write_summary
from manifests.tree import TEXT_SUFFIXES
from mmpt_fairseq.data.audio import num_frames
from mmpt_fairseq.data.manifest import first_row, write_manifest

TEXTS = {*TEXT_SUFFIXES, ".csv", ".tsv", ".json"}  # files that may have a recording's name
LOOKED_AT = 100  # maximum of subfolders searched for the corpus


def write(recipe: Recipe, args: argparse.Namespace, catalogue: Catalogue) -> dict:
    """Check, then write the manifests, ``skipped.tsv`` and the summary.

    Returns:
        The content of ``summary.json``.

    Raises:
        InputError: no clip is usable, or splits leak.
    """
    _write_skipped(args.out / "skipped.tsv", catalogue)
    splits = catalogue.splits()
    if not splits:
        raise InputError(_nothing(recipe, args, catalogue))
    leaks = _check_leaks(recipe, args, catalogue)
    _remove_earlier(args.out, splits)
    tallies, pointed_back = {}, set()
    for split in splits:
        tally = tallies[split] = Tally(speakers=catalogue.speakers(split))

        def rows(split: str = split, tally: Tally = tally) -> Iterator[dict]:
            for row in catalogue.rows(split):
                row["n_frames"] = num_frames(row.pop("samples"))
                tally.add(row)
                yield row

        path = args.out / f"{split}.tsv"
        before = _made_beside(path)
        write_manifest(path, rows())
        pointed_back |= before - _made_beside(path)
    for command in sorted(pointed_back):
        print(
            f"{args.out}: the manifests point to the corpus's own files again; run python -m "
            f"manifests.{command} once more, which recomputes nothing",
            file=sys.stderr,
        )
    left_out = {"skipped": catalogue.reasons(), "files_left_out": catalogue.files(left_out=True)}
    found = {"files": catalogue.files(), **left_out, "leaks": leaks}
    return write_summary(args.out, args.command, tallies, found)


def _made_beside(manifest: Path) -> set[str]:
    """Commands (features, compact_video) to whose archives or copies a manifest points."""
    try:
        row = first_row(manifest)
    except (OSError, UnicodeDecodeError):
        return set()
    video = Path(row.get("video", ""))
    found = {"features"} if ".zip:" in row.get("audio", "") else set()
    # Copies are in folders named after their first characters (compact_video.copy_path).
    return found | ({"compact_video"} if video.stem[:3] == video.parent.name != "" else set())


def _remove_earlier(out: Path, splits: list[str]) -> None:
    """Remove manifests that an earlier run wrote and this one does not, such as a valid.tsv."""
    summary = out / "summary.json"
    written = json.loads(summary.read_text(encoding="utf-8"))["splits"] if summary.is_file() else ()
    for path in sorted(out / f"{split}.tsv" for split in set(written) - set(splits)):
        if path.is_file():
            path.unlink()
            print(f"removed {path}, which an earlier run wrote", file=sys.stderr)


def _write_skipped(path: Path, catalogue: Catalogue) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("id\tsplit\tpath\treason\tdetail\n")
        for cells in catalogue.skipped():
            file.write("\t".join(" ".join(cell.split()) for cell in cells) + "\n")


def _nothing(recipe: Recipe, args: argparse.Namespace, catalogue: Catalogue) -> str:
    reasons = catalogue.reasons()
    if not reasons:
        found = _nearby(recipe, args) if recipe.corpus == Recipe.corpus else None
        if found:
            return f"{recipe.name} found no clip in {args.corpus}; give {found}, which has some"
        return (
            f"{recipe.name} found no clip in {args.corpus}; it expects: {_layout(recipe)}. See "
            f"python -m manifests.{recipe.name} -h"
        )
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    hint = _elsewhere(recipe, args) if list(reasons) == [MISSING] else ""
    timed = reasons.keys() & {BAD_TIMES, PAST_END} and getattr(args, "csv", None)
    hint += "; times must be in seconds" if timed else ""
    details = (cells[-1] for cells in catalogue.skipped() if cells[-2] == NO_TIER)
    hint += "".join(f"; {detail}" for detail in islice(details, 1))
    skipped = args.out / "skipped.tsv"
    return f"not one clip of {args.corpus} can be used ({counts}{hint}); see {skipped}"


def _elsewhere(recipe: Recipe, args: argparse.Namespace) -> str:
    """Where in the corpus a file with the first clip's name is, perhaps with another suffix."""
    clip = next(iter(recipe.candidates(args)))
    wanted = next((Path(p) for p in (clip.audio, clip.video) if p and not Path(p).exists()), None)
    if wanted is None:
        return ""
    within = (Path(parent, name) for parent, _, files in os.walk(args.corpus) for name in files)
    alike = (path for path in within if path.stem == wanted.stem)
    found = next((path for path in alike if path.suffix.lower() not in TEXTS), None)
    return f": there is no {wanted}, but {found}" if found else f": there is no {wanted}"


def _layout(recipe: Recipe) -> str:
    """The release's layout, if the description's third paragraph begins with it; else its title."""
    paragraphs = [" ".join(part.split()) for part in recipe.description.strip().split("\n\n")]
    layout = next((part for part in paragraphs[2:3] if part.startswith("``")), paragraphs[0])
    return re.split(r"; |\. |\.$", layout)[0]


def _nearby(recipe: Recipe, args: argparse.Namespace) -> Path | None:
    """A folder just above or below that holds such a corpus."""
    below = args.corpus.iterdir() if args.corpus.is_dir() else ()
    folders = sorted(path for path in below if path.is_dir())[:LOOKED_AT]
    above = args.corpus.parent
    for folder in (*folders, *([] if above == above.parent else [above])):
        with contextlib.suppress(InputError, OSError, ValueError):
            options = argparse.Namespace(**{**vars(args), "corpus": folder})
            if any(True for _ in recipe.candidates(options)):
                return folder
    return None


def _check_leaks(recipe: Recipe, args: argparse.Namespace, catalogue: Catalogue) -> dict:
    """Check the splits; returns kind -> count and examples.

    Raises:
        InputError: a kind that is not allowed occurs, other than through clips held out here.
    """
    found = {}
    for kind in LEAKS:
        count, shown = catalogue.leaks(kind)
        if not count:
            continue
        found[kind] = {"count": count, "examples": shown}
        if kind in (*recipe.allowed, *allowed_leaks(args)):
            continue
        count, shown = catalogue.leaks(kind, drawn=False)
        if count:
            raise InputError(
                f"splits share a {kind} ({count} in all): {'; '.join(shown)}; fix the splits, or "
                f"accept it with --allow-leaks {kind}"
            )
    return found
