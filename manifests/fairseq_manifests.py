"""fairseq manifests of wav2vec 2.0, HuBERT and AV-HuBERT.

    python -m manifests.fairseq_manifests FOLDER OUT

``<split>.tsv``: the first line is the root of the paths, then ``path TAB samples`` (wav2vec,
HuBERT) or ``id TAB video TAB audio TAB frames TAB samples`` (AV-HuBERT). Labels, if any, in
``<split>.wrd`` (words) or ``<split>.ltr`` (``H E L L O |``), one line per row. (fairseq's
speech-to-text manifests need no import: they have the same format as ours.)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from manifests.candidate import BAD_ROW, LONGEST_WITH_TEXT, Candidate
from manifests.errors import InputError
from manifests.prepare import main
from manifests.recipe import Recipe
from manifests.text import clean, read_lines


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lang", default="", help="language that is spoken and written")


def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
    """Rows of every split, in its order."""
    columns = {"src_lang": args.lang, "tgt_lang": args.lang} if args.lang else {}
    for path in sorted(args.corpus.glob("*.tsv")):
        labels = _labels(path)
        lines = read_lines(path)
        root = Path(next(lines, "").strip())
        for number, line in enumerate(lines, 2):
            cells = line.rstrip("\r\n").split("\t")
            text = None
            if labels is not None:
                text = next(labels, None)
                if text is None:
                    raise InputError(f"{path} has more rows than its labels have lines")
            yield _candidate(path, number, root, cells, text, columns)
        if labels is not None and next(labels, None) is not None:
            raise InputError(f"{path} has fewer rows than its labels have lines")


def _candidate(
    path: Path, number: int, root: Path, cells: list[str], text: str | None, columns: dict
) -> Candidate:
    base = {"split": path.stem, "text": text, "columns": columns}
    if len(cells) == 2:
        name = str(Path(cells[0]).with_suffix(""))
        return Candidate(id=name, audio=str(root / cells[0]), source=str(root / cells[0]), **base)
    if len(cells) == 5:
        name, video, audio = cells[:3]
        audio, video = str(root / audio), str(root / video)
        return Candidate(id=name, audio=audio, video=video, source=video, **base)
    detail = f"{len(cells)} cells; wav2vec manifests have 2, AV-HuBERT's 5"
    if number == 2:  # such as a speech-to-text manifest, which has a header
        raise InputError(f"{path}, line 2 has {detail}")
    return Candidate(f"{path.name}, line {number}", path.stem, audio="", fault=(BAD_ROW, detail))


def _labels(path: Path) -> Iterator[str] | None:
    words, letters = path.with_suffix(".wrd"), path.with_suffix(".ltr")
    if words.is_file():
        return _lines(words)
    if letters.is_file():
        return (line.replace(" ", "").replace("|", " ").strip() for line in _lines(letters))
    return None


def _lines(path: Path) -> Iterator[str]:
    return map(clean, read_lines(path))


RECIPE = Recipe(
    name="fairseq_manifests",
    description=__doc__,
    candidates=candidates,
    add_options=add_options,
    longest=LONGEST_WITH_TEXT,
    corpus="FOLDER",
)

if __name__ == "__main__":
    main(RECIPE)
