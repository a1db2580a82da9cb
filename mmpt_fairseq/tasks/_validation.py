"""WER, CER and BLEU of a real search at every validation, to stop early and to keep the best by.

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
    WITH_SPACES,
    Unit,
    bleu_tokenizer,
    normalise_text,
    score,
    statistics,
)

if TYPE_CHECKING:
    from mmpt_fairseq.tasks.speech_to_text import SpeechToTextConfig

logger = logging.getLogger(__name__)

UNITS: dict[str, Unit] = {"wer": "word", "cer": "char", "bleu": "bleu"}


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
        """Warn of a split's targets, of so many tokens, that the search ends before."""
        if self.beam_search:
            warn_of_long_targets(lengths, self.settings.max_len_b, "generation.max_len_b")

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
        wanted = {"wer": self.wer, "cer": self.wer, "bleu": self.bleu}
        names = [name for name in UNITS if wanted[name]]
        return counted(references, hypotheses, names, self.tokenize)


def counted(
    references: Sequence[str],
    hypotheses: Sequence[str],
    names: Sequence[str] = tuple(UNITS),
    tokenize: str = WITH_SPACES,
) -> dict[str, int]:
    """Sums that the scores of these ``names`` are made of, each with its place."""
    sums = {n: statistics(references, hypotheses, UNITS[n], tokenize).sum(0) for n in names}
    return {f"_{n}_{place}": int(found) for n in names for place, found in enumerate(sums[n])}


def log_scores(logging_outputs: list[dict]) -> None:
    """``wer``, ``cer`` and ``bleu`` from the sums of what validation batches counted."""
    for name in UNITS:
        places = {key for logs in logging_outputs for key in logs if key.startswith(f"_{name}_")}
        for key in places:
            metrics.log_scalar(key, sum(logs.get(key, 0) for logs in logging_outputs))
        if places:
            metrics.log_derived(name, partial(_score, name=name, places=len(places)))


def _score(meters: dict, name: str, places: int) -> float:
    totals = [meters[f"_{name}_{place}"].sum for place in range(places)]
    return round(score([int(total) for total in totals], UNITS[name]), 2)
