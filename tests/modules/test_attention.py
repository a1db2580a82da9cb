import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmpt_fairseq.modules.attention import SelfAttention, rotate, sinusoidal_positions


def rotated(vector, position):
    """Rotate channel pairs (i, i + d/2), as complex numbers, by e^(j position frequency)."""
    half = len(vector) // 2
    pairs = torch.complex(vector[:half], vector[half:])
    for i in range(half):
        angle = position * 10000 ** (-i / half)
        pairs[i] = pairs[i] * complex(math.cos(angle), math.sin(angle))
    return torch.cat([pairs.real, pairs.imag])


def reference_attention(attention, x, keep, positions):
    """Reference implementation, one query, one head, one clip at a time."""
    batch, length, dim = x.shape
    weight, bias = attention.qkv.weight, attention.qkv.bias
    size = dim // attention.heads
    out = torch.zeros_like(x)
    for b in range(batch):
        keys = [t for t in range(length) if keep[b, t]]
        for h in range(attention.heads):
            rows = slice(h * size, (h + 1) * size)
            q, k, v = (
                x[b] @ weight[i * dim : (i + 1) * dim][rows].t() + bias[i * dim :][:dim][rows]
                for i in range(3)
            )
            if attention.rotary:
                q = torch.stack([rotated(q[t], positions[b, t].item()) for t in range(length)])
                k = torch.stack([rotated(k[t], positions[b, t].item()) for t in range(length)])
            for t in range(length):
                scores = torch.stack([q[t] @ k[s] / math.sqrt(size) for s in keys])
                weights = scores.exp() / scores.exp().sum()
                out[b, t, rows] = sum(a * v[s] for a, s in zip(weights, keys, strict=True))
    return out @ attention.out.weight.t() + attention.out.bias


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("rotary", [False, True])
@torch.no_grad()
def test_equals_softmax_attention(rotary, padded):
    torch.manual_seed(0)
    attention = SelfAttention(8, 2, rotary=rotary).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    padding = torch.tensor([[False] * 5, [False, False, True, False, True]]) if padded else None
    positions = torch.tensor([[0, 1, 2, 3, 4], [3, 4, 9, 30, 31]])
    keep = torch.ones(2, 5, dtype=torch.bool) if padding is None else ~padding
    expected = reference_attention(attention, x, keep, positions)
    # Angles are computed in single precision.
    assert torch.allclose(attention(x, padding, positions), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("rotary", [False, True])
def test_only_the_fused_kernel_is_used(rotary, padded, dtype):
    """Forward and backward, with all other backends disabled."""
    attention = SelfAttention(8, 2, rotary).to(dtype)
    x = torch.randn(3, 9, 8, dtype=dtype, requires_grad=True)
    padding = torch.arange(9) >= torch.tensor([[9], [4], [1]]) if padded else None
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        attention(x, padding).float().square().sum().backward()
    assert x.grad.abs().sum() > 0


@torch.no_grad()
def test_positions_count_from_zero_by_default():
    attention = SelfAttention(8, 2, rotary=True)
    x = torch.randn(2, 6, 8)
    assert torch.equal(attention(x), attention(x, positions=torch.arange(6).expand(2, 6)))


def test_rotary_scores_depend_only_on_the_distance():
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64)

    def dot(i, j):
        return (rotate(q, torch.tensor([[i]])) * rotate(k, torch.tensor([[j]]))).sum().item()

    for shift in (1, 100, 1400):
        assert dot(7 + shift, 3 + shift) == pytest.approx(dot(7, 3), abs=2e-3)
    assert abs(dot(7, 4) - dot(7, 3)) > 0.01
    assert rotate(q, torch.tensor([[0]])) == pytest.approx(q)
    assert rotate(q, torch.tensor([[900]])).norm().item() == pytest.approx(q.norm().item())


@torch.no_grad()
def test_rotary_attention_is_invariant_to_a_shift_in_time():
    torch.manual_seed(0)
    attention = SelfAttention(16, 4, rotary=True)
    x, time = torch.randn(2, 9, 16), torch.arange(9).expand(2, 9)
    assert torch.allclose(attention(x, None, time), attention(x, None, time + 500), atol=1e-5)
    assert not torch.allclose(attention(x, None, time), attention(x, None, time * 2), atol=1e-3)


@pytest.mark.parametrize("dim", [7, 16])
def test_sinusoidal_positions_follow_their_formula(dim):
    positions = torch.tensor([0, 1, 17, 1499])
    table = sinusoidal_positions(positions, dim)
    half = (dim + 1) // 2
    for row, position in enumerate(positions.tolist()):
        for i in range(dim):
            wave = math.sin if i < half else math.cos
            expected = wave(position * 10000 ** (-(i % half) / (half - 1)))
            assert table[row, i].item() == pytest.approx(expected, abs=2e-4)


def test_gradients_equal_finite_differences():
    torch.manual_seed(0)
    attention = SelfAttention(4, 2, rotary=True).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    padding = torch.tensor([[False, False, False], [False, True, False]])
    assert torch.autograd.gradcheck(lambda y: attention(y, padding), (x,))
