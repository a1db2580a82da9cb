"""WER, CER and BLEU by decoding at every validation, for early stopping and model selection.

Counts, not rates, are logged: fairseq sums them over batches and processes.
"""

import logging
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask
from numpy.typing import NDArray
from torch import nn

from manifests.errors import InputError
from mmpt_fairseq.decoding.choice import CTC_GENERATORS, warn_of_long_targets
from mmpt_fairseq.decoding.text import UNKNOWN, Detokeniser
from mmpt_fairseq.scoring import (
    UNITS,
    WITH_SPACES,
    bleu_tokenizer,
    normalise_text,
    score,
    statistics,
)

if TYPE_CHECKING:
    from mmpt_fairseq.tasks.speech_to_text import SpeechToTextConfig

logger = logging.getLogger(__name__)


class ValidationScorer:
    """Decodes validation batches with the search set in the task's config.

    Args:
        task: the task of stages 2 and 3.
        model: the model being trained; the generator keeps a reference to it.
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
        """A scorer if ``eval_wer`` or ``eval_bleu`` is set, else None."""
        return cls(task, model) if task.cfg.eval_wer or task.cfg.eval_bleu else None

    def begin(self, texts: Sequence[str]) -> None:
        """Start validating on a split with these reference texts."""
        self.tokenize = bleu_tokenizer(texts)

    def check_lengths(self, lengths: NDArray[np.int32]) -> None:
        """Warn about targets, given their lengths in tokens, that the search would truncate."""
        if self.beam_search:
            warn_of_long_targets(lengths, self.settings.max_len_b, "generation.max_len_b")

    def count(self, task: FairseqTask, sample: dict, model: nn.Module) -> dict[str, int]:
        """Sufficient statistics of the scores of a batch.

        Raises:
            InputError: a row has no reference text.
        """
        prefix = None
        if self.settings.prefix_size:
            prefix = sample["target"][:, : self.settings.prefix_size]
        found = task.inference_step(self.generator, [model], sample, prefix_tokens=prefix)
        # <unk> must not match any character of a reference.
        texts = [self.text(row[0]["tokens"].tolist(), unknown=UNKNOWN) for row in found]
        hypotheses = [normalise_text(text) for text in texts]
        references = [normalise_text(text) for text in sample["texts"]]
        if not all(references):
            raise InputError("a validation row has no tgt_text to be scored against; remove it")
        wanted = {"wer": self.wer, "cer": self.wer, "bleu": self.bleu}
        names = [name for name in UNITS if wanted[name]]
        return score_counts(references, hypotheses, names, self.tokenize)


def score_counts(
    references: Sequence[str],
    hypotheses: Sequence[str],
    names: Sequence[str] = tuple(UNITS),
    tokenize: str = WITH_SPACES,
) -> dict[str, int]:
    """Sufficient statistics of the scores ``names``, summed, as ``_<name>_<index>``."""
    sums = {n: statistics(references, hypotheses, UNITS[n], tokenize).sum(0) for n in names}
    return {f"_{n}_{index}": int(found) for n in names for index, found in enumerate(sums[n])}


def log_scores(logging_outputs: list[dict]) -> None:
    """Log ``wer``, ``cer`` and ``bleu`` from the summed counts of validation batches."""
    for name in UNITS:
        keys = {key for logs in logging_outputs for key in logs if key.startswith(f"_{name}_")}
        for key in keys:
            metrics.log_scalar(key, sum(logs.get(key, 0) for logs in logging_outputs))
        if keys:
            metrics.log_derived(name, partial(_score, name=name, size=len(keys)))


def _score(meters: dict, name: str, size: int) -> float:
    totals = [meters[f"_{name}_{index}"].sum for index in range(size)]
    return round(score([int(total) for total in totals], UNITS[name]), 2)
