"""Depthwise convolution in time over ``(B, T, D)``, as the layers around it hold their states."""

from torch import Tensor, nn


class DepthwiseConv(nn.Conv1d):
    """One odd kernel per channel; zeros beyond both ends."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, D)`` -> ``(B, T, D)``."""
        x = x.transpose(1, 2)
        if x.device.type != "cpu":
            return super().forward(x).transpose(1, 2)
        # On a CPU torch brings every input of conv1d into an order with time innermost, for which
        # oneDNN has slow kernels; channels innermost, as x is, is an order of conv2d alone.
        wide = nn.functional.conv2d(
            x.unsqueeze(2),
            self.weight.unsqueeze(2),
            self.bias,
            padding=(0, *self.padding),
            groups=self.groups,
        )
        return wide.squeeze(2).transpose(1, 2)
