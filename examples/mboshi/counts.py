"""Statistics of Mboshi's texts: HTML entities, unusual tokens, targets too long for CTC."""

import html
import itertools
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mmpt_fairseq.data.manifest import Manifest

RARE = 10  # characters with fewer occurrences in a column are listed
ENTITY = re.compile(r"&#?\w+;")


def count_texts(raw: Iterable[str]) -> dict[str, dict[str, int]]:
    """Count the HTML entities of a raw column, and its tokens and characters after decoding them.

    Tokens without a letter are isolated punctuation and digits. Single letters are words (French
    ``a``, ``à``, ``y``), elided particles (Mboshi ``m``, ``l``, ``s``, ``b``) or remains of a word
    (French ``n``, ``d``, ``t`` without their apostrophe).
    """
    raw = list(raw)
    texts = [html.unescape(text) for text in raw]
    tokens = Counter(token for text in texts for token in text.split())
    characters = Counter(itertools.chain.from_iterable(texts))
    return {
        "entities": _sorted(Counter(e for t in raw for e in ENTITY.findall(t) if _decodes(e))),
        "tokens without a letter": _sorted(_chosen(tokens, lambda t: not _has_letter(t))),
        "single letters": _sorted(_chosen(tokens, lambda t: len(t) == 1 and t.isalpha())),
        "rare characters": _sorted({c: n for c, n in characters.items() if n < RARE}),
    }


def too_long_for_ctc(folder: Path, split: str) -> int:
    """Number of rows that CTC cannot align: more tokens plus repetitions than encoder frames."""
    import sentencepiece

    from mmpt_fairseq.data.audio import subsampled

    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    manifest = Manifest(folder / f"{split}.tsv", needs=["tgt_text"])
    long = 0
    for text, frames in zip(manifest.column("tgt_text"), manifest.n_frames, strict=True):
        tokens = model.encode(text, out_type=str)
        needed = len(tokens) + sum(a == b for a, b in itertools.pairwise(tokens))
        long += needed > subsampled(int(frames))
    return long


def format_counts(counts: dict) -> str:
    """Format the counts as text."""
    lines = []
    for name, rows in counts["rows"].items():
        minutes = counts["minutes"][name]
        long = counts["too long for CTC"].get(name)
        note = "" if long is None else f", {long} with a target too long for CTC"
        lines.append(f"{name:<16} {rows:5d} rows, {minutes:6.1f} min{note}")
    vocabularies = (f"{name} {size}" for name, size in counts["vocabularies"].items())
    lines.append(f"vocabularies (entries): {', '.join(vocabularies)}")
    lines.append(f"rows left out: {counts['left out']} (reasons in skipped.tsv)")
    for column, kinds in counts["texts"].items():
        for kind, found in kinds.items():
            listed = ", ".join(f"{key!r} {n}" for key, n in found.items()) or "none"
            lines.append(f"{column}, {kind}: {listed}")
    return "\n".join(lines)


def _decodes(entity: str) -> bool:
    return html.unescape(entity) != entity


def _has_letter(token: str) -> bool:
    return any(character.isalpha() for character in token)


def _chosen(counter: Counter, wanted) -> dict[str, int]:
    return {key: n for key, n in counter.items() if wanted(key)}


def _sorted(found: dict[str, int]) -> dict[str, int]:
    """Most frequent first."""
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
