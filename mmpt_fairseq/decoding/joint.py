"""Joint CTC/attention decoding (arXiv 1706.02737) inside fairseq's SequenceGenerator.

The generator asks its ensemble for the log probabilities of the next token; this one mixes the
decoder's with those of CTC prefixes. Beams, length penalty, language model and n-best lists stay
fairseq's.
"""

import torch
from fairseq.sequence_generator import EnsembleModel
from torch import Tensor, nn

from mmpt_fairseq.decoding.ctc import require_ctc
from mmpt_fairseq.decoding.prefix_score import CTCPrefixScorer
from mmpt_fairseq.errors import InputError


class JointEnsemble(EnsembleModel):
    """One model whose next-token log probability is (1 - w) of the decoder's plus w of CTC's.

    Args:
        models: one model with a CTC head.
        weight: w, in [0, 1].
        language_tags: tokens that open a hypothesis and are unknown to CTC.

    Raises:
        InputError: no such model, or no such weight.
    """

    def __init__(
        self, models: list[nn.Module], weight: float, language_tags: set[int] = frozenset()
    ) -> None:
        super().__init__([require_ctc(models)])
        if not 0.0 <= weight <= 1.0:
            raise InputError(f"ctc_decoding_weight={weight} is not between 0 and 1")
        self.weight = weight
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
        """Mixed log probabilities ``(N, V)`` and the decoder's attention."""
        attention, weights = super().forward_decoder(tokens, *args, **kwargs)
        ctc = self._scorer.step(tokens).to(attention.dtype)
        return torch.lerp(attention, ctc, self.weight), weights

    def reorder_incremental_state(self, incremental_states: list, new_order: Tensor) -> None:
        """The decoder's caches and CTC's forward variables follow their hypotheses."""
        super().reorder_incremental_state(incremental_states, new_order)
        self._scorer.reorder(new_order)
