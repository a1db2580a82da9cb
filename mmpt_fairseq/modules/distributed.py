"""All-gather with gradients between training processes."""

import torch
import torch.distributed
from torch import Tensor


class _AllGather(torch.autograd.Function):
    """All-gather of tensors of the same shape; the backward pass sums gradients of all processes.

    torch's differentiable all-gather is deprecated, and its successor has no gradient.
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> tuple[Tensor, ...]:
        parts = [torch.empty_like(x) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, x.contiguous())
        return tuple(parts)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        total = torch.stack(gradients)
        torch.distributed.all_reduce(total)
        return total[torch.distributed.get_rank()]


def gather_from_all_processes(x: Tensor, rows: int) -> tuple[Tensor, int]:
    """Concatenate the first ``rows`` rows of ``x`` of all processes, with gradients.

    Args:
        x: ``(>= rows, D)``.
        rows: may differ between processes.

    Returns:
        ``(sum of rows, D)``, and the index of this process's first row in it.
    """
    distributed = torch.distributed
    alone = not (distributed.is_available() and distributed.is_initialized())
    processes = 1 if alone else distributed.get_world_size()
    if processes == 1:
        return x[:rows], 0
    counts = [torch.zeros(1, dtype=torch.long, device=x.device) for _ in range(processes)]
    distributed.all_gather(counts, torch.tensor([rows], device=x.device))
    sizes = torch.cat(counts).tolist()
    longest = max(*sizes, 1)
    padded = torch.cat([x[:rows], x.new_zeros(longest - rows, x.size(1))])
    stacked = _AllGather.apply(padded)
    start = sum(sizes[: distributed.get_rank()])
    return torch.cat([part[:n] for part, n in zip(stacked, sizes, strict=True)]), start
