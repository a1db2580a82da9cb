import cmath
import math

import numpy as np
import pytest
import torch

from mmpt_fairseq.data.audio import subsampled
from mmpt_fairseq.modules.conformer import ConformerEncoder, ConvolutionModule

POSITIONS = ("sinusoidal", "rotary")


def encoder(positions="sinusoidal", **kwargs):
    torch.manual_seed(0)
    sizes = {"dim": 16, "layers": 2, "heads": 2, "ffn_dim": 32, "kernel": 7, "dropout": 0.1}
    return ConformerEncoder(**{**sizes, **kwargs}, positions=positions).eval()


def batch(*lengths, bins=80, seed=0):
    torch.manual_seed(seed)
    return torch.randn(len(lengths), max(lengths), bins), torch.tensor(lengths)


class ReferenceEncoder:
    """Reference implementation from the papers: one clip, in NumPy loops."""

    def __init__(self, model):
        self.weights = {k: v.double().numpy() for k, v in model.state_dict().items()}
        self.heads, self.rotary = model.layers[0].attention.heads, model.positions == "rotary"
        self.layers = len(model.layers)

    def linear(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name, x):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def convolve(self, name, x, stride, groups=1):
        """Convolve ``x`` ``(T, channels)``, padded by half a kernel."""
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        reach = weight.shape[2] // 2
        rows = []
        for t in range(0, len(x), stride):
            row = bias.copy()
            for tap in range(weight.shape[2]):
                if 0 <= t + tap - reach < len(x):
                    frame = x[t + tap - reach]
                    row += weight[:, 0, tap] * frame if groups > 1 else weight[:, :, tap] @ frame
            rows.append(row)
        return np.array(rows)

    def feed_forward(self, name, x):
        inner = self.linear(f"{name}.1", self.norm(f"{name}.0", x))
        return self.linear(f"{name}.4", inner * sigmoid(inner))

    def attention(self, name, x, positions):
        width = x.shape[1]
        size, out = width // self.heads, np.zeros_like(x)
        q, k, v = np.split(self.linear(f"{name}.qkv", x), 3, axis=1)
        for h in range(self.heads):
            columns = slice(h * size, (h + 1) * size)
            for i in range(len(x)):
                scores = []
                for j in range(len(x)):
                    a, b = q[i, columns], k[j, columns]
                    if self.rotary:
                        scores.append(rotary_product(a, b, positions[i] - positions[j]))
                    else:
                        scores.append(a @ b)
                weights = np.exp(np.array(scores) / math.sqrt(size))
                out[i, columns] = (weights / weights.sum()) @ v[:, columns]
        return self.linear(f"{name}.out", out)

    def convolution(self, name, x, positions, length):
        y = glu(self.linear(f"{name}.pointwise_in", self.norm(f"{name}.norm", x)))
        sequence = np.zeros((length, y.shape[1]))
        sequence[positions] = y
        y = self.convolve(f"{name}.depthwise", sequence, 1, groups=len(sequence[0]))[positions]
        y = self.norm(f"{name}.depthwise_norm", y)
        return self.linear(f"{name}.pointwise_out", y * sigmoid(y))

    def encode(self, features, mask=None):
        """``(T, F)`` -> the visible ``(N, D)``; ``mask`` ``(ceil(T / 4),)``."""
        length = math.ceil(len(features) / 4)
        mask = np.zeros(length, bool) if mask is None else mask
        x = features.copy()
        for t in range(len(x)):
            if mask[t // 4]:
                x[t] = 0
        for i in range(2):
            x = glu(self.convolve(f"subsample.conv_layers.{i}", x, 2))
        if not self.rotary:
            half = x.shape[1] // 2
            angle = np.outer(np.arange(length), 10000 ** (-np.arange(half) / (half - 1)))
            x = math.sqrt(x.shape[1]) * x + np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
        positions = np.flatnonzero(~mask)
        x = x[positions]
        for i in range(self.layers):
            name = f"layers.{i}"
            x = x + self.feed_forward(f"{name}.ffn1", x) / 2
            x = x + self.attention(
                f"{name}.attention", self.norm(f"{name}.attention_norm", x), positions
            )
            x = x + self.convolution(f"{name}.convolution", x, positions, length)
            x = x + self.feed_forward(f"{name}.ffn2", x) / 2
            x = self.norm(f"{name}.norm", x)
        return x


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def glu(x):
    value, gate = np.split(x, 2, axis=1)
    return value * sigmoid(gate)


def rotary_product(a, b, distance):
    """Real part of sum_i a_i conj(b_i) e^(j distance frequency_i) over complex channel pairs."""
    half = len(a) // 2
    total = 0.0
    for i in range(half):
        pair = complex(a[i], a[i + half]) * complex(b[i], b[i + half]).conjugate()
        total += (pair * cmath.exp(1j * distance * 10000 ** (-i / half))).real
    return total


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("positions", POSITIONS)
@torch.no_grad()
def test_equals_the_conformer_of_the_paper(positions, masked):
    model = encoder(positions).double()
    features, lengths = batch(53, 38)
    features = features.double()
    mask = torch.rand(2, 14) < 0.6 if masked else None
    encoded = model(features, lengths, mask)
    plain = ReferenceEncoder(model)
    for row, length in enumerate(lengths.tolist()):
        own = mask[row, : subsampled(length)].numpy() if masked else None
        expected = plain.encode(features[row, :length].numpy(), own)
        states = encoded.states[row][~encoded.padding[row]].numpy()
        assert states == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kernel", [1, 31])
@pytest.mark.parametrize("positions", POSITIONS)
@torch.no_grad()
def test_states_do_not_depend_on_the_batch_up_to_60_seconds(positions, kernel):
    model = encoder(positions, kernel=kernel)
    features, lengths = batch(6000, 1, 3, 1001, 5998)
    encoded = model(features, lengths)
    assert encoded.lengths.tolist() == [1500, 1, 1, 251, 1500]
    for row, length in enumerate(lengths.tolist()):
        alone = model(features[row : row + 1, :length], lengths[row : row + 1]).states[0]
        assert torch.allclose(encoded.states[row, : len(alone)], alone, atol=1e-5)
        assert encoded.padding[row].tolist() == [i >= len(alone) for i in range(1500)]


@pytest.mark.parametrize("positions", POSITIONS)
@torch.no_grad()
def test_states_do_not_depend_on_the_batch_when_masked(positions):
    model = encoder(positions)
    features, lengths = batch(200, 37, 130)
    mask = torch.rand(3, 50) < 0.6
    encoded = model(features, lengths, mask)
    for row, length in enumerate(lengths.tolist()):
        own = mask[row : row + 1, : subsampled(length)]
        alone = model(features[row : row + 1, :length], lengths[row : row + 1], own).states[0]
        assert len(alone) == int((~own).sum())
        assert torch.allclose(encoded.states[row, : len(alone)], alone, atol=1e-5)


@pytest.mark.parametrize("positions", POSITIONS)
@torch.no_grad()
def test_padding_values_do_not_affect_states_bit_for_bit(positions):
    model = encoder(positions)
    features, lengths = batch(80, 41, 2)
    other = features.clone()
    for row, length in enumerate(lengths.tolist()):
        other[row, length:] = float("nan")
    mask = torch.rand(3, 20) < 0.5
    for chosen in (None, mask):
        first, second = model(features, lengths, chosen), model(other, lengths, chosen)
        keep = ~first.padding
        assert torch.equal(first.states[keep], second.states[keep])


@pytest.mark.parametrize("positions", POSITIONS)
@torch.no_grad()
def test_masked_frames_do_not_affect_visible_tokens_bit_for_bit(positions):
    model = encoder(positions, kernel=31)
    features, lengths = batch(400, 333)
    mask = torch.rand(2, 100) < 0.6
    first = model(features, lengths, mask)
    for value in (1e6, float("nan")):
        changed = features.clone()
        changed[mask.repeat_interleave(4, dim=1)] = value
        second = model(changed, lengths, mask)
        keep = ~first.padding
        assert torch.equal(first.states[keep], second.states[keep])
    # A visible patch does affect them.
    patch = int((~mask[0]).nonzero()[3])
    changed = features.clone()
    changed[0, 4 * patch] += 1
    assert not torch.equal(model(changed, lengths, mask).states[0], first.states[0])


@torch.no_grad()
def test_empty_mask_equals_no_mask():
    model = encoder()
    features, lengths = batch(100, 61)
    masked = model(features, lengths, torch.zeros(2, 25, dtype=torch.bool))
    plain = model(features, lengths)
    assert torch.equal(masked.padding, plain.padding)
    keep = ~plain.padding
    assert torch.allclose(masked.states[keep], plain.states[keep], atol=1e-6)


def test_states_depend_on_the_order_in_time():
    features, lengths = batch(80)
    for positions in POSITIONS:
        model = encoder(positions, kernel=1)
        forward = model(features, lengths).states.mean(1)
        backward = model(features.flip(1), lengths).states.mean(1)
        assert not torch.allclose(forward, backward, atol=1e-4)


@pytest.mark.parametrize("frames", range(1, 14))
def test_subsampling_gives_a_quarter_of_the_frames_rounded_up(frames):
    features, lengths = batch(frames)
    assert subsampled(frames) == math.ceil(frames / 4)
    assert encoder()(features, lengths).states.shape == (1, math.ceil(frames / 4), 16)


def test_layers_are_kept_on_request():
    model = encoder(layers=3)
    features, lengths = batch(40)
    encoded = model(features, lengths, keep_layers=True)
    assert len(encoded.layers) == 4
    assert torch.equal(encoded.layers[-1], encoded.states)
    again = model.layers[1](encoded.layers[1], None, torch.arange(10)[None])
    assert torch.equal(again, encoded.layers[2])
    assert model(features, lengths).layers == []


def test_activation_checkpointing_gives_the_same_gradients():
    features, lengths = batch(60, 41)
    mask = torch.rand(2, 15) < 0.5
    gradients = []
    for recompute in (False, True):
        model = encoder(dropout=0.0, checkpoint_activations=recompute).train()
        model(features, lengths, mask).states.square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_gradients_equal_finite_differences():
    model = encoder("rotary", dim=4, ffn_dim=6, kernel=3, features=5).double()
    features = torch.randn(2, 9, 5, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([9, 6])
    mask = torch.tensor([[False, True, False], [False, False, True]])

    def visible_states(x):
        encoded = model(x, lengths, mask)
        return encoded.states[~encoded.padding]

    assert torch.autograd.gradcheck(visible_states, (features,), atol=1e-4)
    visible_states(features).square().sum().backward()
    hidden = mask.repeat_interleave(4, dim=1)[:, :9] | (torch.arange(9) >= lengths[:, None])
    assert not features.grad[hidden].any()
    assert features.grad[~hidden].all()


def test_even_kernel_and_unknown_positions_are_refused():
    for kernel in (4, 0, -1):
        with pytest.raises(ValueError, match=f"kernel={kernel} must be odd"):
            ConvolutionModule(8, kernel, 0.0)
    with pytest.raises(ValueError, match="sinusoidal or rotary, not none"):
        encoder("none")
