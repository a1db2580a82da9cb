"""CTC prefix scores (arXiv 1706.02737, section 3; equations 12-14 of arXiv 1609.06773).

The probability of a prefix is that of all texts that begin with it. The forward recursions of all
hypotheses are computed together: each is linear in time, so a cumulative sum of scaled terms
replaces the loop over frames. Float64, because products of hundreds of probabilities are divided.
"""

import torch
from torch import Tensor

from mmpt_fairseq.modules.masking import padding_mask

# Log probability of what CTC cannot align; finite, so that a search can always finish.
IMPOSSIBLE = -1e4


class CTCPrefixScorer:
    """CTC prefix scores for fairseq's beam search.

    Args:
        lprobs: ``(B, T, V)`` log probabilities of the CTC head.
        lengths: ``(B,)`` frames of each row.
        blank, eos: token indices.
        tags: language tags, which start a hypothesis and are unknown to CTC.
    """

    def __init__(
        self, lprobs: Tensor, lengths: Tensor, blank: int, eos: int, tags: Tensor | None = None
    ) -> None:
        self.blank, self.eos = blank, eos
        self.tags = torch.empty(0, dtype=torch.long) if tags is None else tags
        self.lprobs = lprobs.double()
        padding = padding_mask(lengths, lprobs.size(1))
        self.probs = self.lprobs.exp().masked_fill(padding[..., None], 0.0)
        self.lengths, self.padding = lengths, padding
        self.beam = 0  # hypotheses per row, known from the first step on

    def step(self, tokens: Tensor) -> Tensor:
        """Log probability ``(N, V)`` of each next token given the hypotheses.

        Args:
            tokens: ``(N, L)``, N = rows x beam, with fairseq's leading EOS; one token longer than
                in the previous step.
        """
        if not self.beam:
            self._start(tokens.size(0))
        elif tokens.size(1) > 1:
            self._extend(tokens[:, -1])
        self._scores = self._prefix_scores()
        scores = self._scores - self.prefix[:, None]
        if tokens.size(1) == 1:
            scores[:, self.tags] = 0.0
        # Nothing can follow an impossible hypothesis.
        scores = scores.masked_fill(self.prefix[:, None].isinf(), IMPOSSIBLE)
        return scores.clamp(IMPOSSIBLE, 0.0)

    def reorder(self, order: Tensor) -> None:
        """Keep the hypotheses ``order`` ``(N',)`` in that order; drop rows that have none left."""
        row = self.row[order]
        kept = row.view(-1, self.beam)[:, 0]
        self.ends_label, self.ends_blank = self.ends_label[order], self.ends_blank[order]
        self.last, self.prefix = self.last[order], self.prefix[order]
        self._scores = self._scores[order]
        if len(kept) < len(self.lprobs):
            self.lprobs, self.probs = self.lprobs[kept], self.probs[kept]
            self.lengths, self.padding = self.lengths[kept], self.padding[kept]
        self.row = torch.arange(len(kept), device=row.device).repeat_interleave(self.beam)

    def _start(self, hypotheses: int) -> None:
        """Initialise with empty prefixes: all frames so far are blank.

        ``ends_label`` and ``ends_blank`` ``(N, T + 1)``: log probabilities that the first t frames
        yield the hypothesis and end in its last label, or in a blank.
        """
        rows = len(self.lprobs)
        self.beam = hypotheses // rows
        self.row = torch.arange(rows, device=self.lprobs.device).repeat_interleave(self.beam)
        self.ends_blank = self._cumulative(torch.full_like(self.row, self.blank))
        self.ends_label = torch.full_like(self.ends_blank, -torch.inf)
        self.last = torch.full_like(self.row, self.blank)
        self.prefix = self.ends_blank.new_zeros(hypotheses)

    def _cumulative(self, tokens: Tensor) -> Tensor:
        """``(N, T + 1)``: log probability that the first t frames all emit ``tokens``."""
        own = self.lprobs[self.row, :, tokens]
        return torch.cat([own.new_zeros(len(own), 1), own.cumsum(1)], dim=1)

    def _before(self, repeated: Tensor) -> Tensor:
        """``(N, T)``: log probability that the hypothesis is complete just before each frame.

        That is where the next token may start; one that is ``repeated`` needs a blank before it.
        """
        either = torch.logaddexp(self.ends_label, self.ends_blank)
        return torch.where(repeated[:, None], self.ends_blank, either)[:, :-1]

    def _extend(self, tokens: Tensor) -> None:
        is_tag = torch.isin(tokens, self.tags.to(tokens.device))
        before = self._before(tokens == self.last)
        ends_label = _solve_recursion(before, self._cumulative(tokens))
        ends_blank = _solve_recursion(
            ends_label[:, :-1], self._cumulative(torch.full_like(tokens, self.blank))
        )
        keep = is_tag[:, None]
        self.ends_label = torch.where(keep, self.ends_label, ends_label)
        self.ends_blank = torch.where(keep, self.ends_blank, ends_blank)
        self.last = torch.where(is_tag, self.last, tokens)
        reached = self._scores.gather(1, tokens[:, None])[:, 0]
        # fairseq keeps finished hypotheses in the beam if there are no others.
        reached = reached.masked_fill(tokens == self.eos, -torch.inf)
        self.prefix = torch.where(is_tag, self.prefix, reached)

    def _prefix_scores(self) -> Tensor:
        """``(N, V)``: log probability of each hypothesis plus one token, or of its end at EOS."""
        no_repeat = torch.zeros_like(self.last, dtype=torch.bool)
        before = self._before(no_repeat).masked_fill(self.padding[self.row], -torch.inf)
        largest = before.amax(1, keepdim=True).clamp(min=torch.finfo(before.dtype).min)
        weights = (before - largest).exp().view(len(self.lprobs), self.beam, -1)
        sums = (weights @ self.probs).view(len(self.row), -1)  # (N, V)
        scores = sums.log() + largest
        repeat = self._before(~no_repeat).masked_fill(self.padding[self.row], -torch.inf)
        last = (repeat + self.lprobs[self.row, :, self.last]).logsumexp(1)
        scores.scatter_(1, self.last[:, None], last[:, None])
        end = self.lengths[self.row][:, None]
        ends = torch.logaddexp(self.ends_label.gather(1, end), self.ends_blank.gather(1, end))
        scores[:, self.eos] = ends[:, 0]
        scores[:, self.blank] = -torch.inf
        return scores


def _solve_recursion(enter: Tensor, cumulative: Tensor) -> Tensor:
    """Solve r[t] = p[t] (r[t-1] + enter[t-1]) with r[0] = 0, in the log domain.

    Args:
        enter: ``(N, T)``, log of enter[0] ... enter[T-1].
        cumulative: ``(N, T + 1)`` log of p[1] ... p[t].

    Returns:
        ``(N, T + 1)`` log of r.
    """
    sums = (enter - cumulative[:, :-1]).logcumsumexp(1) + cumulative[:, 1:]
    return torch.cat([torch.full_like(sums[:, :1], -torch.inf), sums], dim=1)
