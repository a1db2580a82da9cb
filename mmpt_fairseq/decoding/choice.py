"""The searches that ``--decoding`` chooses from, and what a language model must be like."""

from pathlib import Path

from fairseq.data import Dictionary
from fairseq.dataclass import ChoiceEnum
from torch import nn

from mmpt_fairseq.decoding.ctc import CTCGreedyGenerator, CTCPrefixBeamGenerator
from mmpt_fairseq.errors import InputError

CTC_GENERATORS = {"ctc": CTCGreedyGenerator, "ctc_beam": CTCPrefixBeamGenerator}
DECODINGS = ("attention", "joint", *CTC_GENERATORS)
Decoding = ChoiceEnum(list(DECODINGS))


def check_language_model_files(path: str, data: str) -> None:
    """What fairseq is about to read for ``--lm-path`` must be there.

    Raises:
        InputError: no such checkpoint, or the data folder lacks the dictionary that fairseq's
            language models look for in it.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no language model {path}; check --lm-path")
    if not (Path(data) / "dict.txt").is_file():
        raise InputError(
            f"--lm-path needs the language model's dict.txt in {data}; copy it there from the "
            "folder that the recogniser was trained on"
        )


def check_language_model(model: nn.Module | None, dictionary: Dictionary, decoding: str) -> None:
    """Shallow fusion adds log probabilities token by token, so the tokens must be the same.

    Raises:
        InputError: another vocabulary, or a search that has no place for a language model.
    """
    if model is None:
        return
    if decoding in CTC_GENERATORS:
        raise InputError(
            f"--decoding {decoding} takes no language model; use --decoding joint with "
            "--ctc-decoding-weight 1 for CTC with one"
        )
    theirs = model.decoder.dictionary.symbols
    if theirs != dictionary.symbols:
        raise InputError(
            f"the language model's vocabulary ({len(theirs)} entries) is not the recogniser's "
            f"({len(dictionary)}); train it with fairseq-preprocess --srcdict DATA/dict.txt"
        )
