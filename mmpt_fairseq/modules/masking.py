"""Padding, and moving between all tokens of a clip and the visible ones.

Encoders of masked autoencoders see the visible tokens alone (arXiv 2111.06377).
"""

from dataclasses import dataclass

import torch
from torch import Tensor


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
