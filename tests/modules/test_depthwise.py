"""The depthwise convolution equals torch's conv1d, with another memory layout."""

import pytest
import torch
from torch.nn import functional as F

from mmpt_fairseq.modules import depthwise
from mmpt_fairseq.modules.depthwise import DepthwiseConv

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("clips", "frames", "dim", "kernel"), [(2, 50, 20, 31), (3, 1, 16, 7), (1, 64, 8, 3)]
)
def test_equals_conv1d_forward_and_backward(clips, frames, dim, kernel, dtype):
    torch.manual_seed(0)
    module = DepthwiseConv(dim, kernel).to(dtype)
    x = torch.randn(clips, frames, dim, dtype=dtype, requires_grad=True)
    weight, ours = torch.randn_like(x), module(x)
    found = [ours, *torch.autograd.grad(ours, [x, *module.parameters()], weight)]

    exact = [t.detach().double().requires_grad_() for t in (x, *module.parameters())]
    line, *filters = exact
    reference = F.conv1d(line.mT, *filters, padding=kernel // 2, groups=dim).mT
    expected = [reference, *torch.autograd.grad(reference, exact, weight.double())]
    for actual, target in zip(found, expected, strict=True):
        error = (actual.double() - target).norm() / target.norm().clamp(min=1e-9)
        assert error < TOLERANCE[dtype]


def test_output_does_not_depend_on_the_batch_bit_for_bit():
    torch.manual_seed(0)
    module, x = DepthwiseConv(24, 7), torch.randn(5, 40, 24)
    alone = torch.cat([module(x[i : i + 1]) for i in range(5)])
    assert torch.equal(module(x), alone)


def test_frozen_kernel_gets_no_gradient_but_its_input_does(monkeypatch):
    torch.manual_seed(0)
    module, x = DepthwiseConv(8, 5), torch.randn(2, 9, 8, requires_grad=True)
    (expected,) = torch.autograd.grad(module(x).square().sum(), x)
    module.requires_grad_(False)
    monkeypatch.delattr(depthwise, "_weight_gradient")  # not computed either
    (found,) = torch.autograd.grad(module(x).square().sum(), x)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not module(x.detach()).requires_grad


def test_autocast_computes_in_16_bits_with_gradients_in_32():
    torch.manual_seed(0)
    module, x = DepthwiseConv(8, 5), torch.randn(2, 9, 8)
    exact = torch.autograd.grad(module(x).sin().sum(), list(module.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = module(x)
    found = torch.autograd.grad(rounded.float().sin().sum(), list(module.parameters()))
    assert rounded.dtype == torch.bfloat16
    for ours, reference in zip(found, exact, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - reference).norm() < 2e-2 * reference.norm()
