"""CTC prefix scores in fairseq's SequenceGenerator, alone or combined with the decoder's.

Joint decoding follows arXiv 1706.02737. The generator queries its ensemble for next-token log
probabilities; beams, length penalty, language model and n-best lists remain fairseq's.
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
    """Ensemble of one model whose CTC head scores the hypothesis prefixes.

    Args:
        models: one model with a CTC head.
        language_tags: tokens that start a hypothesis and are unknown to CTC.

    Raises:
        InputError: there are several models, or the model has no CTC head.
    """

    def __init__(self, models: list[nn.Module], language_tags: set[int] = frozenset()) -> None:
        super().__init__([require_ctc(models)])
        self.tags = torch.tensor(sorted(language_tags), dtype=torch.long)

    def forward_encoder(self, net_input: dict[str, Tensor]) -> list[dict[str, list[Tensor]]]:
        """Return fairseq's encoder outputs; keep those of the CTC head for this batch."""
        outputs = super().forward_encoder(net_input)
        self.lprobs, self.lengths = ctc_log_probabilities(outputs[0])
        dictionary = self.single_model.decoder.dictionary
        self.blank, self.eos = dictionary.bos(), dictionary.eos()
        self._scorer = CTCPrefixScorer(self.lprobs, self.lengths, self.blank, self.eos, self.tags)
        return outputs

    def reorder_incremental_state(self, incremental_states: list, new_order: Tensor) -> None:
        """Reorder decoder caches and CTC forward variables along with the hypotheses."""
        super().reorder_incremental_state(incremental_states, new_order)
        self._scorer.reorder(new_order)


class CTCEnsemble(PrefixEnsemble):
    """Next-token log probabilities of CTC alone; the decoder, if any, is not run.

    If greedy CTC yields an empty hypothesis, the output is forced to be empty: a language model is
    not trained on empty sentences and would insert words in silence.
    """

    def forward_decoder(self, tokens: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor | None]:
        """Log probabilities ``(N, V)``, and None in place of attention weights."""
        scores = self._scorer.step(tokens).float()
        if tokens.size(1) == 1:
            silent = self._silent().repeat_interleave(len(scores) // len(self.lengths))
            others = torch.arange(scores.size(1), device=scores.device) != self.eos
            scores = scores.masked_fill(silent[:, None] & others, IMPOSSIBLE)
        return scores, None

    def _silent(self) -> Tensor:
        """``(B,)`` mask of rows in which blank is the most likely label of every frame."""
        padding = padding_mask(self.lengths, self.lprobs.size(1))
        return ((self.lprobs.argmax(-1) == self.blank) | padding).all(1)


class JointEnsemble(PrefixEnsemble):
    """Next-token log probabilities: (1 - w) x decoder + w x CTC.

    Args:
        models: one model with a CTC head and a decoder.
        weight: w, in [0, 1].
        language_tags: as in :class:`PrefixEnsemble`.

    Raises:
        InputError: the models are unsuitable, or the weight is out of range.
    """

    def __init__(
        self, models: list[nn.Module], weight: float, language_tags: set[int] = frozenset()
    ) -> None:
        super().__init__(models, language_tags)
        if not 0.0 <= weight <= 1.0:
            raise InputError(f"ctc_decoding_weight={weight} is not between 0 and 1")
        self.weight = weight

    def forward_decoder(self, tokens: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor | None]:
        """Interpolated log probabilities ``(N, V)`` and the decoder's attention weights."""
        attention, weights = super().forward_decoder(tokens, *args, **kwargs)
        ctc = self._scorer.step(tokens).to(attention.dtype)
        return torch.lerp(attention, ctc, self.weight), weights
