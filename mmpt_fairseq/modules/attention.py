"""Multi-head self-attention on PyTorch's fused kernel, which never builds the attention matrix.

There is no dropout on attention weights: on CPUs PyTorch would not use the fused kernel with it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Self-attention (arXiv 1706.03762), optionally with rotary positions (RoPE, arXiv 2104.09864).

    Args:
        dim: width D, a multiple of ``heads``.
        heads: number of heads.
        rotary: rotate queries and keys by their positions.
    """

    def __init__(self, dim: int, heads: int, rotary: bool = False) -> None:
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, padding: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """``x`` ``(B, T, D)`` -> ``(B, T, D)``.

        Args:
            padding: ``(B, T)``, True = padded. A fully padded row attends to its padding: its
                output is meaningless, but finite.
            positions: ``(B, T)`` for rotary attention; default 0, 1, ...
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
        attend = None
        if padding is not None:
            attend = (~padding | padding.all(1, keepdim=True))[:, None, None, :]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=attend)
        return self.out(attended.transpose(1, 2).reshape(batch, length, dim))


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Rotate channel pairs (i, i + d/2) by ``position * 10000^(-2i/d)``; x ``(B, heads, T, d)``."""
    half = x.size(-1) // 2
    frequency = 10000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = positions[:, None, :, None].float() * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half : 2 * half]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def sinusoidal_positions(positions: Tensor, dim: int) -> Tensor:
    """Sinusoidal embeddings ``(..., D)`` of ``positions`` ``(...)``, of unlimited range."""
    half = (dim + 1) // 2
    frequency = 10000.0 ** (-torch.arange(half, device=positions.device) / max(half - 1, 1))
    angle = positions[..., None].float() * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)[..., :dim]
