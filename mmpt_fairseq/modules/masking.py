"""Choosing what is masked, and moving between all tokens and the visible ones.

He et al., Masked Autoencoders Are Scalable Vision Learners (arXiv 2111.06377): uniform random
masking without replacement; encoders see the visible tokens only. Spans in time as in wav2vec 2.0
(arXiv 2006.11477), tubes through time as in VideoMAE (arXiv 2203.12602). All mask an exact share.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def random_mask(length: int, ratio: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """``(length,)``, True at :func:`masked_count` positions drawn without replacement."""
    mask = np.zeros(length, dtype=bool)
    mask[rng.permutation(length)[: masked_count(length, ratio)]] = True
    return mask


def span_mask(length: int, ratio: float, span: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """``(length,)``, as many True as in :func:`random_mask`, in runs of ``span`` positions.

    The runs do not overlap but may touch; one of them is shorter where ``span`` does not divide
    their sum. Every order of runs and visible positions on a circle is equally likely, so that
    each position is masked equally often; a run over the circle's seam is cut in two.
    """
    masked = masked_count(length, ratio)
    if not masked:
        return np.zeros(length, dtype=bool)
    runs = [span] * (masked // span) + [masked % span] * (masked % span > 0)
    pieces = np.array([*runs, *[0] * (length - masked)])[
        rng.permutation(len(runs) + length - masked)
    ]
    mask = np.repeat(pieces > 0, np.maximum(pieces, 1))
    return np.roll(mask, int(rng.integers(length)))


def tube_mask(
    grid: tuple[int, int, int], ratio: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """``(t * h * w,)`` for a ``grid`` of patches: the same places masked in every slice of time."""
    t, h, w = grid
    return np.tile(random_mask(h * w, ratio, rng), t)


def masked_count(length: int, ratio: float) -> int:
    """How many of ``length`` positions a share of ``ratio`` masks.

    At least one position stays visible and, for a ratio above 0, one is masked when there are two.
    """
    masked = round(ratio * length)
    if ratio > 0:
        masked = max(masked, 1)
    return max(min(masked, length - 1), 0)


def padding_mask(lengths: Tensor, size: int) -> Tensor:
    """``(B, size)``, True from each length ``(B,)`` on."""
    return torch.arange(size, device=lengths.device)[None] >= lengths[:, None]


@dataclass
class VisibleTokens:
    """Where the visible tokens of a batch stand among all of them.

    Attributes:
        index: ``(B, N)`` position of each visible token, in order of time.
        padding: ``(B, N)``, True where a row has fewer visible tokens than the widest.
        length: L, the number of positions that ``index`` counts.
    """

    index: Tensor
    padding: Tensor
    length: int

    @classmethod
    def from_hidden(cls, hidden: Tensor) -> "VisibleTokens":
        """From ``hidden`` ``(B, L)``, True where a position is masked or padded."""
        counts = (~hidden).sum(1)
        widest = max(int(counts.max()), 1)
        # A stable sort keeps the visible ones first and in order of time.
        index = torch.argsort(hidden.to(torch.uint8), dim=1, stable=True)[:, :widest]
        return cls(index, padding_mask(counts, widest), hidden.size(1))

    def gather(self, x: Tensor) -> Tensor:
        """``(B, L, D)`` -> ``(B, N, D)``."""
        return x.gather(1, self.index[..., None].expand(-1, -1, x.size(-1)))

    def scatter(self, x: Tensor, fill: Tensor | float = 0.0) -> Tensor:
        """``(B, N, D)`` -> ``(B, L, D)`` with ``fill`` (a number or ``(D,)``) elsewhere."""
        # Padded entries are parked behind the end, so that they overwrite nothing.
        full = x.new_zeros(x.size(0), self.length + 1, x.size(-1))
        if isinstance(fill, Tensor) or fill:
            full = full + torch.as_tensor(fill, dtype=x.dtype)
        index = self.index.masked_fill(self.padding, self.length)
        return full.scatter(1, index[..., None].expand_as(x), x)[:, : self.length]

    def interpolate(self, x: Tensor) -> Tensor:
        """``(B, N, D)`` -> ``(B, L, D)``: elsewhere what lies between the nearest on either side.

        Linearly in time; beyond the first or the last it is that one. Of a row in which nothing is
        visible all is zero.
        """
        places = self.index.masked_fill(self.padding, self.length)
        seen = places.new_zeros(len(x), self.length + 1).scatter(1, places, 1)[:, :-1]
        count = (~self.padding).sum(1, keepdim=True)
        upto = seen.cumsum(1)  # how many are visible up to each position
        last = (count - 1).clamp(min=0)
        before, after = (upto - 1).clamp(min=0), torch.minimum(upto - seen, last)
        begin, end = places.gather(1, before), places.gather(1, after)
        time = torch.arange(self.length, device=x.device)
        exact = torch.promote_types(x.dtype, torch.float32)
        share = ((time - begin).to(exact) / (end - begin).clamp(min=1)).clamp(0.0, 1.0)
        x = x.masked_fill(self.padding[..., None], 0.0)
        left, right = (
            x.gather(1, at[..., None].expand(-1, -1, x.size(-1))) for at in (before, after)
        )
        return torch.lerp(left, right, share[..., None].to(x.dtype))
