"""Depthwise convolution in time over channels-last ``(B, T, D)``, the layout of other layers."""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

BLOCK = 32  # frames; smaller: less efficient products, larger: more products that no tap needs


class DepthwiseConv(nn.Conv1d):
    """One odd-sized kernel per channel, zero padding at both ends."""

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
            return _CPUDepthwiseConv.apply(x, weight, bias)
        return _convolve(x, weight, bias)


class _CPUDepthwiseConv(torch.autograd.Function):
    """Convolution and gradients on CPUs; the weight's by matrix products, as oneDNN's is slow.

    ``y[b, t, d] = bias[d] + sum_k weight[d, k] x[b, t + k - K // 2, d]``, K the kernel size.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = _convolve(gradient, weight.flip(-1), None)
        return grad_x, _weight_gradient(x, gradient, weight.size(-1))[:, None], gradient.sum((0, 1))


def _weight_gradient(x: Tensor, gradient: Tensor, kernel: int) -> Tensor:
    """Gradient of the weight: ``g[d, k] = sum_bt gradient[b, t, d] x[b, t + k - K // 2, d]``.

    For each channel a matrix product multiplies every frame of a block by every input frame in the
    receptive field of the block; the products of one tap are on a diagonal.

    Args:
        x, gradient: ``(B, T, D)``.
        kernel: K.

    Returns:
        ``(D, K)``.
    """
    frames = x.size(1)
    blocks = -(-frames // BLOCK)
    tail, margin = blocks * BLOCK - frames, kernel // 2
    gradient = nn.functional.pad(gradient, (0, 0, 0, tail))
    gradient = gradient.unflatten(1, (blocks, BLOCK)).flatten(0, 1)  # (B x blocks, BLOCK, D)
    width = BLOCK + kernel - 1
    windows = nn.functional.pad(x, (0, 0, margin, margin + tail)).unfold(1, width, BLOCK)
    windows = windows.flatten(0, 1)  # (B x blocks, D, width)
    products = torch.bmm(gradient.permute(2, 1, 0), windows.transpose(0, 1)).contiguous()
    taps = products.as_strided((len(products), BLOCK, kernel), (BLOCK * width, width + 1, 1))
    return taps.sum(1)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``(B, T, D)`` by ``(D, 1, kernel)`` -> ``(B, T, D)``.

    On CPUs torch converts inputs of conv1d to a time-innermost layout, for which oneDNN's kernels
    are slow; only conv2d supports channels-last, the layout of ``x``.
    """
    y = nn.functional.conv2d(
        x.transpose(1, 2).unsqueeze(2),
        weight.unsqueeze(2),
        bias,
        padding=(0, weight.size(-1) // 2),
        groups=len(weight),
    )
    return y.squeeze(2).transpose(1, 2)
