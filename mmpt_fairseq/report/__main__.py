"""The command line of the report: ``mmpt-report RUN...`` and ``mmpt-report CHECKPOINT FILE...``."""

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
from mmpt_fairseq.report.page import files_folder, write


def report(runs: list[Path], out: Path | None = None) -> Path:
    """Write the page of all trainings and decodes under ``runs``; returns where it is.

    Args:
        runs: folders, searched through.
        out: the HTML file, by default ``report.html`` in the deepest folder that all are in; the
            Markdown page and its files lie beside it.

    Raises:
        InputError: there is nothing to report, or results that cannot share a table.
    """
    check_out(out)
    out = out or common_folder(runs) / "report.html"
    return write(collect(runs, str(files_folder(out))), out)[0]


def report_files(
    checkpoint: Path, paths: list[Path], out: Path | None = None, language: str | None = None
) -> tuple[Path, FilesPage]:
    """Write the page of what a checkpoint makes of files; returns where it is, and its content.

    Args:
        out: the HTML file, by default beside the checkpoint and named like it.
        language: of the text, for a model that writes several.

    Raises:
        InputError: the checkpoint draws nothing, or no file can be used.
    """
    check_out(out)
    if not paths:
        raise InputError(
            f"mmpt-report {checkpoint} needs a file of sound or pictures after the checkpoint; "
            "to report on its training, give the folder"
        )
    page = collect_files(checkpoint, paths, language)
    return write(page, out or checkpoint.with_suffix(".html"))[0], page


def check_out(out: Path | None) -> None:
    """Raise InputError unless it can be an HTML page."""
    if out is not None and out.suffix not in (".html", ".htm"):
        raise InputError(f"--out {out} does not end in .html; the Markdown page gets .md by itself")


def is_checkpoint(path: Path) -> bool:
    """Whether the first argument is one and not a RUN."""
    return path.is_file() or (path.suffix == ".pt" and not path.is_dir())


def main(arguments: list[str] | None = None) -> None:
    """The command line; prints where the page is."""
    parser = argparse.ArgumentParser(
        prog="mmpt-report",
        usage="%(prog)s [-h] [--out OUT] [--user-dir DIR] RUN...\n"
        "       %(prog)s [-h] [--out OUT] [--user-dir DIR] [--language L] CHECKPOINT FILE...",
        description="Write one HTML page, and the same in Markdown: about trainings and decodes, "
        "or about what a checkpoint makes of files. Of stage 1: spectrogram and frames as input, "
        "masked and reconstructed; of stages 2 and 3: the text, aligned with the sound.",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="RUN | CHECKPOINT FILE",
        help="folders, of which every training and every decode is taken; or a checkpoint and "
        "then files: wav, flac, ogg, mp3, mp4, mpg ...",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="default: report.html in the deepest folder that all RUNs share; beside CHECKPOINT",
    )
    parser.add_argument(
        "--language", metavar="L", help="of the text, where CHECKPOINT writes several"
    )
    add_user_dir(parser)
    args = parser.parse_args(arguments)
    # Loading models for the pictures logs and warns like a training would.
    logging.basicConfig(level=logging.ERROR, force=True)
    warnings.simplefilter("ignore")
    with command_line():
        import_user_dir(args)
        if not is_checkpoint(args.paths[0]):
            if args.language:
                raise InputError("--language is for a CHECKPOINT and its files; leave it out")
            print(report(args.paths, args.out))
            return
        out, page = report_files(args.paths[0], args.paths[1:], args.out, args.language)
    print(out)
    for fault in page.faults:
        print(f"mmpt-report: {fault}", file=sys.stderr)
    if page.faults:
        raise SystemExit(f"mmpt-report: {len(page.faults)} of {page.files} files failed")


if __name__ == "__main__":
    main()
