"""Pooling of a sequence to one vector per clip."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def masked_mean(x: Tensor, padding: Tensor | None = None) -> Tensor:
    """Mean over time, ``(B, T, D)`` -> ``(B, D)``; ``padding`` ``(B, T)``, True = padded."""
    if padding is None:
        return x.mean(dim=1)
    weight = (~padding).to(x.dtype)[..., None]
    return (x * weight).sum(1) / weight.sum(1).clamp(min=1.0)


class AttentionPooling(nn.Module):
    """Attention pooling with one learnt query per head (arXiv 1810.00825, PMA with one seed).

    Args:
        dim: width D, a multiple of ``heads``.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(0.02 * torch.randn(heads, 1, dim // heads))
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """``x`` ``(B, T, D)`` -> ``(B, D)``; ``padding`` ``(B, T)``, True = padded."""
        batch, length, dim = x.shape
        heads = self.query.size(0)
        k, v = (
            t.view(batch, length, heads, -1).transpose(1, 2)  # (B, heads, T, D / heads)
            for t in self.key_value(x).chunk(2, dim=-1)
        )
        query = self.query.to(k.dtype).expand(batch, -1, -1, -1)
        attend = None if padding is None else ~padding[:, None, None, :]
        pooled = F.scaled_dot_product_attention(query, k, v, attn_mask=attend)
        return self.out(pooled.reshape(batch, dim))
