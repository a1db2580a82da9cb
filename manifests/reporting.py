"""What a finished command reports in the terminal: its result, and what the user should know."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from manifests.candidate import NO_AUDIO, NO_TIER
from manifests.splits import is_usual, role_of
from manifests.tables import NAMES

TOO_MANY = 0.05  # fraction of clips left out that calls for a loud warning


def report(summary: dict, args: argparse.Namespace, roles: Mapping[str, str]) -> None:
    """Print the result on stdout and everything else on stderr.

    Args:
        summary: the content of ``summary.json``.
        args: the command's options.
        roles: split -> role, for splits whose names do not show it.
    """
    splits = ", ".join(f"{s} {v['clips']}" for s, v in summary["splits"].items())
    silent = sum(v["without_sound"] for v in summary["splits"].values())
    hours = f"{summary['hours']:.4g} hours" + (f", {silent} without audio" if silent else "")
    print(f"{args.out}: {summary['clips']} clips ({splits}), {hours}")
    _warn_of_skipped(summary, args.out)
    _report_missing_texts(summary, args)
    _report_silent(summary, args)
    _report_leaks(summary["leaks"], args.out)
    if getattr(args, "csv", None):
        _report_unusual_splits(summary["splits"])
    _warn_of_missing_split(summary, args, roles)
    if getattr(args, "valid_every", 0):
        _warn_of_video_in_valid_only(summary["splits"], roles)


def _warn_of_skipped(summary: dict, out: Path) -> None:
    """Report what was left out, with a loud warning if it is a large fraction."""
    skipped, clips = sum(summary["skipped"].values()), summary["clips"]
    counts = ", ".join(f"{reason}: {count}" for reason, count in summary["skipped"].items())
    where = out / "skipped.tsv"
    # Without its tier a whole recording is lost, which counts as one clip.
    if skipped > TOO_MANY * (skipped + clips) or NO_TIER in summary["skipped"]:
        line = "!" * 78
        left_out = f"{skipped} of {skipped + clips} clips ({skipped / (skipped + clips):.0%})"
        left_out += f", from {summary['files_left_out']} of {summary['files']} files,"
        warning = f"WARNING: {left_out} are LEFT OUT ({counts}); see {where}"
        print(f"{line}\n{warning}\n{line}", file=sys.stderr)
    elif skipped:
        print(f"left out: {counts}; see {where}", file=sys.stderr)


def _report_missing_texts(summary: dict, args: argparse.Namespace) -> None:
    """Report that no clip has a text, where texts could have been found."""
    texts = any(split["words"] for split in summary["splits"].values())
    wanted = hasattr(args, "text_column") and not getattr(args, "without_texts", False)
    if summary["clips"] and not texts and wanted:
        message = "no clip has a text: only stage 1 can train on these clips"
        if tables := getattr(args, "csv", ["a table"]):
            message += (
                f"; a column of texts in {' or '.join(map(str, tables))} is called "
                + ", ".join(NAMES["text"])
            )
        print(message, file=sys.stderr)


def _report_silent(summary: dict, args: argparse.Namespace) -> None:
    """Report how clips without audio can be kept."""
    silent = summary["skipped"].get(NO_AUDIO, 0)
    texts = any(split["words"] for split in summary["splits"].values())
    if silent and not texts and not getattr(args, "keep_silent", True):
        print(
            f"{silent} without audio: --keep-silent with --restart keeps their frames for MAE",
            file=sys.stderr,
        )


def _report_leaks(leaks: dict, out: Path) -> None:
    """Report what splits share where that is accepted."""
    names = {"speaker": "speakers", "source": "recordings (other parts)", "sentence": "sentences"}
    if leaks:
        counts = " and ".join(f"{found['count']} {names[kind]}" for kind, found in leaks.items())
        print(
            f"in more than one split: {counts}; expect somewhat better scores than on new ones "
            f"({out / 'summary.json'})",
            file=sys.stderr,
        )


def _report_unusual_splits(splits: Mapping[str, dict]) -> None:
    """Report splits that no training reads by default: a name may be misspelt."""
    for split in (name for name in splits if not is_usual(name)):
        print(
            f"{splits[split]['clips']} clips are in the split {split}, which is not train, valid "
            f"or test: only an option such as dataset.train_subset={split} reads it",
            file=sys.stderr,
        )


def _warn_of_video_in_valid_only(splits: Mapping[str, dict], roles: Mapping[str, str]) -> None:
    """Warn that only valid has video: validating on video tells nothing about such a training."""
    with_video: dict[str, int] = {}
    for name, split in splits.items():
        role = roles.get(name) or role_of(name)
        with_video[role] = with_video.get(role, 0) + split["with_video"]
    if with_video.get("valid") and with_video.get("train") == 0:
        print(
            f"WARNING: all clips with video outside test went to valid ({with_video['valid']}); "
            "use another --valid-every with --restart, or move them into a folder called train",
            file=sys.stderr,
        )


def _warn_of_missing_split(
    summary: dict, args: argparse.Namespace, roles: Mapping[str, str]
) -> None:
    """Warn where train or valid is missing, and name a validation split that is not ``valid``."""
    has = {roles.get(s) or role_of(s): s for s in summary["splits"]}
    missing = {"train", "valid"} - has.keys() if getattr(args, "valid_every", 0) else set()
    if "valid" in has and "valid" not in summary["splits"] and "valid_every" in args:
        print(
            f"{has['valid']} is the validation split: training reads valid unless given "
            f"dataset.valid_subset={has['valid']}",
            file=sys.stderr,
        )
    if len(missing) == 1:
        print(
            f"WARNING: there is no {missing.pop()}.tsv, which training needs: there are too few "
            "usable clips to split, or those held out are unusable (see skipped.tsv); use another "
            "--valid-every with --restart, add recordings, or define the splits yourself",
            file=sys.stderr,
        )
