"""Word and character error rate by jiwer, BLEU by sacreBLEU; CER for fairseq's ``--scoring cer``.

References and hypotheses are normalised in the same way: Unicode NFC, white space collapsed to
single spaces. Case and punctuation count. BLEU is over words, or over characters in scripts without
spaces.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from fairseq.dataclass import FairseqDataclass
from fairseq.scoring import BaseScorer, register_scorer
from numpy.typing import NDArray

from manifests.errors import InputError

Unit = Literal["word", "char", "bleu"]
UNITS: dict[str, Unit] = {"wer": "word", "cer": "char", "bleu": "bleu"}
WITH_SPACES = "13a"  # sacreBLEU's default
CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
# Kana, Thai and Lao, Burmese, Khmer.
SPACELESS = re.compile("[\u3040-\u30ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
KANA = 0.1  # ratio to Chinese characters above which text is Japanese: Chinese has almost no kana


def normalise_text(text: str) -> str:
    """Normalise to NFC and single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def statistics(
    references: Sequence[str], hypotheses: Sequence[str], unit: Unit, tokenize: str = ""
) -> NDArray[np.int64]:
    """Per-utterance sufficient statistics ``(N, K)``; sums over utterances give :func:`score`.

    Args:
        references, hypotheses: normalised.
        unit: ``word`` and ``char`` give jiwer's edits and the reference length, ``bleu``
            sacreBLEU's two lengths, matching n-grams and hypothesis n-grams.
        tokenize: sacreBLEU's tokenizer, by default :func:`bleu_tokenizer` of the references.
    """
    if unit == "bleu":
        from sacrebleu.metrics import BLEU

        metric = BLEU(tokenize=tokenize or bleu_tokenizer(references))
        pairs = zip(references, hypotheses, strict=True)
        found = [
            metric.corpus_score([hypothesis], [[reference]]) for reference, hypothesis in pairs
        ]
        return np.array([[f.sys_len, f.ref_len, *f.counts, *f.totals] for f in found], np.int64)
    import jiwer

    process = jiwer.process_words if unit == "word" else jiwer.process_characters
    output = process(list(references), list(hypotheses))
    pairs = zip(output.alignments, output.references, strict=True)
    return np.array([[_edits(chunks), len(reference)] for chunks, reference in pairs], np.int64)


def _edits(chunks: Sequence) -> int:
    """Substitutions, deletions and insertions in jiwer's alignment of one utterance."""
    return sum(
        max(c.ref_end_idx - c.ref_start_idx, c.hyp_end_idx - c.hyp_start_idx)
        for c in chunks
        if c.type != "equal"
    )


def score(sums: Sequence[int], unit: Unit) -> float:
    """Error rate in percent, or BLEU, from summed :func:`statistics`; 0 with nothing to score."""
    if unit != "bleu":
        edits, length = sums
        return 100.0 * edits / max(1, length)
    from sacrebleu.metrics import BLEU

    lengths, grams = sums[:2], sums[2:]
    counts, totals = grams[: len(grams) // 2], grams[len(grams) // 2 :]
    return BLEU.compute_bleu(list(counts), list(totals), *lengths, smooth_method="exp").score


def error_rates(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    """``wer`` and ``cer`` in percent over all words and characters.

    Raises:
        InputError: a reference is empty.
    """
    references = [normalise_text(r) for r in references]
    hypotheses = [normalise_text(h) for h in hypotheses]
    refuse_empty(references)
    return {
        name: score(statistics(references, hypotheses, UNITS[name]).sum(0).tolist(), UNITS[name])
        for name in ("wer", "cer")
    }


def refuse_empty(references: Sequence[str]) -> None:
    """Raise InputError if a normalised reference is empty."""
    if not all(references):
        row = references.index("")
        raise InputError(f"reference {row + 1} is empty, so it has no error rate; leave it out")


def bleu_tokenizer(references: Sequence[str]) -> str:
    """Name of sacreBLEU's tokenizer for these references: its default if words have spaces.

    ``zh`` for Chinese, ``char`` for other scripts without spaces; sacreBLEU's own tokenizers for
    Japanese and Korean need dictionaries.
    """
    if not without_spaces(references):
        return WITH_SPACES
    text = "".join(references)
    return "char" if len(SPACELESS.findall(text)) > KANA * len(CHINESE.findall(text)) else "zh"


def without_spaces(texts: Sequence[str]) -> bool:
    """Whether most letters belong to a script without spaces between words."""
    text = "".join(texts)
    letters = sum(map(str.isalpha, text))
    return 2 * (len(CHINESE.findall(text)) + len(SPACELESS.findall(text))) > letters


def bleu(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float | str]:
    """``bleu`` (0 to 100) with sacreBLEU's ``signature``."""
    from sacrebleu.metrics import BLEU

    references = [normalise_text(r) for r in references]
    metric = BLEU(tokenize=bleu_tokenizer(references))
    found = metric.corpus_score([normalise_text(h) for h in hypotheses], [references])
    return {"bleu": found.score, "signature": str(metric.get_signature())}


@dataclass
class CerScorerConfig(FairseqDataclass):
    """Empty config: text is normalised as by :func:`error_rates`."""


@register_scorer("cer", dataclass=CerScorerConfig)
class CerScorer(BaseScorer):
    """jiwer's CER in percent over all characters, after NFC and collapsing of white space.

    As in fairseq's WER, hypothesis text for an empty reference counts as insertions.
    """

    def score(self) -> float:
        """CER in percent; 0 if all references are empty."""
        import jiwer

        references, hypotheses = ([normalise_text(t) for t in s] for s in (self.ref, self.pred))
        return 100.0 * jiwer.cer(references, hypotheses) if any(references) else 0.0

    def result_string(self) -> str:
        return f"CER: {self.score():.2f}"
