"""Word and character error rate by jiwer, BLEU by sacreBLEU; CER for fairseq's ``--scoring cer``.

Text is normalised the same for references and hypotheses: Unicode NFC, runs of white space made
one space. Case and punctuation count. BLEU counts words, of a script without spaces characters.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from fairseq.dataclass import FairseqDataclass
from fairseq.scoring import BaseScorer, register_scorer

from mmpt_fairseq.errors import InputError

WITH_SPACES = "13a"  # sacreBLEU's default
CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
# Kana, Thai and Lao, Burmese, Khmer.
SPACELESS = re.compile("[\u3040-\u30ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
KANA = 0.1  # of the Chinese characters: Japanese has more, Chinese next to none


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


def bleu_tokenizer(references: Sequence[str]) -> str:
    """sacreBLEU's name of how to count: as it does by default where words have spaces between.

    ``zh`` for Chinese, ``char`` where most letters are of another script that has none; sacreBLEU's
    own for Japanese and Korean need dictionaries.
    """
    if not without_spaces(references):
        return WITH_SPACES
    text = "".join(references)
    return "char" if len(SPACELESS.findall(text)) > KANA * len(CHINESE.findall(text)) else "zh"


def without_spaces(texts: Sequence[str]) -> bool:
    """Whether most letters are of a script that has no spaces between words."""
    text = "".join(texts)
    letters = sum(map(str.isalpha, text))
    return 2 * (len(CHINESE.findall(text)) + len(SPACELESS.findall(text))) > letters


def bleu(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float | str]:
    """``bleu`` (0 to 100) with sacreBLEU's ``signature``."""
    from sacrebleu.metrics import BLEU

    references = [normalise_text(r) for r in references]
    metric = BLEU(tokenize=bleu_tokenizer(references))
    score = metric.corpus_score([normalise_text(h) for h in hypotheses], [references])
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
