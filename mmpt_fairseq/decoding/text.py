"""Tokens of a hypothesis to text, the same at validation and in a transcription."""

from collections.abc import Iterable

import torch
from fairseq.tasks import FairseqTask
from torch import nn

UNKNOWN = "⁇"  # as SentencePiece writes what its vocabulary lacks; no text is expected to hold it


class Detokeniser:
    """As ``fairseq-generate`` writes hypotheses, with single spaces.

    Args:
        task: of stages 2 and 3; its BPE model and tokeniser, if any, are undone.
        generator: the search, which knows what is no part of the text (end, language tags).
    """

    def __init__(self, task: FairseqTask, generator: nn.Module) -> None:
        self.dictionary = task.target_dictionary
        self.ignored = {*generator.symbols_to_strip_from_output, self.dictionary.eos()}
        self.decoders = [d for d in (task.build_bpe(None), task.build_tokenizer(None)) if d]

    def __call__(self, tokens: Iterable[int], unknown: str | None = None) -> str:
        """The text of ``tokens``, with ``unknown`` for those that are not in the vocabulary."""
        text = self.dictionary.string(
            torch.tensor(list(tokens)), extra_symbols_to_ignore=self.ignored, unk_string=unknown
        )
        for decoder in self.decoders:
            text = decoder.decode(text)
        return " ".join(text.split())
