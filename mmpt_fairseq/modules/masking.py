"""Choosing what is masked, and moving between all tokens and the visible ones.

He et al., Masked Autoencoders Are Scalable Vision Learners (arXiv 2111.06377): uniform random
masking without replacement; encoders see the visible tokens only.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def random_mask(length: int, ratio: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """``(length,)``, True at ``round(ratio * length)`` positions drawn without replacement.

    At least one position stays visible and, for a ratio above 0, one is masked when there are two.
    """
    mask = np.zeros(length, dtype=bool)
    masked = round(ratio * length)
    if ratio > 0:
        masked = max(masked, 1)
    mask[rng.permutation(length)[: min(masked, length - 1)]] = True
    return mask


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
        padding = torch.arange(widest, device=hidden.device)[None] >= counts[:, None]
        return cls(index, padding, hidden.size(1))

    def gather(self, x: Tensor) -> Tensor:
        """``(B, L, D)`` -> ``(B, N, D)``."""
        return x.gather(1, self.index[..., None].expand(-1, -1, x.size(-1)))

    def scatter(self, x: Tensor, fill: Tensor | float = 0.0) -> Tensor:
        """``(B, N, D)`` -> ``(B, L, D)`` with ``fill`` (a number or ``(D,)``) elsewhere."""
        full = x.new_zeros(x.size(0), self.length, x.size(-1)) + torch.as_tensor(
            fill, dtype=x.dtype
        )
        # Padded entries are parked behind the end, so that they overwrite nothing.
        full = torch.cat([full, full.new_zeros(full.size(0), 1, full.size(-1))], dim=1)
        index = self.index.masked_fill(self.padding, self.length)
        return full.scatter(1, index[..., None].expand_as(x), x)[:, : self.length]
