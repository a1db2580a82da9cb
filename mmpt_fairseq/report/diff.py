"""Which words of an utterance were recognised, by jiwer's alignment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmpt_fairseq.report.intervals import count
from mmpt_fairseq.scoring import normalise_text


@dataclass(frozen=True)
class Pair:
    """A word of the reference and what became of it.

    Attributes:
        kind: ``equal``, ``substitute``, ``delete`` (no hypothesis) or ``insert`` (no reference).
    """

    kind: str
    reference: str = ""
    hypothesis: str = ""

    @property
    def text(self) -> str:
        """Readable without colour."""
        return {
            "equal": self.reference,
            "substitute": f"[{self.reference} → {self.hypothesis}]",
            "delete": f"[− {self.reference}]",
            "insert": f"[+ {self.hypothesis}]",
        }[self.kind]


def align(reference: str, hypothesis: str) -> list[Pair]:
    """Words of both sides, paired in order."""
    import jiwer

    output = jiwer.process_words(normalise_text(reference), normalise_text(hypothesis))
    said, heard = output.references[0], output.hypotheses[0]
    pairs = []
    for chunk in output.alignments[0]:
        ours = said[chunk.ref_start_idx : chunk.ref_end_idx]
        theirs = heard[chunk.hyp_start_idx : chunk.hyp_end_idx]
        for i in range(max(len(ours), len(theirs))):
            pair = (ours[i] if i < len(ours) else "", theirs[i] if i < len(theirs) else "")
            pairs.append(Pair(chunk.type, *pair))
    return pairs


def error_shares(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """``(N, 2)``: word edits of each utterance, and those as a share of its reference's words."""
    edits, words = count(references, hypotheses, "word").statistics.T
    return np.stack([edits, edits / words], axis=1)


def worst(references: Sequence[str], hypotheses: Sequence[str], number: int) -> list[int]:
    """Rows with the most word edits; among equals the higher error rate, then the earlier row."""
    edits, shares = error_shares(references, hypotheses).T
    order = sorted(range(len(references)), key=lambda row: (-edits[row], -shares[row], row))
    return [row for row in order[:number] if edits[row]]
