"""What processes show each other while they train."""

import torch
import torch.distributed
from torch import Tensor


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
