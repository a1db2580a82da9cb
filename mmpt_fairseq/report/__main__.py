"""The command line of the report: ``mmpt-report RUN... [--out report.html]``."""

import argparse
import logging
import warnings
from pathlib import Path

from mmpt_fairseq.errors import InputError, exit_on_input_error
from mmpt_fairseq.report.content import collect
from mmpt_fairseq.report.discovery import common_folder
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
    if out is not None and out.suffix not in (".html", ".htm"):
        raise InputError(f"--out {out} does not end in .html; the Markdown page gets .md by itself")
    out = out or common_folder(runs) / "report.html"
    return write(collect(runs, str(files_folder(out))), out)[0]


def main(arguments: list[str] | None = None) -> None:
    """The command line; prints where the page is."""
    parser = argparse.ArgumentParser(
        prog="mmpt-report",
        description="Write one HTML page, and the same in Markdown, about trainings and decodes.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="a folder; every training and every decode under it is taken",
    )
    parser.add_argument(
        "--out", type=Path, help="default: report.html in the deepest folder that all RUNs share"
    )
    args = parser.parse_args(arguments)
    # Loading models for the pictures logs and warns like a training would.
    logging.basicConfig(level=logging.ERROR, force=True)
    warnings.simplefilter("ignore")
    with exit_on_input_error():
        print(report(args.runs, args.out))


if __name__ == "__main__":
    main()
