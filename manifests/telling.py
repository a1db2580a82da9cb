"""What a finished command says in the terminal: the result, and what its user should know."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from manifests.candidate import NO_AUDIO
from manifests.splits import is_usual, role_of
from manifests.tables import NAMES

TOO_MANY = 0.05  # share of clips left out that calls for a loud warning


def tell(summary: dict, args: argparse.Namespace, roles: Mapping[str, str]) -> None:
    """The result on stdout, the rest on stderr.

    Args:
        summary: what ``summary.json`` holds.
        args: the command's options.
        roles: what splits are for where their names do not tell.
    """
    splits = ", ".join(f"{s} {v['clips']}" for s, v in summary["splits"].items())
    silent = sum(v["without_sound"] for v in summary["splits"].values())
    hours = f"{summary['hours']:.4g} hours" + (f", {silent} without sound" if silent else "")
    print(f"{args.out}: {summary['clips']} clips ({splits}), {hours}")
    _warn_of_skipped(summary, args.out)
    _tell_of_texts(summary, args)
    _tell_of_silent(summary, args)
    _tell_leaks(summary["leaks"], args.out)
    if getattr(args, "csv", None):
        _tell_of_other_splits(summary["splits"])
    _warn_of_one_split(summary, args, roles)
    if getattr(args, "valid_every", 0):
        _warn_of_pictures(summary["splits"], roles)


def _warn_of_skipped(summary: dict, out: Path) -> None:
    """Say what was left out; loudly where it is much."""
    skipped, clips = sum(summary["skipped"].values()), summary["clips"]
    told = ", ".join(f"{count} {reason}" for reason, count in summary["skipped"].items())
    if skipped > TOO_MANY * (skipped + clips):
        line = "!" * 78
        share = f"{skipped} of {skipped + clips} clips ({skipped / (skipped + clips):.0%})"
        share += f", of {summary['files_left_out']} of {summary['files']} files,"
        print(f"{line}\nWARNING: {share} are LEFT OUT: {told}\n{line}", file=sys.stderr)
    elif skipped:
        print(f"left out: {told}; see {out / 'skipped.tsv'}", file=sys.stderr)


def _tell_of_texts(summary: dict, args: argparse.Namespace) -> None:
    """Where texts could have been found, that there are none."""
    texts = any(split["words"] for split in summary["splits"].values())
    if summary["clips"] and not texts and not getattr(args, "without_texts", True):
        sentence = "no clip has a text: stage 1 can learn from these, no other"
        if args.csv:
            sentence += f"; a column of them in {args.csv} is called {', '.join(NAMES['text'])}"
        print(sentence, file=sys.stderr)


def _tell_of_silent(summary: dict, args: argparse.Namespace) -> None:
    """How clips without sound are kept, where that can be."""
    silent = summary["skipped"].get(NO_AUDIO, 0)
    texts = any(split["words"] for split in summary["splits"].values())
    if silent and not texts and not getattr(args, "keep_silent", True):
        print(
            f"{silent} without sound: --keep-silent, with --restart, keeps their pictures for MAE",
            file=sys.stderr,
        )


def _tell_leaks(leaks: dict, out: Path) -> None:
    """What splits share where that is accepted."""
    if leaks:
        told = ", ".join(f"{found['count']} {kind}(s)" for kind, found in leaks.items())
        print(
            f"splits share {told}, which is accepted; see {out / 'summary.json'}", file=sys.stderr
        )


def _tell_of_other_splits(splits: Mapping[str, dict]) -> None:
    """Names that no training takes by itself: one may be misspelt."""
    for split in (name for name in splits if not is_usual(name)):
        print(
            f"{splits[split]['clips']} clips are of the split {split}, which is none of train, "
            f"valid and test: only dataset.train_subset={split} or the like reads them",
            file=sys.stderr,
        )


def _warn_of_pictures(splits: Mapping[str, dict], roles: Mapping[str, str]) -> None:
    """A validation on pictures says nothing of a training that sees none."""
    with_video: dict[str, int] = {}
    for name, split in splits.items():
        role = roles.get(name) or role_of(name)
        with_video[role] = with_video.get(role, 0) + split["with_video"]
    if with_video.get("valid") and with_video.get("train") == 0:
        print(
            f"WARNING: all clips with pictures outside test went to valid ({with_video['valid']}); "
            "say another --valid-every and --restart, or put them into a folder train",
            file=sys.stderr,
        )


def _warn_of_one_split(summary: dict, args: argparse.Namespace, roles: Mapping[str, str]) -> None:
    """Training wants two splits, and a recipe that parts a corpus could not; and by which names."""
    has = {roles.get(s) or role_of(s): s for s in summary["splits"]}
    missing = {"train", "valid"} - has.keys() if getattr(args, "valid_every", 0) else set()
    if "valid" in has and "valid" not in summary["splits"] and "valid_every" in args:
        print(
            f"{has['valid']} is what trainings are to be validated on: they take valid unless told "
            f"dataset.valid_subset={has['valid']}",
            file=sys.stderr,
        )
    if len(missing) == 1:
        print(
            f"WARNING: there is no {missing.pop()}.tsv, which training wants: too little can be "
            "used to be parted, or what was drawn for it cannot (see skipped.tsv); say another "
            "--valid-every and --restart, add recordings, or tell the splits yourself",
            file=sys.stderr,
        )
