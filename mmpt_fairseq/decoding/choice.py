"""The searches that ``--decoding`` chooses from, and what each asks of models."""

import logging
from argparse import Namespace
from collections.abc import Sequence

import numpy as np
from fairseq.data import Dictionary
from fairseq.dataclass import ChoiceEnum
from fairseq.dataclass.configs import GenerationConfig
from numpy.typing import NDArray
from torch import nn

from manifests.errors import InputError
from mmpt_fairseq.decoding.ctc import (
    CTCGenerator,
    CTCGreedyGenerator,
    CTCPrefixBeamGenerator,
)
from mmpt_fairseq.models.speech_to_text import SpeechToTextModel

logger = logging.getLogger(__name__)

CTC_GENERATORS = {"ctc": CTCGreedyGenerator, "ctc_beam": CTCPrefixBeamGenerator}
DECODINGS = ("attention", "joint", *CTC_GENERATORS)
Decoding = ChoiceEnum(list(DECODINGS))
IGNORED_BY_CTC = (
    *("lenpen", "unkpen", "temperature", "min_len", "no_repeat_ngram_size", "sampling"),
    *("diverse_beam_groups", "diversity_rate", "constraints", "match_source_len", "unnormalized"),
)
WITHOUT_DECODER = (
    "this model has no decoder (model.decoder_layers=0); use --decoding ctc, or ctc_beam, which "
    "takes a language model too (task.decoding in training)"
)


def ctc_generator(
    decoding: str,
    models: Sequence[nn.Module],
    dictionary: Dictionary,
    tags: set[int],
    args: Namespace,
) -> CTCGenerator:
    """One of CTC's own searches; warns of settings of fairseq's search that it has no place for."""
    known = GenerationConfig.__dataclass_fields__
    # The best path is one, and no other is kept.
    unheard = (*IGNORED_BY_CTC, "nbest", "beam") if decoding == "ctc" else IGNORED_BY_CTC
    given = [n for n in unheard if getattr(args, n, known[n].default) != known[n].default]
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        logger.warning("--decoding %s is not changed by %s", decoding, names)
    if decoding != "ctc" and getattr(args, "nbest", 1) > args.beam:
        logger.warning("--nbest %d is more than --beam %d keeps; raise it", args.nbest, args.beam)
    return CTC_GENERATORS[decoding](models, dictionary, tags, args.beam)


def warn_of_long_targets(lengths: NDArray[np.int32], limit: int, option: str) -> None:
    """Warn where a beam search ends before some target does: it cannot get that right.

    Args:
        lengths: of a split's targets in tokens.
        limit: the search's, which ``option`` sets.
    """
    if cut := int((lengths > limit).sum()):
        sentence = "%d targets have up to %d tokens, and the search ends after %s=%d; raise it"
        logger.warning(sentence, cut, int(lengths.max()), option, limit)


def check_search(
    decoding: str,
    models: Sequence[SpeechToTextModel],
    ctc_text: str,
    ctc_learnt: bool | None,
    args: Namespace,
) -> None:
    """Whether models can be searched so.

    Args:
        ctc_text: what their CTC head writes, ``target`` or ``source``.
        ctc_learnt: False where it never learnt, None where that is unknown.
        args: fairseq's settings of the search.

    Raises:
        InputError: they cannot.
    """
    if decoding == "joint" and ctc_text == "source":
        raise InputError(
            "the CTC head of this model writes the source's transcripts and its decoder "
            "translations, which cannot be joined; use --decoding attention"
        )
    if decoding not in CTC_GENERATORS and not all(m.has_decoder for m in models):
        raise InputError(WITHOUT_DECODER)
    if decoding != "attention" and ctc_learnt is False:
        raise InputError(
            "the CTC head of this model never learnt (criterion.ctc_weight=0); use "
            "--decoding attention"
        )
    if getattr(args, "max_len_a", 0):
        raise InputError(
            "with --max-len-a the end of a search depends on the longest clip of its batch; "
            "use --max-len-b alone"
        )
    if decoding in CTC_GENERATORS and ctc_text == "source":
        logger.warning(
            "the CTC head of this model writes the source's transcripts (task.ctc_text=source), "
            "no translations"
        )
