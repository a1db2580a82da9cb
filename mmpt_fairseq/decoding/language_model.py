"""Loading and checking fairseq language models for shallow fusion."""

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
    """Check the files that fairseq is about to read for ``--lm-path``.

    Raises:
        InputError: there is no such checkpoint, the data folder lacks the dictionary that fairseq's
            language models read from it, or the vocabularies differ.
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
    """Check that shallow fusion is possible: it adds log probabilities token by token.

    Args:
        fusion: ``lm_model`` and ``lm_weight``, as fairseq passes them to a generator.
        dictionary: the recogniser's.
        tags: its language tags, which do not occur in language model training text.

    Raises:
        InputError: the vocabularies differ, the decoding method does not support a language model,
            or there is a weight without a model.
    """
    language_model, weight = fusion.get("lm_model"), fusion.get("lm_weight")
    if weight is not None and not math.isfinite(weight):
        raise InputError(f"lm_weight={weight} is not a finite number; correct --lm-weight")
    if language_model is None:
        if weight:
            raise InputError(
                f"lm_weight={weight:g} is set but there is no language model; name one with "
                "--lm-path"
            )
        return
    if tags:
        raise InputError(
            "a model of several languages takes no language model, which was not trained on the "
            "language tags that its hypotheses start with; leave out --lm-path"
        )
    if decoding == "ctc":
        raise InputError(
            "--decoding ctc, which is greedy, takes no language model; use --decoding ctc_beam"
        )
    theirs = language_model.decoder.dictionary.symbols
    if theirs != dictionary.symbols:
        raise InputError(
            f"the language model's vocabulary ({len(theirs)} entries) is not the recogniser's "
            f"({len(dictionary)}); train it on the output of manifests.pieces for its data"
        )
    if weight == 0:
        logger.warning(
            "with lm_weight=0, the default of fairseq-generate, the language model has no effect; "
            "choose --lm-weight on a validation split"
        )


def load_language_model(path: str | Path, dictionary: Dictionary) -> nn.Module:
    """Load a checkpoint of fairseq's ``language_modeling`` task without its data folder.

    Args:
        dictionary: the recogniser's, on which it must have been trained.

    Raises:
        InputError: there is no such checkpoint, or it has a different vocabulary (only the size is
            checked if its training data is no longer there).
    """
    state = load_checkpoint(path)
    cfg = settings_of(state, "task")
    if cfg.get("_name") != "language_modeling":
        raise InputError(
            f"{path} is of the task {cfg.get('_name')}, not a language model; train one with "
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
            f"the language model {path} lacks the recogniser's vocabulary of {len(dictionary)} "
            "entries; train it on the output of manifests.pieces for this recogniser's data"
        ) from None
    return model.eval()


def _check_dictionary(path: str | Path, state: dict, dictionary: Dictionary) -> None:
    """Compare the vocabulary with the language model's training dictionary, if it still exists.

    Raises:
        InputError: they differ.
    """
    trained_on = Path(str(settings_of(state, "task").get("data"))) / DICTIONARY
    if trained_on.is_file() and Dictionary.load(str(trained_on)).symbols != dictionary.symbols:
        raise InputError(
            f"the language model {path} was trained on {trained_on}, which is not the recogniser's "
            "vocabulary; train it on the output of manifests.pieces for its data"
        )
