"""Score a decoded split.

    python -m mmpt_fairseq.report.scores MANIFEST GENERATE-OUTPUT [--metric wer|bleu]

References are read from the manifest, because fairseq's ``T-`` lines lose characters outside the
vocabulary.
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

from manifests.errors import InputError, command_line
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.scoring import bleu, error_rates, normalise_text


def read_hypotheses(output: str | Path, rows: int) -> list[str]:
    """Best hypothesis of every row from ``fairseq-generate``'s output, in row order.

    Raises:
        InputError: there is not exactly one per row, or the file is damaged.
    """
    output = Path(output)
    found: dict[int, str] = {}
    # Not splitlines, which also splits at characters such as U+2028 that a text may contain. What
    # follows the last line end is a truncated line.
    for line in _read(output).split("\n")[:-1]:
        match = re.match(r"D-(\d+)\t[^\t]*\t(.*)$", line)
        if match and int(match[1]) not in found:  # n-best lists are sorted, best first
            found[int(match[1])] = match[2]
    if sorted(found) != list(range(rows)):
        raise InputError(
            f"{output} has hypotheses for {len(found)} of {rows} rows; decode the split again"
        )
    return [found[row] for row in range(rows)]


def _read(output: Path) -> str:
    try:
        return output.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no output of fairseq-generate at {output}") from None
    except OSError as error:
        raise InputError(
            f"{output} cannot be read ({error.strerror}); give the file generate-SPLIT.txt in the "
            "--results-path folder"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{output} is damaged: byte {error.start} is not valid UTF-8; decode the split again"
        ) from None


def score(manifest: str | Path, output: str | Path, metric: str) -> dict[str, float | str]:
    """Score ``fairseq-generate``'s output against a manifest; ``metric`` is ``wer`` or ``bleu``."""
    rows = Manifest(manifest, needs=["tgt_text"])
    hypotheses = read_hypotheses(output, len(rows))
    references = list(rows.column("tgt_text"))
    check_same_rows(references, Path(output), manifest)
    if metric == "bleu":
        return bleu(references, hypotheses)
    return error_rates(references, hypotheses)


def check_same_rows(references: Sequence[str], output: Path, manifest: str | Path) -> None:
    """Raise InputError if fairseq's ``T-`` lines do not match the references in most rows."""
    recorded = [
        (normalise_text(text), normalise_text(references[int(row)]))
        for row, text in re.findall(r"^T-(\d+)\t(.*)$", _read(output), re.MULTILINE)
        if "unk>" not in text  # has characters outside the vocabulary
    ]
    equal = sum(ours == theirs for ours, theirs in recorded)
    if 2 * equal < len(recorded):
        raise InputError(
            f"{output} was decoded from another manifest, not from {manifest}: only {equal} of "
            f"{len(recorded)} texts are those of its rows"
        )


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; print the scores as one line of JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m mmpt_fairseq.report.scores", description=__doc__.splitlines()[0]
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("output", type=Path, help="fairseq-generate's output, generate-SPLIT.txt")
    parser.add_argument("--metric", choices=["wer", "bleu"], default="wer")
    args = parser.parse_args(arguments)
    with command_line():
        print(json.dumps(score(args.manifest, args.output, args.metric)))


if __name__ == "__main__":
    main()
