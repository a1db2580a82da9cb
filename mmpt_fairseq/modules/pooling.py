"""From a sequence to one vector per clip, and across processes."""

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn


def masked_mean(x: Tensor, padding: Tensor | None = None) -> Tensor:
    """Average of ``(B, T, D)`` over the positions where ``padding`` ``(B, T)`` is False."""
    if padding is None:
        return x.mean(dim=1)
    weight = (~padding).to(x.dtype)[..., None]
    return (x * weight).sum(1) / weight.sum(1).clamp(min=1.0)


class AttentionPooling(nn.Module):
    """An average weighted by one learnt query in each head (arXiv 1810.00825, PMA with one seed).

    Args:
        dim: width D, a multiple of ``heads``.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(0.02 * torch.randn(heads, 1, dim // heads))
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """``x`` ``(B, T, D)``, ``padding`` ``(B, T)`` True = padded -> ``(B, D)``."""
        batch, length, dim = x.shape
        heads = self.query.size(0)
        k, v = (
            t.view(batch, length, heads, -1).transpose(1, 2)  # (B, heads, T, D / heads)
            for t in self.key_value(x).chunk(2, dim=-1)
        )
        query = self.query.to(k.dtype).expand(batch, -1, -1, -1)
        seen = None if padding is None else ~padding[:, None, None, :]
        pooled = F.scaled_dot_product_attention(query, k, v, attn_mask=seen)
        return self.out(pooled.reshape(batch, dim))


class _AllGather(torch.autograd.Function):
    """Tensors of one shape from every process; what they all did with one comes back to it.

    torch's own with gradients is deprecated, and its successor has none.
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> tuple[Tensor, ...]:
        parts = [torch.empty_like(x) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, x.contiguous())
        return tuple(parts)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        every = torch.stack(gradients)
        torch.distributed.all_reduce(every)
        return every[torch.distributed.get_rank()]


def gather_from_all_processes(x: Tensor, rows: int) -> tuple[Tensor, int]:
    """Stack the first ``rows`` of every process's ``x`` ``(>= rows, D)``, keeping gradients.

    Returns:
        the stacked ``(sum of rows, D)`` and where this process's rows start in it.
    """
    distributed = torch.distributed
    alone = not (distributed.is_available() and distributed.is_initialized())
    processes = 1 if alone else distributed.get_world_size()
    if processes == 1:
        return x[:rows], 0
    counts = [torch.zeros(1, dtype=torch.long, device=x.device) for _ in range(processes)]
    distributed.all_gather(counts, torch.tensor([rows], device=x.device))
    sizes = [int(c) for c in counts]
    widest = max(*sizes, 1)
    padded = torch.cat([x[:rows], x.new_zeros(widest - rows, x.size(1))])
    stacked = _AllGather.apply(padded)
    start = sum(sizes[: distributed.get_rank()])
    return torch.cat([part[:n] for part, n in zip(stacked, sizes, strict=True)]), start
