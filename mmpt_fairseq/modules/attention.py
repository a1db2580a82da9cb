"""Multi-head self-attention on PyTorch's fused kernel; no attention matrix is ever made.

There is no dropout on attention weights: on a CPU it would make PyTorch leave the fused kernel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Vaswani et al. (arXiv 1706.03762), optionally with rotary positions (arXiv 2104.09864).

    Args:
        dim: width D, a multiple of ``heads``.
        heads: number of heads.
        rotary: turn queries and keys by their position.
    """

    def __init__(self, dim: int, heads: int, rotary: bool = False) -> None:
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, padding: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """``x`` ``(B, T, D)``, ``padding`` ``(B, T)`` True = padded, ``positions`` ``(B, T)``.

        A row of nothing but padding attends to that: its output is not to be read, but finite.
        """
        batch, length, dim = x.shape
        q, k, v = (
            t.view(batch, length, self.heads, -1).transpose(1, 2)  # (B, heads, T, D / heads)
            for t in self.qkv(x).chunk(3, dim=-1)
        )
        if self.rotary:
            if positions is None:
                positions = torch.arange(length, device=x.device).expand(batch, length)
            q, k = rotate(q, positions), rotate(k, positions)
        seen = None
        if padding is not None:
            seen = (~padding | padding.all(1, keepdim=True))[:, None, None, :]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.out(attended.transpose(1, 2).reshape(batch, length, dim))


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Turn each pair of channels by ``position * 10000^(-2i/d)``; x ``(B, heads, T, d)``."""
    half = x.size(-1) // 2
    frequency = 10000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = positions[:, None, :, None].float() * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half : 2 * half]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def sinusoidal_positions(positions: Tensor, dim: int) -> Tensor:
    """Sines and cosines of ``positions`` ``(...)`` as ``(..., D)``; any position is defined."""
    half = (dim + 1) // 2
    frequency = 10000.0 ** (-torch.arange(half, device=positions.device) / max(half - 1, 1))
    angle = positions[..., None].float() * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)[..., :dim]
