"""Command line of the report: ``mmpt-report RUN...`` and ``mmpt-report CHECKPOINT FILE...``."""

import argparse
import logging
import sys
import warnings
from pathlib import Path

from manifests.errors import InputError, command_line
from mmpt_fairseq.extensions import add_user_dir, import_user_dir
from mmpt_fairseq.report.content import collect
from mmpt_fairseq.report.discovery import common_folder
from mmpt_fairseq.report.files import FilesPage, collect_files
from mmpt_fairseq.report.page import files_folder, replaces_report, write


def report(runs: list[Path], out: Path | None = None) -> Path:
    """Write the report on all trainings and decodes under ``runs`` and return its path.

    Args:
        runs: folders, searched recursively.
        out: the HTML file, by default ``report.html`` in the deepest common folder of ``runs``;
            the Markdown version and its files are written next to it.

    Raises:
        InputError: nothing to report, or results that cannot be compared in one table.
    """
    check_out(out)
    out = out or common_folder(runs) / "report.html"
    replaces_report(out)  # before the work
    return write(collect(runs, str(files_folder(out.resolve()))), out)[0]


def report_files(
    checkpoint: Path, paths: list[Path], out: Path | None = None, language: str | None = None
) -> tuple[Path, FilesPage]:
    """Write the report on a checkpoint's output for files; return its path and its content.

    Args:
        out: the HTML file, by default next to the checkpoint and with its name.
        language: target language, for a multilingual model.

    Raises:
        InputError: the checkpoint cannot be visualised, or no file can be used.
    """
    check_out(out)
    if not paths:
        raise InputError(
            f"mmpt-report {checkpoint} needs an audio or video file after the checkpoint; "
            "to report on its training, give the training's folder"
        )
    out = out or checkpoint.with_suffix(".html")
    replaces_report(out)  # before the work
    page = collect_files(checkpoint, paths, language)
    return write(page, out)[0], page


def check_out(out: Path | None) -> None:
    """Raise InputError unless ``out`` is the name of an HTML file."""
    if out is not None and out.suffix not in (".html", ".htm"):
        raise InputError(
            f"--out {out} does not end in .html; the Markdown version is written as .md next to it"
        )


def is_checkpoint(path: Path) -> bool:
    """Whether ``path``, the first argument, is a checkpoint and not a RUN."""
    return path.is_file() or (path.suffix == ".pt" and not path.is_dir())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; print the path of the report."""
    parser = argparse.ArgumentParser(
        prog="mmpt-report",
        usage="%(prog)s [-h] [--out OUT] [--user-dir DIR] RUN...\n"
        "       %(prog)s [-h] [--out OUT] [--user-dir DIR] [--language L] CHECKPOINT FILE...",
        description="Write a report as a single HTML page and as Markdown, either on trainings and "
        "decodes or on a checkpoint's output for given files. Stage 1: spectrogram and video "
        "frames as input, masked and reconstructed; stages 2 and 3: text aligned with the audio.",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="RUN | CHECKPOINT FILE",
        help="folders, searched for trainings and decodes; or a checkpoint followed by audio or "
        "video files: wav, flac, ogg, mp3, mp4, mpg ...",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="HTML file to write (default: report.html in the deepest common folder of the RUNs; "
        "CHECKPOINT with the suffix .html)",
    )
    parser.add_argument(
        "--language", metavar="L", help="target language, if CHECKPOINT is multilingual"
    )
    add_user_dir(parser)
    args = parser.parse_args(arguments)
    # Loading models for the figures logs and warns as in training.
    logging.basicConfig(level=logging.ERROR, force=True)
    warnings.simplefilter("ignore")
    with command_line():
        import_user_dir(args)
        if not is_checkpoint(args.paths[0]):
            if args.language:
                raise InputError("--language applies to CHECKPOINT FILE... only; remove it")
            print(report(args.paths, args.out))
            return
        out, page = report_files(args.paths[0], args.paths[1:], args.out, args.language)
    print(out)
    for error in page.errors:
        print(f"mmpt-report: {error}", file=sys.stderr)
    if page.errors:
        raise SystemExit(f"mmpt-report: {len(page.errors)} of {page.files} files failed")


if __name__ == "__main__":
    main()
