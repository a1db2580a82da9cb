"""Language models of fairseq's for shallow fusion: what a search asks of them."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairseq import checkpoint_utils
from fairseq.data import Dictionary
from fairseq.tasks.language_modeling import LanguageModelingTask
from torch import nn

from manifests.errors import InputError
from mmpt_fairseq.checkpoint import load_checkpoint, settings_of
from mmpt_fairseq.data.data_folder import DICTIONARY

logger = logging.getLogger(__name__)


def check_files(path: str, data: str) -> None:
    """What fairseq is about to read for ``--lm-path`` must be there.

    Raises:
        InputError: no such checkpoint, or the data folder lacks the dictionary that fairseq's
            language models look for in it.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no language model {path}; check --lm-path")
    if not (Path(data) / DICTIONARY).is_file():
        raise InputError(
            f"--lm-path needs the language model's dict.txt in {data}; copy it there from the "
            "folder that the recogniser was trained on"
        )
    _check_dictionary(path, load_checkpoint(path), Dictionary.load(str(Path(data) / DICTIONARY)))


def check_language_model(
    fusion: Mapping[str, Any],
    dictionary: Dictionary,
    decoding: str,
    tags: set[int] = frozenset(),
) -> None:
    """Shallow fusion adds log probabilities token by token, so the tokens must be the same.

    Args:
        fusion: ``lm_model`` and ``lm_weight``, as fairseq hands them to a generator.
        dictionary: the recognisers'.
        tags: its language tags, which no text that a language model learns from has.

    Raises:
        InputError: another vocabulary, a search that has no place for a language model, or a
            weight without one.
    """
    language_model, weight = fusion.get("lm_model"), fusion.get("lm_weight")
    if weight is not None and not math.isfinite(weight):
        raise InputError(f"lm_weight={weight} is no number to weigh by; mend --lm-weight")
    if language_model is None:
        if weight:
            raise InputError(
                f"lm_weight={weight:g} weighs a language model, and there is none; name it by "
                "--lm-path"
            )
        return
    if tags:
        raise InputError(
            "a model of several languages takes no language model, which knows nothing of the "
            "tags that its sentences begin with; leave out --lm-path"
        )
    if decoding == "ctc":
        raise InputError(
            "--decoding ctc, which is greedy, takes no language model; use --decoding ctc_beam"
        )
    theirs = language_model.decoder.dictionary.symbols
    if theirs != dictionary.symbols:
        raise InputError(
            f"the language model's vocabulary ({len(theirs)} entries) is not the recogniser's "
            f"({len(dictionary)}); train it on what manifests.pieces writes for its data"
        )
    if weight == 0:
        logger.warning(
            "with lm_weight=0, which fairseq-generate has by default, the language model has no "
            "say; choose --lm-weight on a validation split"
        )


def load_language_model(path: str | Path, dictionary: Dictionary) -> nn.Module:
    """The one in a checkpoint of fairseq's ``language_modeling``, without its folder of data.

    Args:
        dictionary: the recogniser's, on which it must have been trained.

    Raises:
        InputError: no such checkpoint, or of another vocabulary; once the data that it was trained
            on is gone, one of the same size passes.
    """
    state = load_checkpoint(path)
    cfg = settings_of(state, "task")
    if cfg.get("_name") != "language_modeling":
        raise InputError(
            f"{path} is of the task {cfg.get('_name')}, and no language model; train one with "
            "examples/own/config/language_model.yaml"
        )
    _check_dictionary(path, state, dictionary)
    task = LanguageModelingTask(cfg, dictionary)
    try:
        [model], *_ = checkpoint_utils.load_model_ensemble_and_task(
            [str(path)], task=task, state=state
        )
    except RuntimeError as error:
        if "size mismatch" not in str(error):
            raise
        raise InputError(
            f"the language model {path} has not the recogniser's vocabulary of {len(dictionary)} "
            "entries; train it on what manifests.pieces writes for this recogniser's data"
        ) from None
    return model.eval()


def _check_dictionary(path: str | Path, state: dict, dictionary: Dictionary) -> None:
    """Compare vocabularies by what the language model was trained on, where that is still there.

    Raises:
        InputError: it is another one.
    """
    learnt = Path(str(settings_of(state, "task").get("data"))) / DICTIONARY
    if learnt.is_file() and Dictionary.load(str(learnt)).symbols != dictionary.symbols:
        raise InputError(
            f"the language model {path} was trained on {learnt}, which is not the recogniser's "
            "vocabulary; train it on what manifests.pieces writes for its data"
        )
