"""Word-level alignment of reference and hypothesis with jiwer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmpt_fairseq.report.intervals import count
from mmpt_fairseq.scoring import normalise_text


@dataclass(frozen=True)
class Pair:
    """A reference word aligned with a hypothesis word.

    Attributes:
        kind: ``equal``, ``substitute``, ``delete`` (no hypothesis) or ``insert`` (no reference).
    """

    kind: str
    reference: str = ""
    hypothesis: str = ""

    @property
    def text(self) -> str:
        """Plain-text form, readable without colour."""
        return {
            "equal": self.reference,
            "substitute": f"[{self.reference} → {self.hypothesis}]",
            "delete": f"[− {self.reference}]",
            "insert": f"[+ {self.hypothesis}]",
        }[self.kind]


def align(reference: str, hypothesis: str) -> list[Pair]:
    """Align the words of reference and hypothesis, in order."""
    import jiwer

    output = jiwer.process_words(normalise_text(reference), normalise_text(hypothesis))
    reference_words, hypothesis_words = output.references[0], output.hypotheses[0]
    pairs = []
    for chunk in output.alignments[0]:
        ours = reference_words[chunk.ref_start_idx : chunk.ref_end_idx]
        theirs = hypothesis_words[chunk.hyp_start_idx : chunk.hyp_end_idx]
        for i in range(max(len(ours), len(theirs))):
            pair = (ours[i] if i < len(ours) else "", theirs[i] if i < len(theirs) else "")
            pairs.append(Pair(chunk.type, *pair))
    return pairs


def edits_and_rates(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """``(N, 2)``: word edits and word error rate (as a fraction) of each utterance."""
    edits, words = count(references, hypotheses, "word").statistics.T
    return np.stack([edits, edits / words], axis=1)


def worst(references: Sequence[str], hypotheses: Sequence[str], number: int) -> list[int]:
    """Rows with the most word edits; ties: higher error rate first, then row order.

    Rows without an edit are never included.
    """
    edits, rates = edits_and_rates(references, hypotheses).T
    order = sorted(range(len(references)), key=lambda row: (-edits[row], -rates[row], row))
    return [row for row in order[:number] if edits[row]]
