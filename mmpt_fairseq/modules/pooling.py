"""From a sequence to one vector per clip, and across processes."""

import torch
import torch.distributed
from torch import Tensor


def masked_mean(x: Tensor, padding: Tensor | None = None) -> Tensor:
    """Average of ``(B, T, D)`` over the positions where ``padding`` ``(B, T)`` is False."""
    if padding is None:
        return x.mean(dim=1)
    weight = (~padding).to(x.dtype)[..., None]
    return (x * weight).sum(1) / weight.sum(1).clamp(min=1.0)


def gather_from_all_processes(x: Tensor, rows: int) -> tuple[Tensor, int]:
    """Stack the first ``rows`` of every process's ``x`` ``(>= rows, D)``, keeping gradients.

    Returns:
        the stacked ``(sum of rows, D)`` and where this process's rows start in it.
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return x[:rows], 0
    if distributed.get_world_size() == 1:
        return x[:rows], 0
    from torch.distributed.nn.functional import all_gather

    counts = [torch.zeros(1, dtype=torch.long, device=x.device) for _ in range(_world_size())]
    distributed.all_gather(counts, torch.tensor([rows], device=x.device))
    sizes = [int(c) for c in counts]
    widest = max(*sizes, 1)
    padded = torch.cat([x[:rows], x.new_zeros(widest - rows, x.size(1))])
    stacked = all_gather(padded)
    start = sum(sizes[: distributed.get_rank()])
    return torch.cat([part[:n] for part, n in zip(stacked, sizes, strict=True)]), start


def _world_size() -> int:
    return torch.distributed.get_world_size()
