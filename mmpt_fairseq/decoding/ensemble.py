"""CTC's prefix scores inside fairseq's SequenceGenerator, alone or joined with the decoder's
(arXiv 1706.02737).

The generator asks its ensemble for the log probabilities of the next token. Beams, length penalty,
language model and n-best lists stay fairseq's.
"""

import torch
from fairseq.sequence_generator import EnsembleModel
from torch import Tensor, nn

from mmpt_fairseq.decoding.ctc import require_ctc
from mmpt_fairseq.decoding.prefix_score import CTCPrefixScorer
from mmpt_fairseq.errors import InputError


class CTCEnsemble(EnsembleModel):
    """One model whose next-token log probability is that of CTC prefixes.

    Args:
        models: one model with a CTC head; its decoder, if it has one, is not asked.
        language_tags: tokens that open a hypothesis and are unknown to CTC.

    Raises:
        InputError: no such model.
    """

    def __init__(self, models: list[nn.Module], language_tags: set[int] = frozenset()) -> None:
        super().__init__([require_ctc(models)])
        self.tags = torch.tensor(sorted(language_tags), dtype=torch.long)

    def forward_encoder(self, net_input: dict[str, Tensor]) -> list[dict[str, list[Tensor]]]:
        """fairseq's encoder outputs; the CTC head's are kept for this batch."""
        outputs = super().forward_encoder(net_input)
        lprobs = outputs[0]["ctc_logits"][0].float().log_softmax(-1).transpose(0, 1)
        dictionary = self.single_model.decoder.dictionary
        self._scorer = CTCPrefixScorer(
            lprobs, outputs[0]["src_lengths"][0], dictionary.bos(), dictionary.eos(), self.tags
        )
        return outputs

    def forward_decoder(self, tokens: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor | None]:
        """Log probabilities ``(N, V)``, and None for the attention."""
        return self._scorer.step(tokens).float(), None

    def reorder_incremental_state(self, incremental_states: list, new_order: Tensor) -> None:
        """The decoder's caches and CTC's forward variables follow their hypotheses."""
        super().reorder_incremental_state(incremental_states, new_order)
        self._scorer.reorder(new_order)


class JointEnsemble(CTCEnsemble):
    """One model whose next-token log probability is (1 - w) of the decoder's plus w of CTC's.

    Args:
        models: one model with a CTC head and a decoder.
        weight: w, in [0, 1].
        language_tags: as above.

    Raises:
        InputError: no such model, or no such weight.
    """

    def __init__(
        self, models: list[nn.Module], weight: float, language_tags: set[int] = frozenset()
    ) -> None:
        super().__init__(models, language_tags)
        if not 0.0 <= weight <= 1.0:
            raise InputError(f"ctc_decoding_weight={weight} is not between 0 and 1")
        self.weight = weight

    def forward_decoder(self, tokens: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor | None]:
        """Mixed log probabilities ``(N, V)`` and the decoder's attention."""
        attention, weights = EnsembleModel.forward_decoder(self, tokens, *args, **kwargs)
        ctc, _ = super().forward_decoder(tokens)
        return torch.lerp(attention, ctc.to(attention.dtype), self.weight), weights
