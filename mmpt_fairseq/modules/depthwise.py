"""Depthwise convolution in time over ``(B, T, D)``, as the layers around it hold their states."""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

BLOCK = 32  # frames: short ones mean small products, long ones many that no tap needs


class DepthwiseConv(nn.Conv1d):
    """One odd kernel per channel; zeros beyond both ends."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, D)`` -> ``(B, T, D)``."""
        if x.device.type != "cpu":
            return super().forward(x.transpose(1, 2)).transpose(1, 2)
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
        if torch.is_grad_enabled() and weight.requires_grad:
            return _OnCPU.apply(x, weight, bias)
        return _convolve(x, weight, bias)


class _OnCPU(torch.autograd.Function):
    """``y[b, t, d] = bias[d] + sum_k weight[d, k] x[b, t + k - K // 2, d]``, K the kernel's length,
    and its gradients: the kernels' by matrix products, for oneDNN's own is slow."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = _convolve(gradient, weight.flip(-1), None)
        return of_x, _of_kernels(x, gradient, weight.size(-1))[:, None], gradient.sum((0, 1))


def _of_kernels(x: Tensor, gradient: Tensor, kernel: int) -> Tensor:
    """``g[d, k] = sum_bt gradient[b, t, d] x[b, t + k - K // 2, d]``, ``(D, K)``.

    For each channel every frame of a block is multiplied with every frame that one of the block
    had met; block by block, that is a matrix product. A tap's own are a diagonal of it.
    """
    frames = x.size(1)
    blocks = -(-frames // BLOCK)
    rest, around = blocks * BLOCK - frames, kernel // 2
    gradient = nn.functional.pad(gradient, (0, 0, 0, rest))
    gradient = gradient.unflatten(1, (blocks, BLOCK)).flatten(0, 1)  # (B x blocks, BLOCK, D)
    width = BLOCK + kernel - 1
    met = nn.functional.pad(x, (0, 0, around, around + rest)).unfold(1, width, BLOCK)
    met = met.flatten(0, 1)  # (B x blocks, D, width)
    products = torch.bmm(gradient.permute(2, 1, 0), met.transpose(0, 1)).contiguous()
    taps = products.as_strided((len(products), BLOCK, kernel), (BLOCK * width, width + 1, 1))
    return taps.sum(1)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``(B, T, D)`` by ``(D, 1, kernel)`` -> ``(B, T, D)``.

    On a CPU torch brings every input of conv1d into an order with time innermost, for which oneDNN
    has slow kernels; channels innermost, as ``x`` is, is an order of conv2d alone.
    """
    wide = nn.functional.conv2d(
        x.transpose(1, 2).unsqueeze(2),
        weight.unsqueeze(2),
        bias,
        padding=(0, weight.size(-1) // 2),
        groups=len(weight),
    )
    return wide.squeeze(2).transpose(1, 2)
