import pytest
import torch

from mmpt_fairseq.modules.masking import VisibleTokens
from mmpt_fairseq.modules.reconstruction import SharedDecoder, audio_patches, masked_squared_error


def test_audio_patches_are_four_frames_each():
    features = torch.randn(2, 10, 3)
    patches = audio_patches(features, 4)
    assert patches.shape == (2, 3, 12)
    for b in range(2):
        for frame in range(12):
            expected = features[b, frame] if frame < 10 else torch.zeros(3)
            start = 3 * (frame % 4)
            assert torch.equal(patches[b, frame // 4, start : start + 3], expected)


def loop_error(predicted, target, mask, weight):
    errors = []
    for b in range(len(predicted)):
        total, count = 0.0, 0
        for patch in range(predicted.shape[1]):
            for value in range(predicted.shape[2]):
                if mask[b, patch] and weight[b, patch, value]:
                    total += float(predicted[b, patch, value] - target[b, patch, value]) ** 2
                    count += 1
        errors.append(total / count if count else 0.0)
    return errors


def test_masked_squared_error_is_a_loop():
    torch.manual_seed(0)
    predicted, target = torch.randn(2, 3, 5, 4)
    mask = torch.rand(3, 5) < 0.6
    mask[2] = False
    weight = (torch.rand(3, 5, 4) < 0.7).float()
    assert masked_squared_error(predicted, target, mask, weight).tolist() == pytest.approx(
        loop_error(predicted, target, mask, weight)
    )
    ones = torch.ones_like(weight)
    assert masked_squared_error(predicted, target, mask).tolist() == pytest.approx(
        loop_error(predicted, target, mask, ones)
    )
    target[~mask] = 1e9
    assert masked_squared_error(predicted, target, mask).tolist() == pytest.approx(
        loop_error(predicted, target, mask, ones)
    )


def test_gradient_of_the_error():
    predicted = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    target, mask = torch.randn(2, 3, 4, dtype=torch.float64), torch.rand(2, 3) < 0.5
    mask[0] = torch.tensor([True, False, True])
    (gradient,) = torch.autograd.grad(
        masked_squared_error(predicted, target, mask).sum(), predicted
    )
    for b in range(2):
        count = max(4 * int(mask[b].sum()), 1)
        expected = 2 * (predicted - target)[b] * mask[b][:, None] / count
        # The error is summed in single precision.
        assert torch.allclose(gradient[b], expected.detach(), atol=1e-6)


def decoder():
    torch.manual_seed(0)
    return SharedDecoder(6, 10, 12, 24, dim=16, layers=2, heads=4).eval()


@torch.no_grad()
def test_decoder_sees_visible_tokens_among_mask_tokens():
    model = decoder()
    hidden = torch.tensor([[False, True, True, False, True], [False, False, True, True, True]])
    encoded = torch.randn(2, 2, 6)
    predicted = model("audio", encoded, VisibleTokens.from_hidden(hidden))
    positions = [0, 1, 2, 3, 4]
    for row, places in enumerate([[0, 3], [0, 1]]):
        tokens = model.mask_token.repeat(5, 1)
        for token, place in enumerate(places):
            tokens[place] = model.project["audio"](encoded[row, token])
        angle = torch.tensor(positions)[:, None] * 10000 ** (-torch.arange(8) / 7)
        x = tokens + torch.cat([angle.sin(), angle.cos()], 1) + model.modality["audio"]
        expected = model.predict["audio"](model.transformer(x[None]))[0]
        assert torch.allclose(predicted[row], expected, atol=1e-5)


@torch.no_grad()
def test_decoder_does_not_see_past_the_end():
    model = decoder()
    encoded = torch.randn(1, 3, 6)
    hidden = torch.tensor([[False, True, False, False, True]])
    alone = model("audio", encoded, VisibleTokens.from_hidden(hidden))
    longer = torch.cat([hidden, torch.ones(1, 4, dtype=torch.bool)], 1)
    padding = torch.tensor([[False] * 5 + [True] * 4])
    padded = model("audio", encoded, VisibleTokens.from_hidden(longer), padding)
    assert torch.allclose(padded[:, :5], alone, atol=1e-5)


def test_both_modalities_train_the_same_blocks():
    model = decoder()
    hidden = torch.tensor([[False, True, True]])
    shared = [*model.transformer.parameters(), model.mask_token]
    for modality, other, width in (("audio", "video", 6), ("video", "audio", 10)):
        model.zero_grad()
        model(
            modality, torch.randn(1, 1, width), VisibleTokens.from_hidden(hidden)
        ).sum().backward()
        own = [model.modality[modality], *model.project[modality].parameters()]
        assert all(p.grad.any() for p in [*own, model.mask_token])
        assert all(p.grad is not None for p in shared)
        assert model.modality[other].grad is None or not model.modality[other].grad.any()
