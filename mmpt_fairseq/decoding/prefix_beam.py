"""Batched CTC prefix beam search (arXiv 1408.2873, algorithm 1 without a language model).

Each prefix has two probabilities: of its alignments that end in blank and of those that end in its
last label. A prefix extended to one already in the beam is merged with it. All state is held in
tensors over (rows, prefixes), so that one pass over the frames decodes the whole batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Prefixes are compared by a polynomial hash of their tokens modulo 2^64.
MULTIPLIER = 6364136223846793005


@dataclass
class Prefixes:
    """``K`` prefixes per row; unused slots have probability 0.

    Attributes:
        blank: ``(B, K)`` log probability of the alignments that end in blank.
        label: ``(B, K)`` log probability of those that end in the last label.
        tokens: ``(B, K, L)``, of which the first ``length`` are valid.
        length: ``(B, K)``.
        last: ``(B, K)`` last token; blank for an empty prefix, so that nothing repeats it.
        hash: ``(B, K)`` hash of the tokens.
        parent: ``(B, K)`` hash of all tokens but the last.
    """

    blank: Tensor
    label: Tensor
    tokens: Tensor
    length: Tensor
    last: Tensor
    hash: Tensor
    parent: Tensor

    @classmethod
    def start(cls, rows: int, beam: int, longest: int, blank: int, like: Tensor) -> "Prefixes":
        """State before the first frame: the empty prefix with probability 1."""
        impossible = torch.full((rows, beam), -torch.inf, dtype=torch.float64, device=like.device)
        initial = impossible.clone()
        initial[:, 0] = 0.0
        zeros = torch.zeros((rows, beam), dtype=torch.long, device=like.device)
        # Only the first slot is in use; the hashes of the others must match no prefix.
        hashes = -1 - torch.arange(beam, device=like.device).expand(rows, beam)
        return cls(
            blank=initial,
            label=impossible,
            tokens=zeros[..., None].repeat(1, 1, longest),
            length=zeros,
            last=torch.full_like(zeros, blank),
            hash=hashes,
            parent=torch.full_like(zeros, torch.iinfo(torch.long).min),
        )

    @property
    def total(self) -> Tensor:
        """``(B, K)`` log probability of each prefix as the complete text so far."""
        return torch.logaddexp(self.blank, self.label)


def prefix_beam_search(
    lprobs: Tensor, lengths: Tensor, beam: int, blank: int, excluded: list[int]
) -> list[list[tuple[Tensor, Tensor]]]:
    """The most probable texts of each row as (tokens, log probability), best first.

    Args:
        lprobs: ``(B, T, V)`` log probabilities.
        lengths: ``(B,)`` frames of each row.
        beam: number of prefixes kept, K.
        blank: index of the blank.
        excluded: labels that must not occur in a text.
    """
    rows, frames, _ = lprobs.shape
    lprobs = lprobs.double()
    labels = lprobs.clone()  # of the labels that may extend a prefix
    labels[..., excluded] = -torch.inf
    labels[..., blank] = -torch.inf
    state = Prefixes.start(rows, beam, frames, blank, lprobs)
    shortest = int(lengths.min())
    for t in range(frames):
        active = (t < lengths)[:, None]
        extended = _advance(state, lprobs[:, t, blank], lprobs[:, t], labels[:, t])
        state = extended if t < shortest else _where(active, extended, state)
    return [_best(state, row) for row in range(rows)]


def _where(active: Tensor, new: Prefixes, old: Prefixes) -> Prefixes:
    """``new`` in the rows that are ``active`` ``(B, 1)``, ``old`` in those that have ended."""
    pairs = zip(vars(new).values(), vars(old).values(), strict=True)
    return Prefixes(
        *(torch.where(active[..., None] if a.dim() == 3 else active, a, b) for a, b in pairs)
    )


def _advance(state: Prefixes, blank: Tensor, lprobs: Tensor, labels: Tensor) -> Prefixes:
    """Process one frame: each prefix stays or is extended by one label; keep the best K.

    Only labels that can lead to a kept prefix are considered: the best K extensions of a prefix are
    among the best 2 K labels of the frame, since at most K are merged. Extension by its own last
    label is handled separately.

    Args:
        blank: ``(B,)`` log probability of the blank.
        lprobs, labels: ``(B, V)``, all labels and those that may extend a prefix.
    """
    beam = state.blank.size(1)
    value, label = labels.topk(min(2 * beam + 1, labels.size(1)), dim=1)  # (B, M)
    last_lprob = labels.gather(1, state.last)  # (B, K), of each prefix's last label
    is_last = label[:, None] == state.last[..., None]  # (B, K, M)
    # Repeating the last label requires a blank in between.
    repeated = (state.blank + last_lprob)[..., None]
    extended = torch.where(is_last, repeated, state.total[..., None] + value[:, None])
    repeated = repeated.masked_fill(is_last.any(-1, keepdim=True), -torch.inf)
    # If prefix i is prefix j without its last label, extending i by that label gives j: merge.
    is_parent = state.hash[:, :, None] == state.parent[:, None]  # (B, K of i, K of j)
    repeats = state.last[:, :, None] == state.last[:, None]
    before = torch.where(repeats, state.blank[..., None], state.total[..., None])
    into = before + last_lprob[:, None]
    merged = into.masked_fill(~is_parent, -torch.inf).logsumexp(1)
    # Merged extensions are not candidates of their own. Result: (B, K, 1 + M).
    duplicate = (is_parent[..., None] & is_last[:, None]).any(2)
    repeated = repeated.masked_fill((is_parent & repeats).any(2, keepdim=True), -torch.inf)
    extended = torch.cat([repeated, extended.masked_fill(duplicate, -torch.inf)], dim=2)
    added = torch.cat([state.last[..., None], label[:, None].expand(-1, beam, -1)], dim=2)
    stay_blank = state.total + blank[:, None]
    stay_label = torch.logaddexp(state.label + lprobs.gather(1, state.last), merged)
    return _select(state, stay_blank, stay_label, extended, added)


def _select(
    state: Prefixes, stay_blank: Tensor, stay_label: Tensor, extended: Tensor, added: Tensor
) -> Prefixes:
    """The best K of the unchanged ``(B, K)`` and the extended ``(B, K, 1 + M)`` prefixes."""
    beam, ways = extended.shape[1:]
    stay = torch.logaddexp(stay_blank, stay_label)
    _, chosen = torch.cat([stay, extended.flatten(1)], dim=1).topk(beam, dim=1)
    extends = chosen >= beam
    flat = (chosen - beam).clamp(min=0)
    source = torch.where(extends, flat // ways, chosen)
    token = added.flatten(1).gather(1, flat)

    def pick(values: Tensor) -> Tensor:
        return values.gather(1, source)

    tokens = state.tokens.gather(1, source[..., None].expand_as(state.tokens))
    length, hashes = pick(state.length), pick(state.hash)
    at = length.clamp(max=tokens.size(2) - 1)[..., None]
    written = torch.where(extends[..., None], token[..., None], tokens.gather(2, at))
    impossible = torch.full_like(stay_blank, -torch.inf)
    return Prefixes(
        blank=torch.where(extends, impossible, pick(stay_blank)),
        label=torch.where(extends, extended.flatten(1).gather(1, flat), pick(stay_label)),
        tokens=tokens.scatter(2, at, written),
        length=length + extends,
        last=torch.where(extends, token, pick(state.last)),
        hash=torch.where(extends, hashes * MULTIPLIER + token + 1, hashes),
        parent=torch.where(extends, hashes, pick(state.parent)),
    )


def _best(state: Prefixes, row: int) -> list[tuple[Tensor, Tensor]]:
    scores, order = state.total[row].sort(descending=True, stable=True)
    return [
        (state.tokens[row, k, : state.length[row, k]], score.float())
        for k, score in zip(order.tolist(), scores, strict=True)
        if score > -torch.inf
    ]
