"""CTC decoding (Graves et al., ICML 2006) as fairseq generators, the fast path.

Greedy decoding takes the best label of each frame. Prefix beam search sums over the alignments of
a text (arXiv 1408.2873), keeps the ``beam`` most probable prefixes and returns an n-best list.
"""

import torch
from fairseq.data import Dictionary
from torch import Tensor, nn

from manifests.errors import InputError
from mmpt_fairseq.decoding.prefix_beam import prefix_beam_search
from mmpt_fairseq.models.speech_to_text import ctc_log_probabilities


def kept_frames(labels: Tensor, blank: int) -> Tensor:
    """``(T,)`` mask, True where the label is neither blank nor a repetition."""
    starts = torch.ones_like(labels, dtype=torch.bool)
    starts[1:] = labels[1:] != labels[:-1]
    return starts & (labels != blank)


def greedy_labels(logits: Tensor, lengths: Tensor, blank: int) -> list[Tensor]:
    """Best-path labels of each row of ``logits`` ``(B, T, V)`` with ``lengths`` ``(B,)`` frames."""
    labels = [row[:n] for row, n in zip(logits.argmax(dim=-1), lengths.tolist(), strict=True)]
    return [row[kept_frames(row, blank)] for row in labels]


def require_ctc(models: list[nn.Module]) -> nn.Module:
    """Return the single model, which must have a CTC head.

    Raises:
        InputError: there are several models, or the model has no CTC head.
    """
    if len(models) != 1 or models[0].encoder.ctc_projection is None:
        raise InputError("CTC decoding needs one model with a CTC head (model.ctc=true)")
    return models[0]


class CTCGenerator(nn.Module):
    """Base class of CTC searches: frame log probabilities in, fairseq's nested list out.

    The blank is the dictionary's BOS, which no target contains.

    Args:
        models: one model with a CTC head.
        dictionary: the target dictionary.
        language_tags: indices of fairseq's ``<lang:xx>`` tokens, which are not reference text.
        beam: number of hypotheses kept by a beam search.
    """

    def __init__(
        self,
        models: list[nn.Module],
        dictionary: Dictionary,
        language_tags: set[int] = frozenset(),
        beam: int = 5,
    ) -> None:
        super().__init__()
        self.beam = beam
        self.model = require_ctc(models)
        self.model.eval()
        self.dictionary = dictionary
        self.eos, self.blank = dictionary.eos(), dictionary.bos()
        self.symbols_to_strip_from_output = {self.eos, *language_tags}
        # Tokens that never occur in CTC targets must not occur in hypotheses.
        self.excluded = [dictionary.pad(), *self.symbols_to_strip_from_output]

    @torch.no_grad()
    def generate(self, models: list[nn.Module], sample: dict, **unused) -> list[list[dict]]:
        """Hypotheses of each row, best first, as fairseq's nested list."""
        [encoder_out] = self.forward_encoder(sample["net_input"])
        return self.search(*ctc_log_probabilities(encoder_out))

    def forward_encoder(self, net_input: dict[str, Tensor]) -> list[dict[str, list[Tensor]]]:
        """Encoder output in the form that fairseq's ensembles return."""
        return [self.model.encoder(net_input["src_tokens"], net_input["src_lengths"])]

    def search(self, lprobs: Tensor, lengths: Tensor) -> list[list[dict]]:
        """Hypotheses per row of ``lprobs`` ``(B, T, V)`` with ``lengths`` ``(B,)`` frames."""
        raise NotImplementedError


class CTCGreedyGenerator(CTCGenerator):
    """Best label per frame, repetitions merged, blanks removed."""

    def search(self, lprobs: Tensor, lengths: Tensor) -> list[list[dict]]:
        """One hypothesis per row: tokens, first and last frame of each, mean frame score."""
        excluded = torch.tensor(self.excluded, device=lprobs.device)
        allowed = lprobs.index_fill(-1, excluded, -torch.inf)
        scores, labels = allowed.max(-1)  # (B, T)
        return [
            [self._collapse(labels[i, :n], scores[i, :n])] for i, n in enumerate(lengths.tolist())
        ]

    def _collapse(self, labels: Tensor, scores: Tensor) -> dict:
        keep = kept_frames(labels, self.blank)
        last = kept_frames(labels.flip(0), self.blank).flip(0)
        tokens = torch.cat([labels[keep], labels.new_tensor([self.eos])])
        positional = torch.cat([scores[keep], scores.new_zeros(1)])
        return {
            "tokens": tokens,
            "score": scores.mean(),
            "positional_scores": positional,
            "alignment": torch.empty(0),
            "frames": keep.nonzero(as_tuple=True)[0],
            "last_frames": last.nonzero(as_tuple=True)[0],
        }


class CTCPrefixBeamGenerator(CTCGenerator):
    """The ``beam`` most probable texts, with probabilities summed over alignments."""

    def search(self, lprobs: Tensor, lengths: Tensor) -> list[list[dict]]:
        """Up to ``beam`` hypotheses per row; the score is the text's log probability."""
        found = prefix_beam_search(lprobs, lengths, self.beam, self.blank, self.excluded)
        return [[self._hypothesis(tokens, score) for tokens, score in row] for row in found]

    def _hypothesis(self, tokens: Tensor, score: Tensor) -> dict:
        tokens = torch.cat([tokens, tokens.new_tensor([self.eos])])
        return {
            "tokens": tokens,
            "score": score,
            # A sum over alignments does not split by token: distribute it evenly.
            "positional_scores": (score / len(tokens)).repeat(len(tokens)),
            "alignment": torch.empty(0),
        }
