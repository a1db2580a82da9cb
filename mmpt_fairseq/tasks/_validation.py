"""WER, CER and BLEU of a real search at every validation, to stop early and to keep the best by.

Counts, not rates, are logged: fairseq sums them over batches and processes.
"""

import logging
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask
from numpy.typing import NDArray
from torch import nn

from mmpt_fairseq.decoding.choice import CTC_GENERATORS
from mmpt_fairseq.decoding.text import UNKNOWN, Detokeniser
from mmpt_fairseq.errors import InputError
from mmpt_fairseq.scoring import WITH_SPACES, bleu_tokenizer, normalise_text

if TYPE_CHECKING:
    from mmpt_fairseq.tasks.speech_to_text import SpeechToTextConfig

logger = logging.getLogger(__name__)

ORDERS = 4  # n-grams of BLEU
COUNTED = ("_wer_", "_cer_", "_bleu_")  # beginnings of the names of what is counted


class ValidationScorer:
    """Decodes validation batches with the search that the task's config names.

    Args:
        task: of stages 2 and 3.
        model: the model in training; the search holds on to it.
    """

    def __init__(self, task: FairseqTask, model: nn.Module) -> None:
        cfg: SpeechToTextConfig = task.cfg
        self.wer, self.bleu, self.tokenize = cfg.eval_wer, cfg.eval_bleu, WITH_SPACES
        self.settings = Namespace(
            beam=cfg.eval_beam,
            lenpen=cfg.eval_lenpen,
            max_len_b=cfg.eval_max_len_b,
            prefix_size=0,
            eos_token=None,
        )
        self.beam_search = str(cfg.decoding) not in CTC_GENERATORS
        self.generator = task.build_generator([model], self.settings)
        self.text = Detokeniser(task, self.generator)

    @classmethod
    def for_training(cls, task: FairseqTask, model: nn.Module) -> "ValidationScorer | None":
        """One if the task's config asks for it."""
        return cls(task, model) if task.cfg.eval_wer or task.cfg.eval_bleu else None

    def begin(self, texts: Sequence[str]) -> None:
        """A split of these texts is validated on from now on."""
        self.tokenize = bleu_tokenizer(texts)

    def check_lengths(self, lengths: NDArray[np.int32]) -> None:
        """Warn where the search ends before some target does: it cannot get that right.

        Args:
            lengths: of a split's targets in tokens.
        """
        cut, limit = int((lengths > self.settings.max_len_b).sum()), self.settings.max_len_b
        if self.beam_search and cut:
            logger.warning(
                "%d targets to validate on have up to %d tokens, and the search ends after "
                "generation.max_len_b=%d; raise it",
                *(cut, int(lengths.max()), limit),
            )

    def count(self, task: FairseqTask, sample: dict, model: nn.Module) -> dict[str, int]:
        """What the scores of a batch are made of.

        Raises:
            InputError: a row has no text to compare with.
        """
        prefix = None
        if self.settings.prefix_size:
            prefix = sample["target"][:, : self.settings.prefix_size]
        found = task.inference_step(self.generator, [model], sample, prefix_tokens=prefix)
        # What the vocabulary lacks must match no letter of a reference.
        texts = [self.text(row[0]["tokens"].tolist(), unknown=UNKNOWN) for row in found]
        hypotheses = [normalise_text(text) for text in texts]
        references = [normalise_text(text) for text in sample["texts"]]
        if not all(references):
            raise InputError("a validation row has no tgt_text to be scored against; leave it out")
        counts = error_counts(references, hypotheses) if self.wer else {}
        return counts | (ngram_counts(references, hypotheses, self.tokenize) if self.bleu else {})


def error_counts(references: list[str], hypotheses: list[str]) -> dict[str, int]:
    """Edits and lengths in words and characters, by jiwer."""
    import jiwer

    words = jiwer.process_words(references, hypotheses)
    characters = jiwer.process_characters(references, hypotheses)
    counts = {}
    for name, found in (("wer", words), ("cer", characters)):
        missed = found.substitutions + found.deletions
        counts[f"_{name}_errors"] = missed + found.insertions
        counts[f"_{name}_length"] = missed + found.hits
    return counts


def ngram_counts(
    references: list[str], hypotheses: list[str], tokenize: str = WITH_SPACES
) -> dict[str, int]:
    """n-grams matched and made, and lengths, by sacreBLEU."""
    from sacrebleu.metrics import BLEU

    score = BLEU(tokenize=tokenize).corpus_score(hypotheses, [references])
    counts = {"_bleu_sys_len": score.sys_len, "_bleu_ref_len": score.ref_len}
    for n in range(ORDERS):
        counts[f"_bleu_counts_{n}"] = score.counts[n]
        counts[f"_bleu_totals_{n}"] = score.totals[n]
    return counts


def log_scores(logging_outputs: list[dict]) -> None:
    """``wer``, ``cer`` and ``bleu`` from the sums of what validation batches counted."""
    names = {name for output in logging_outputs for name in output if name.startswith(COUNTED)}
    for name in sorted(names):
        metrics.log_scalar(name, sum(output.get(name, 0) for output in logging_outputs))
    for rate in ("wer", "cer"):
        if f"_{rate}_errors" in names:
            metrics.log_derived(rate, lambda meters, rate=rate: _rate(meters, rate))
    if "_bleu_sys_len" in names:
        metrics.log_derived("bleu", _bleu)


def _sum(meters: dict, name: str) -> float:
    total = meters[name].sum
    return float(total.item() if hasattr(total, "item") else total)


def _rate(meters: dict, name: str) -> float:
    return round(
        100.0 * _sum(meters, f"_{name}_errors") / max(1.0, _sum(meters, f"_{name}_length")), 2
    )


def _bleu(meters: dict) -> float:
    from sacrebleu.metrics import BLEU

    def array(name: str) -> list[int]:
        return [int(_sum(meters, f"_bleu_{name}_{n}")) for n in range(ORDERS)]

    lengths = [int(_sum(meters, f"_bleu_{side}_len")) for side in ("sys", "ref")]
    score = BLEU.compute_bleu(array("counts"), array("totals"), *lengths, smooth_method="exp")
    return round(score.score, 2)
