"""Depthwise convolution in time over ``(B, T, D)``, as the layers around it hold their states."""

from typing import Optional

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


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
    """The convolution with a gradient of its kernels that takes a fraction of oneDNN's time."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Optional[Tensor], Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = _convolve(gradient, weight.flip(-1), None)
        # What a tap has met is the sum over clips and time of the input, shifted, times the
        # gradient: a convolution whose kernel is the whole gradient, as high as there are clips.
        padding = weight.size(-1) // 2
        shifted = nn.functional.pad(x, (0, 0, padding, padding)).permute(2, 0, 1)
        kernels = gradient.permute(2, 0, 1).unsqueeze(1)
        of_weight = nn.functional.conv2d(shifted.unsqueeze(0), kernels, groups=len(kernels))
        return of_x, of_weight.view_as(weight), gradient.sum((0, 1))


def _convolve(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
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
