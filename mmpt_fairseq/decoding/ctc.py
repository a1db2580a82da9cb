"""Greedy CTC decoding (Graves et al., ICML 2006) as a fairseq generator: the fast path."""

import torch
from fairseq.data import Dictionary
from torch import Tensor, nn

from mmpt_fairseq.errors import InputError


def kept_frames(labels: Tensor, blank: int) -> Tensor:
    """``(T,)``, True where a label stands that is neither blank nor a repetition."""
    starts = torch.ones_like(labels, dtype=torch.bool)
    starts[1:] = labels[1:] != labels[:-1]
    return starts & (labels != blank)


class CTCGreedyGenerator(nn.Module):
    """Best label per frame, repeats merged, blanks dropped.

    The blank is the dictionary's BOS, which no target holds.

    Args:
        models: one model with a CTC head.
        dictionary: the target dictionary.
        language_tags: tokens of fairseq's ``<lang:xx>``, no part of a reference's text.
    """

    def __init__(
        self, models: list[nn.Module], dictionary: Dictionary, language_tags: set[int] = frozenset()
    ) -> None:
        super().__init__()
        if len(models) != 1 or models[0].encoder.ctc_projection is None:
            raise InputError("CTC decoding needs one model with a CTC head (model.ctc=true)")
        self.model = models[0]
        self.model.eval()
        self.dictionary = dictionary
        self.eos, self.blank = dictionary.eos(), dictionary.bos()
        self.symbols_to_strip_from_output = {self.eos, *language_tags}

    @torch.no_grad()
    def generate(self, models: list[nn.Module], sample: dict, **unused) -> list[list[dict]]:
        """fairseq's nested list: per row one hypothesis with tokens, score and alignment."""
        net_input = sample["net_input"]
        encoder_out = self.model.encoder(net_input["src_tokens"], net_input["src_lengths"])
        lprobs = encoder_out["ctc_logits"][0].float().log_softmax(-1).transpose(0, 1)
        scores, labels = lprobs.max(-1)  # (B, T)
        lengths = encoder_out["src_lengths"][0]
        return [
            [self._collapse(labels[i, :n], scores[i, :n])] for i, n in enumerate(lengths.tolist())
        ]

    def _collapse(self, labels: Tensor, scores: Tensor) -> dict:
        keep = kept_frames(labels, self.blank)
        tokens = torch.cat([labels[keep], labels.new_tensor([self.eos])])
        positional = torch.cat([scores[keep], scores.new_zeros(1)])
        return {
            "tokens": tokens,
            "score": scores.mean(),
            "positional_scores": positional,
            "alignment": torch.empty(0),
            "frames": keep.nonzero(as_tuple=True)[0],
        }
