"""How well confidences tell good transcripts from bad, to choose ``--min-confidence``.

    mmpt-transcribe CHECKPOINT CLIP... --format tsv > found.tsv
    python -m mmpt_fairseq.report.confidence data/asr/valid.tsv found.tsv

prints the error rates of the clips in quarters by confidence, the least confident first.
"""

import argparse
from itertools import pairwise
from pathlib import Path

from manifests.errors import InputError, command_line
from manifests.tables import confidence_of, read_table
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.waveform import split_slice
from mmpt_fairseq.scoring import error_rates

QUARTERS = 4


def quarters(manifest: str | Path, table: str | Path) -> list[tuple[float, float, dict]]:
    """Lowest and highest confidence and error rates of each quarter of the transcribed clips.

    Raises:
        InputError: a clip has no row in the manifest or several in either, which must be of whole
            files; or there are too few.
    """
    references = _references(Manifest(manifest, needs=["tgt_text"]))
    found: dict[str, tuple[float, str, str]] = {}
    for row in read_table(Path(table)):
        path, confidence = str(Path(row.get("file", "")).resolve()), confidence_of(row, Path(table))
        if path not in references or path in found or confidence is None:
            raise InputError(
                f"{table}: {row.get('file')} needs one row, with a confidence, and one in "
                f"{manifest}; transcribe clips of that manifest, of up to 20 s"
            )
        found[path] = (confidence, references[path], row.get("text", ""))
    clips = sorted(found.values())
    if len(clips) < QUARTERS:
        raise InputError(f"{table} has {len(clips)} clips, too few for {QUARTERS} quarters")
    bounds = [len(clips) * i // QUARTERS for i in range(QUARTERS + 1)]
    parts = [clips[first:last] for first, last in pairwise(bounds)]
    return [
        (part[0][0], part[-1][0], error_rates([text for _, text, _ in part], [h for *_, h in part]))
        for part in parts
    ]


def _references(rows: Manifest) -> dict[str, str]:
    """File -> text, for the clips that are whole files; others cannot be told apart."""
    texts: dict[str, str] = {}
    for index, text in enumerate(rows.column("tgt_text")):
        source = rows.resolve("recording", index) or rows.resolve("audio", index)
        path = str(Path(split_slice(source)[0]).resolve())
        if path in texts:
            raise InputError(f"{rows.path}: several rows are parts of {path}; use whole files")
        texts[path] = text
    return texts


def main(arguments: list[str] | None = None) -> None:
    """Run the command; print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m mmpt_fairseq.report.confidence", description=__doc__.splitlines()[0]
    )
    parser.add_argument("manifest", type=Path, help="manifest of the clips, with texts")
    parser.add_argument("table", type=Path, help="their transcripts by mmpt-transcribe, as tsv")
    args = parser.parse_args(arguments)
    with command_line():
        print("confidence     WER %  CER %")
        for low, high, rates in quarters(args.manifest, args.table):
            print(f"{low:.3f}-{high:.3f} {rates['wer']:7.1f}{rates['cer']:7.1f}")


if __name__ == "__main__":
    main()
