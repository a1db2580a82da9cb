"""Detokenisation of hypotheses, shared by validation and transcription."""

from collections.abc import Iterable

import torch
from fairseq.tasks import FairseqTask
from torch import nn

UNKNOWN = "⁇"  # SentencePiece's symbol for unknown tokens; not expected to occur in text


class Detokeniser:
    """Convert tokens to text as ``fairseq-generate`` does, with single spaces.

    Args:
        task: the task of stages 2 and 3; its BPE and tokeniser, if any, are reversed.
        generator: the search, which knows the tokens to strip (EOS, language tags).
    """

    def __init__(self, task: FairseqTask, generator: nn.Module) -> None:
        self.dictionary = task.target_dictionary
        self.ignored = {*generator.symbols_to_strip_from_output, self.dictionary.eos()}
        self.decoders = [d for d in (task.build_bpe(None), task.build_tokenizer(None)) if d]

    def __call__(self, tokens: Iterable[int], unknown: str | None = None) -> str:
        """The text of ``tokens``, with ``unknown`` in place of the unknown token."""
        text = self.dictionary.string(
            torch.tensor(list(tokens)), extra_symbols_to_ignore=self.ignored, unk_string=unknown
        )
        for decoder in self.decoders:
            text = decoder.decode(text)
        return " ".join(text.split())
