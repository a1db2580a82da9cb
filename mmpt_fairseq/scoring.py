"""Word and character error rate by jiwer, BLEU by sacreBLEU; CER for fairseq's ``--scoring cer``.

Text is normalised the same for references and hypotheses: Unicode NFC, runs of white space made
one space. Case and punctuation count.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from fairseq.dataclass import FairseqDataclass
from fairseq.scoring import BaseScorer, register_scorer

from mmpt_fairseq.errors import InputError


def normalise_text(text: str) -> str:
    """NFC, single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def error_rates(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    """``wer`` and ``cer`` in percent over all words and characters.

    Raises:
        InputError: a reference is empty.
    """
    import jiwer

    references = [normalise_text(r) for r in references]
    hypotheses = [normalise_text(h) for h in hypotheses]
    refuse_empty(references)
    return {
        "wer": 100.0 * jiwer.wer(references, hypotheses),
        "cer": 100.0 * jiwer.cer(references, hypotheses),
    }


def refuse_empty(references: Sequence[str]) -> None:
    """Raise InputError for a normalised reference without a word to count errors by."""
    if not all(references):
        row = references.index("")
        raise InputError(f"reference {row + 1} is empty, so it has no error rate; leave it out")


def bleu(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float | str]:
    """``bleu`` (0 to 100) with sacreBLEU's ``signature``."""
    from sacrebleu.metrics import BLEU

    metric = BLEU()
    score = metric.corpus_score(
        [normalise_text(h) for h in hypotheses], [[normalise_text(r) for r in references]]
    )
    return {"bleu": score.score, "signature": str(metric.get_signature())}


@dataclass
class CerScorerConfig(FairseqDataclass):
    """Nothing to set: the text is scored as :func:`error_rates` does."""


@register_scorer("cer", dataclass=CerScorerConfig)
class CerScorer(BaseScorer):
    """jiwer's CER in percent over all characters; NFC and single spaces, nothing else.

    As in fairseq's WER, what is written for an empty reference is too much of all others.
    """

    def score(self) -> float:
        """In percent; 0 where no character was to be written."""
        import jiwer

        references, hypotheses = ([normalise_text(t) for t in s] for s in (self.ref, self.pred))
        return 100.0 * jiwer.cer(references, hypotheses) if any(references) else 0.0

    def result_string(self) -> str:
        return f"CER: {self.score():.2f}"
