import math

import pytest
import torch

from mmpt_fairseq.modules.vit import Block, Transformer, VideoPatches


def patches(frames=4, size=12, patch_frames=2, patch_size=4, dim=16):
    return VideoPatches(frames, size, patch_frames, patch_size, dim)


def test_cut_equals_naive_slicing_by_time_row_column():
    cutter, video = patches(), torch.randn(2, 3, 4, 12, 12)
    cut = cutter.patchify(video)
    assert cut.shape == (2, 18, 96)
    expected = [
        video[:, :, t : t + 2, y : y + 4, x : x + 4].permute(0, 2, 3, 4, 1).flatten(1)
        for t in range(0, 4, 2)
        for y in range(0, 12, 4)
        for x in range(0, 12, 4)
    ]
    assert torch.equal(cut, torch.stack(expected, dim=1))
    assert math.prod(cutter.grid) == len(expected)


@pytest.mark.parametrize("sizes", [(4, 12, 2, 4), (3, 8, 1, 8), (16, 32, 2, 16)])
def test_join_inverts_cut(sizes):
    cutter = patches(*sizes)
    video = torch.randn(2, 3, sizes[0], sizes[1], sizes[1])
    assert torch.equal(cutter.unpatchify(cutter.patchify(video)), video)


@pytest.mark.parametrize("sizes", [(4, 12, 2, 4), (2, 8, 1, 8), (1, 130, 1, 1), (1, 128, 1, 1)])
def test_slices_are_means_of_patches_for_float_and_uint8(sizes):
    """Including white video, with the largest sums."""
    frames, size, _, _ = sizes
    cutter = patches(*sizes)
    video = torch.randint(0, 256, (3, 3, frames, size, size), dtype=torch.uint8)
    video[0] = 255
    scaled = video.double() / 127.5 - 1
    expected = cutter.patchify(scaled).view(3, cutter.grid[0], -1, cutter.patch_dim).mean(2)
    found = cutter.patchify_slices(video)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected, atol=1e-6)
    assert torch.allclose(cutter.patchify_slices(scaled), expected, atol=1e-12)


@pytest.mark.parametrize("sizes", [(5, 12, 2, 4), (4, 10, 2, 4)])
def test_sizes_that_patches_do_not_divide_are_refused(sizes):
    with pytest.raises(ValueError, match="not a whole number of patches"):
        patches(*sizes)


def test_positions_encode_time_row_and_column():
    cutter = patches()
    table = cutter.positions(16)[0].view(2, 3, 3, 16)

    def wave(position, half, i):
        function = math.sin if i < half else math.cos
        return function(position * 10000 ** (-(i % half) / max(half - 1, 1)))

    for t in range(2):
        for y in range(3):
            for x in range(3):
                expected = [wave(t, 4, i) for i in range(8)]
                expected += [wave(y, 2, i) for i in range(4)] + [wave(x, 2, i) for i in range(4)]
                assert table[t, y, x].tolist() == pytest.approx(expected, abs=1e-5)
    rows = table.flatten(0, 2)
    assert float((torch.cdist(rows, rows) + 9 * torch.eye(18)).min()) > 0.1
    assert cutter.positions(21).shape == (1, 18, 21)


@torch.no_grad()
def test_padded_tokens_do_not_affect_others():
    torch.manual_seed(0)
    model = Transformer(16, 2, 4).eval()
    x = torch.randn(2, 7, 16)
    padding = torch.tensor([[False] * 7, [False] * 4 + [True] * 3])
    out = model(x, padding)
    assert torch.allclose(out[1, :4], model(x[1:, :4])[0], atol=1e-6)
    x[1, 4:] = 1e3
    assert torch.equal(model(x, padding)[1, :4], out[1, :4])
    assert torch.equal(model(x, torch.zeros(2, 7, dtype=torch.bool)), model(x))


@torch.no_grad()
def test_transformer_is_equivariant_to_token_order():
    torch.manual_seed(0)
    model = Transformer(16, 2, 4).eval()
    x, order = torch.randn(1, 9, 16), torch.randperm(9)
    assert torch.allclose(model(x[:, order]), model(x)[:, order], atol=1e-5)


@torch.no_grad()
def test_block_equals_its_formula():
    torch.manual_seed(0)
    block = Block(8, 2).double().eval()
    x = torch.randn(2, 5, 8, dtype=torch.float64)

    def norm(y):
        return (y - y.mean(-1, keepdim=True)) / (
            y.var(-1, unbiased=False, keepdim=True) + 1e-5
        ).sqrt()

    y = x + block.attention(norm(x))
    inner = norm(y) @ block.ffn[1].weight.t() + block.ffn[1].bias
    inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    expected = y + inner @ block.ffn[3].weight.t() + block.ffn[3].bias
    assert torch.allclose(block(x), expected, atol=1e-10)


def test_activation_checkpointing_gives_the_same_gradients():
    x = torch.randn(2, 5, 16)
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = Transformer(16, 2, 4, checkpoint_activations=recompute).train()
        model(x).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))
