"""CTC's prefix scores inside fairseq's SequenceGenerator, alone or joined with the decoder's
(arXiv 1706.02737).

The generator asks its ensemble for the log probabilities of the next token. Beams, length penalty,
language model and n-best lists stay fairseq's.
"""

import torch
from fairseq.sequence_generator import EnsembleModel
from torch import Tensor, nn

from manifests.errors import InputError
from mmpt_fairseq.decoding.ctc import require_ctc
from mmpt_fairseq.decoding.prefix_score import IMPOSSIBLE, CTCPrefixScorer
from mmpt_fairseq.models.speech_to_text import ctc_log_probabilities
from mmpt_fairseq.modules.masking import padding_mask


class PrefixEnsemble(EnsembleModel):
    """One model whose CTC head scores the prefixes of a search.

    Args:
        models: one model with a CTC head.
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
        self.lprobs, self.lengths = ctc_log_probabilities(outputs[0])
        dictionary = self.single_model.decoder.dictionary
        self.blank, self.eos = dictionary.bos(), dictionary.eos()
        self._scorer = CTCPrefixScorer(self.lprobs, self.lengths, self.blank, self.eos, self.tags)
        return outputs

    def reorder_incremental_state(self, incremental_states: list, new_order: Tensor) -> None:
        """The decoder's caches and CTC's forward variables follow their hypotheses."""
        super().reorder_incremental_state(incremental_states, new_order)
        self._scorer.reorder(new_order)


class CTCEnsemble(PrefixEnsemble):
    """Next-token log probabilities of CTC alone; a decoder, if the model has one, is not asked.

    Where greedy CTC hears nothing, nothing is written: a language model has learnt from no empty
    sentence, and would put words into silence.
    """

    def forward_decoder(self, tokens: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor | None]:
        """Log probabilities ``(N, V)``, and None for the attention."""
        scores = self._scorer.step(tokens).float()
        if tokens.size(1) == 1:
            silent = self._silent().repeat_interleave(len(scores) // len(self.lengths))
            others = torch.arange(scores.size(1), device=scores.device) != self.eos
            scores = scores.masked_fill(silent[:, None] & others, IMPOSSIBLE)
        return scores, None

    def _silent(self) -> Tensor:
        """``(B,)``, whether each of a row's frames is most likely blank."""
        padding = padding_mask(self.lengths, self.lprobs.size(1))
        return ((self.lprobs.argmax(-1) == self.blank) | padding).all(1)


class JointEnsemble(PrefixEnsemble):
    """Next-token log probabilities: (1 - w) of the decoder's plus w of CTC's.

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
        attention, weights = super().forward_decoder(tokens, *args, **kwargs)
        ctc = self._scorer.step(tokens).to(attention.dtype)
        return torch.lerp(attention, ctc, self.weight), weights
