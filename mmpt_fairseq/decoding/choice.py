"""The decoding methods of ``--decoding`` and what each requires of the model."""

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
    *("diverse_beam_groups", "diversity_rate", "match_source_len", "unnormalized", "prefix_size"),
)
# Options of fairseq's that need text as the source, or another kind of generator.
UNSUPPORTED = ("constraints", "print_alignment", "print_step", "replace_unk", "retain_iter_history")
NO_DECODER = (
    "this model has no decoder (model.decoder_layers=0); use --decoding ctc, or ctc_beam, which "
    "supports a language model (task.decoding in training)"
)


def ctc_generator(
    decoding: str,
    models: Sequence[nn.Module],
    dictionary: Dictionary,
    tags: set[int],
    args: Namespace,
) -> CTCGenerator:
    """Build a pure CTC generator; warn of options of fairseq's search that it ignores."""
    fields = GenerationConfig.__dataclass_fields__
    # Greedy decoding keeps only the best path.
    ignored = (*IGNORED_BY_CTC, "nbest", "beam") if decoding == "ctc" else IGNORED_BY_CTC
    given = [n for n in ignored if getattr(args, n, fields[n].default) != fields[n].default]
    if tags and "prefix_size" in given:
        given.remove("prefix_size")  # set by the task
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        logger.warning("--decoding %s ignores %s", decoding, names)
    if decoding != "ctc" and getattr(args, "nbest", 1) > args.beam:
        logger.warning("--nbest %d exceeds --beam %d; raise --beam", args.nbest, args.beam)
    return CTC_GENERATORS[decoding](models, dictionary, tags, args.beam)


def warn_of_long_targets(lengths: NDArray[np.int32], limit: int, option: str) -> None:
    """Warn if targets are longer than a beam search may write, and so can never be correct.

    Args:
        lengths: number of tokens of each target in a split.
        limit: maximum hypothesis length in tokens, set by ``option``.
    """
    if too_long := int((lengths > limit).sum()):
        message = "%d targets (of up to %d tokens) exceed the search limit %s=%d; raise it"
        logger.warning(message, too_long, int(lengths.max()), option, limit)


def check_search(
    decoding: str,
    models: Sequence[SpeechToTextModel],
    ctc_text: str,
    ctc_learnt: bool | None,
    args: Namespace,
) -> None:
    """Check that the models support a decoding method.

    Args:
        ctc_text: what their CTC head writes, ``target`` or ``source``.
        ctc_learnt: False if the head was never trained, None if unknown.
        args: fairseq's generation options.

    Raises:
        InputError: they do not support it.
    """
    if decoding == "joint" and ctc_text == "source":
        raise InputError(
            "the CTC head of this model writes source transcripts and its decoder translations, "
            "so their scores cannot be combined; use --decoding attention"
        )
    if decoding not in CTC_GENERATORS and not all(m.has_decoder for m in models):
        raise InputError(NO_DECODER)
    if decoding != "attention" and ctc_learnt is False:
        raise InputError(
            "the CTC head of this model was not trained (criterion.ctc_weight=0); use "
            "--decoding attention"
        )
    for name in UNSUPPORTED:
        if getattr(args, name, None) not in (None, False):
            raise InputError(f"--{name.replace('_', '-')} is not supported; leave it out")
    if getattr(args, "score_reference", False) and decoding != "attention":
        raise InputError(f"--score-reference needs --decoding attention, not {decoding}")
    prefix_scored = decoding == "joint" or (decoding == "ctc_beam" and getattr(args, "lm_path", ""))
    if getattr(args, "sampling", False) and prefix_scored:
        raise InputError(f"--sampling needs --decoding attention, not {decoding}")
    if getattr(args, "max_len_a", 0):
        raise InputError(
            "--max-len-a makes the length limit depend on the longest clip of the batch; "
            "use --max-len-b alone"
        )
    if decoding in CTC_GENERATORS and ctc_text == "source":
        logger.warning(
            "the CTC head of this model writes source transcripts (task.ctc_text=source), "
            "not translations"
        )
