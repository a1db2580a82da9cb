"""CTC prefix beam search (arXiv 1408.2873, algorithm 1 without a language model), over a batch.

Per prefix two probabilities are kept: of the alignments that end in blank, and in its last label.
A prefix that grows into one that the beam holds already is merged with it. Everything is a tensor
over (rows, prefixes): one pass over the frames serves the whole batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Prefixes are compared by a polynomial hash modulo 2^64 of their tokens.
MULTIPLIER = 6364136223846793005


@dataclass
class Prefixes:
    """``K`` prefixes a row; empty places have the probability 0.

    Attributes:
        blank: ``(B, K)`` log probability of the alignments that end in blank.
        label: ``(B, K)`` log probability of those that end in the last label.
        tokens: ``(B, K, L)``, of which ``length`` count.
        length: ``(B, K)``.
        last: ``(B, K)`` last token; the blank in an empty prefix, which nothing repeats.
        name: ``(B, K)`` hash of the tokens.
        parent: ``(B, K)`` hash of all tokens but the last.
    """

    blank: Tensor
    label: Tensor
    tokens: Tensor
    length: Tensor
    last: Tensor
    name: Tensor
    parent: Tensor

    @classmethod
    def start(cls, rows: int, beam: int, longest: int, blank: int, like: Tensor) -> "Prefixes":
        """The empty prefix with probability 1."""
        nothing = torch.full((rows, beam), -torch.inf, dtype=torch.float64, device=like.device)
        certain = nothing.clone()
        certain[:, 0] = 0.0
        whole = torch.zeros((rows, beam), dtype=torch.long, device=like.device)
        # Only the first place is in use; the others' names must equal nothing.
        names = -1 - torch.arange(beam, device=like.device).expand(rows, beam)
        return cls(
            blank=certain,
            label=nothing,
            tokens=whole[..., None].repeat(1, 1, longest),
            length=whole,
            last=torch.full_like(whole, blank),
            name=names,
            parent=torch.full_like(whole, torch.iinfo(torch.long).min),
        )

    @property
    def total(self) -> Tensor:
        """``(B, K)`` log probability of each prefix as the whole text so far."""
        return torch.logaddexp(self.blank, self.label)


def prefix_beam_search(
    lprobs: Tensor, lengths: Tensor, beam: int, blank: int, excluded: Tensor
) -> list[list[tuple[Tensor, Tensor]]]:
    """The most probable texts per row as (tokens, log probability), best first.

    Args:
        lprobs: ``(B, T, V)`` log probabilities.
        lengths: ``(B,)`` frames of each row.
        beam: prefixes that are kept, K.
        blank: the blank's index.
        excluded: labels that no text may hold.
    """
    rows, frames, _ = lprobs.shape
    lprobs = lprobs.double()
    labels = lprobs.clone()  # what a prefix may grow by
    labels[..., excluded.to(labels.device)] = -torch.inf
    labels[..., blank] = -torch.inf
    state = Prefixes.start(rows, beam, frames, blank, lprobs)
    shortest = int(lengths.min())
    for t in range(frames):
        going = (t < lengths)[:, None]
        grown = _advance(state, lprobs[:, t, blank], lprobs[:, t], labels[:, t])
        state = grown if t < shortest else _where(going, grown, state)
    return [_best(state, row) for row in range(rows)]


def _where(going: Tensor, new: Prefixes, old: Prefixes) -> Prefixes:
    """``new`` in the rows ``(B, 1)`` that go on, ``old`` in those that have ended."""
    pairs = zip(vars(new).values(), vars(old).values(), strict=True)
    return Prefixes(
        *(torch.where(going[..., None] if a.dim() == 3 else going, a, b) for a, b in pairs)
    )


def _advance(state: Prefixes, blank: Tensor, lprobs: Tensor, labels: Tensor) -> Prefixes:
    """One frame: every prefix stays as it is or grows by one label; the best K go on.

    Only labels that can be among the best are looked at: the best K of a prefix lie within the
    best 2 K of the frame, for at most K are merged; its own last label is looked at apart.

    Args:
        blank: ``(B,)`` log probability of the blank.
        lprobs, labels: ``(B, V)``, all labels and those that may be added.
    """
    beam = state.blank.size(1)
    value, label = labels.topk(min(2 * beam + 1, labels.size(1)), dim=1)  # (B, M)
    own = labels.gather(1, state.last)  # (B, K), of each prefix's last label
    is_last = label[:, None] == state.last[..., None]  # (B, K, M)
    # Growing by the last label takes a blank in between.
    again = (state.blank + own)[..., None]
    grown = torch.where(is_last, again, state.total[..., None] + value[:, None])
    again = again.masked_fill(is_last.any(-1, keepdim=True), -torch.inf)
    # Prefix i grown by the last label of prefix j is j, where i is j without its last label.
    same = state.name[:, :, None] == state.parent[:, None]  # (B, K of i, K of j)
    repeats = state.last[:, :, None] == state.last[:, None]
    into = torch.where(repeats, state.blank[..., None], state.total[..., None]) + own[:, None]
    merged = into.masked_fill(~same, -torch.inf).logsumexp(1)
    # Not candidates of their own then.
    taken = (same[..., None] & is_last[:, None]).any(2)
    again = again.masked_fill((same & repeats).any(2, keepdim=True), -torch.inf)
    grown = torch.cat([again, grown.masked_fill(taken, -torch.inf)], dim=2)  # (B, K, 1 + M)
    added = torch.cat([state.last[..., None], label[:, None].expand(-1, beam, -1)], dim=2)
    stay_blank = state.total + blank[:, None]
    stay_label = torch.logaddexp(state.label + lprobs.gather(1, state.last), merged)
    return _select(state, stay_blank, stay_label, grown, added)


def _select(
    state: Prefixes, stay_blank: Tensor, stay_label: Tensor, grown: Tensor, added: Tensor
) -> Prefixes:
    """The best K of the prefixes ``(B, K)`` and of those grown by ``added`` ``(B, K, 1 + M)``."""
    beam, ways = grown.shape[1:]
    stay = torch.logaddexp(stay_blank, stay_label)
    _, chosen = torch.cat([stay, grown.flatten(1)], dim=1).topk(beam, dim=1)
    extends = chosen >= beam
    place = (chosen - beam).clamp(min=0)
    source = torch.where(extends, place // ways, chosen)
    token = added.flatten(1).gather(1, place)

    def pick(values: Tensor) -> Tensor:
        return values.gather(1, source)

    tokens = state.tokens.gather(1, source[..., None].expand_as(state.tokens))
    length, name = pick(state.length), pick(state.name)
    at = length.clamp(max=tokens.size(2) - 1)[..., None]
    written = torch.where(extends[..., None], token[..., None], tokens.gather(2, at))
    impossible = torch.full_like(stay_blank, -torch.inf)
    return Prefixes(
        blank=torch.where(extends, impossible, pick(stay_blank)),
        label=torch.where(extends, grown.flatten(1).gather(1, place), pick(stay_label)),
        tokens=tokens.scatter(2, at, written),
        length=length + extends,
        last=torch.where(extends, token, pick(state.last)),
        name=torch.where(extends, name * MULTIPLIER + token + 1, name),
        parent=torch.where(extends, name, pick(state.parent)),
    )


def _best(state: Prefixes, row: int) -> list[tuple[Tensor, Tensor]]:
    scores, order = state.total[row].sort(descending=True, stable=True)
    return [
        (state.tokens[row, k, : state.length[row, k]], score.float())
        for k, score in zip(order.tolist(), scores, strict=True)
        if score > -torch.inf
    ]
