"""Padding masks, and conversion between all tokens of a clip and the visible ones.

Encoders of masked autoencoders only process visible tokens (arXiv 2111.06377).
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def padding_mask(lengths: Tensor, size: int) -> Tensor:
    """``(B, size)``, True = padded: positions from each of ``lengths`` ``(B,)`` on."""
    return torch.arange(size, device=lengths.device)[None] >= lengths[:, None]


@dataclass
class VisibleTokens:
    """Positions of the visible tokens of a batch.

    Attributes:
        index: ``(B, N)`` position of each visible token among the L, ascending.
        padding: ``(B, N)``, True = padded, in rows with fewer than N visible tokens.
        length: L.
    """

    index: Tensor
    padding: Tensor
    length: int

    @classmethod
    def from_hidden(cls, hidden: Tensor) -> "VisibleTokens":
        """From ``hidden`` ``(B, L)``, True = masked or padded."""
        counts = (~hidden).sum(1)
        longest = max(int(counts.max()), 1)
        # A stable sort puts the visible ones first, in their original order.
        index = torch.argsort(hidden.to(torch.uint8), dim=1, stable=True)[:, :longest]
        return cls(index, padding_mask(counts, longest), hidden.size(1))

    def gather(self, x: Tensor) -> Tensor:
        """``(B, L, D)`` -> ``(B, N, D)``."""
        return x.gather(1, self.index[..., None].expand(-1, -1, x.size(-1)))

    def scatter(self, x: Tensor, fill: Tensor | float = 0.0) -> Tensor:
        """``(B, N, D)`` -> ``(B, L, D)`` with ``fill`` (a number or ``(D,)``) elsewhere."""
        # Padded entries are written to an extra position L, so that they overwrite nothing.
        full = x.new_zeros(x.size(0), self.length + 1, x.size(-1))
        if isinstance(fill, Tensor) or fill:
            full = full + torch.as_tensor(fill, dtype=x.dtype)
        index = self.index.masked_fill(self.padding, self.length)
        return full.scatter(1, index[..., None].expand_as(x), x)[:, : self.length]

    def interpolate(self, x: Tensor) -> Tensor:
        """``(B, N, D)`` -> ``(B, L, D)``, linearly interpolated between visible neighbours.

        Before the first and after the last visible token, that token is repeated. A row without
        visible tokens is zero.
        """
        positions = self.index.masked_fill(self.padding, self.length)
        visible = positions.new_zeros(len(x), self.length + 1).scatter(1, positions, 1)[:, :-1]
        count = (~self.padding).sum(1, keepdim=True)
        cumulative = visible.cumsum(1)  # number of visible tokens up to each position
        last = (count - 1).clamp(min=0)
        before, after = (cumulative - 1).clamp(min=0), torch.minimum(cumulative - visible, last)
        begin, end = positions.gather(1, before), positions.gather(1, after)
        time = torch.arange(self.length, device=x.device)
        dtype = torch.promote_types(x.dtype, torch.float32)
        fraction = ((time - begin).to(dtype) / (end - begin).clamp(min=1)).clamp(0.0, 1.0)
        x = x.masked_fill(self.padding[..., None], 0.0)
        left, right = (
            x.gather(1, at[..., None].expand(-1, -1, x.size(-1))) for at in (before, after)
        )
        return torch.lerp(left, right, fraction[..., None].to(x.dtype))
