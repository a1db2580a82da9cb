import numpy as np
import pytest
import torch

from mmpt_fairseq.modules.masking import VisibleTokens
from mmpt_fairseq.modules.reconstruction import (
    DecoderInput,
    SharedDecoder,
    audio_patches,
    masked_squared_error,
)


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


def test_masked_squared_error_equals_a_loop():
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


def test_masked_tokens_are_interpolated_like_numpy():
    """With padded clips, one with a single visible token, one with none."""
    rng = np.random.default_rng(0)
    hidden = rng.random((6, 17)) < 0.6
    hidden[0, :5], hidden[1, 9:], hidden[2], hidden[3] = True, True, True, True
    hidden[3, 8] = False
    visible = VisibleTokens.from_hidden(torch.from_numpy(hidden))
    x = torch.randn(6, visible.index.size(1), 3, dtype=torch.float64)
    found = visible.interpolate(x)
    assert not found[2].any()
    for row in (0, 1, 3, 4, 5):
        [positions] = np.nonzero(~hidden[row])
        for channel in range(3):
            values = x[row, : len(positions), channel].numpy()
            expected = np.interp(np.arange(17), positions, values)
            assert found[row, :, channel].tolist() == pytest.approx(expected.tolist())


def test_gradient_of_the_masked_squared_error():
    predicted = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    target, mask = torch.randn(2, 3, 4, dtype=torch.float64), torch.rand(2, 3) < 0.5
    mask[0] = torch.tensor([True, False, True])
    (gradient,) = torch.autograd.grad(
        masked_squared_error(predicted, target, mask).sum(), predicted
    )
    for b in range(2):
        count = max(4 * int(mask[b].sum()), 1)
        expected = 2 * (predicted - target)[b] * mask[b][:, None] / count
        assert torch.allclose(gradient[b], expected.detach(), atol=1e-12)


def decoder():
    torch.manual_seed(0)
    return SharedDecoder(6, 10, 12, 24, dim=16, layers=2, heads=4).eval()


def part(states, hidden, padding=None, positions=None, rows=None):
    """DecoderInput of the clips ``rows`` (default: all)."""
    rows = torch.arange(len(states)) if rows is None else torch.tensor(rows)
    return DecoderInput(states, VisibleTokens.from_hidden(hidden), padding, positions, rows)


AUDIO_HIDDEN = torch.tensor([[False, True, True, False, True], [False, False, True, True, True]])


@torch.no_grad()
def test_decoder_sees_visible_tokens_among_mask_tokens():
    model = decoder()
    encoded = torch.randn(2, 2, 6)
    predicted = model({"audio": part(encoded, AUDIO_HIDDEN)})["audio"]
    for row in range(2):
        tokens = audio_tokens(model, encoded[row], AUDIO_HIDDEN[row])
        expected = model.predict["audio"](model.transformer(tokens[None]))[0]
        assert torch.allclose(predicted[row], expected, atol=1e-5)


def audio_tokens(model, encoded, hidden):
    """The decoder's input for the audio of one clip, position by position."""
    tokens = model.mask_token.repeat(5, 1)
    for token, place in enumerate((~hidden).nonzero().flatten().tolist()):
        tokens[place] = model.project["audio"](encoded[token])
    angle = torch.arange(5)[:, None] * 10000 ** (-torch.arange(8) / 7)
    return tokens + torch.cat([angle.sin(), angle.cos()], 1) + model.modality["audio"]


@torch.no_grad()
def test_interpolation_is_added_to_audio_mask_tokens():
    """Video tokens are unchanged."""
    model = decoder()
    audio_input, video_input = (
        part(torch.randn(2, 2, 6), AUDIO_HIDDEN),
        part(torch.randn(2, 2, 10), AUDIO_HIDDEN),
    )
    without = {
        "audio": model.tokens("audio", audio_input),
        "video": model.tokens("video", video_input),
    }
    model.interpolate = True
    interpolated = audio_input.visible.interpolate(model.project["audio"](audio_input.states))
    expected = without["audio"] + interpolated * AUDIO_HIDDEN[..., None]
    assert torch.allclose(model.tokens("audio", audio_input), expected, atol=1e-6)
    assert torch.equal(model.tokens("video", video_input), without["video"])


@torch.no_grad()
def test_joint_decoding_uses_one_sequence_of_the_modalities_of_each_clip():
    """Clip 0 has audio and video, clip 1 only audio, clip 2 only video."""
    model = decoder()
    audio_input, video_input = torch.randn(2, 2, 6), torch.randn(2, 2, 10)
    positions = torch.randn(1, 4, 16)
    video_hidden = torch.tensor([[False, True, False, True], [True, False, False, True]])
    parts = {
        "audio": part(audio_input, AUDIO_HIDDEN, rows=[0, 1]),
        "video": part(video_input, video_hidden, positions=positions, rows=[0, 2]),
    }
    predicted = model(parts, jointly=True)
    video = []
    for row in range(2):
        tokens = model.mask_token.repeat(4, 1)
        for token, place in enumerate((~video_hidden[row]).nonzero().flatten().tolist()):
            tokens[place] = model.project["video"](video_input[row, token])
        video.append(tokens + positions[0] + model.modality["video"])
    audio = [audio_tokens(model, audio_input[row], AUDIO_HIDDEN[row]) for row in range(2)]
    both = model.transformer(torch.cat([audio[0], video[0]])[None])[0]
    expected = {
        "audio": [both[:5], model.transformer(audio[1][None])[0]],
        "video": [both[5:], model.transformer(video[1][None])[0]],
    }
    for name, rows in expected.items():
        for row, states in enumerate(rows):
            assert torch.allclose(predicted[name][row], model.predict[name](states), atol=1e-5)
    separate = model(parts)
    assert not torch.allclose(separate["audio"][0], predicted["audio"][0], atol=1e-3)
    assert torch.allclose(separate["audio"][1], predicted["audio"][1], atol=1e-5)


@torch.no_grad()
def test_decoder_does_not_attend_to_padding():
    model = decoder()
    encoded = torch.randn(1, 3, 6)
    hidden = torch.tensor([[False, True, False, False, True]])
    alone = model({"audio": part(encoded, hidden)})["audio"]
    longer = torch.cat([hidden, torch.ones(1, 4, dtype=torch.bool)], 1)
    padding = torch.tensor([[False] * 5 + [True] * 4])
    for jointly in (False, True):
        padded = model({"audio": part(encoded, longer, padding)}, jointly)["audio"]
        assert torch.allclose(padded[:, :5], alone, atol=1e-5)


def test_both_modalities_train_the_shared_blocks():
    model = decoder()
    hidden = torch.tensor([[False, True, True]])
    shared = [*model.transformer.parameters(), model.mask_token]
    for modality, other, width in (("audio", "video", 6), ("video", "audio", 10)):
        model.zero_grad()
        model({modality: part(torch.randn(1, 1, width), hidden)})[modality].sum().backward()
        own = [model.modality[modality], *model.project[modality].parameters()]
        assert all(p.grad.any() for p in [*own, model.mask_token])
        assert all(p.grad is not None for p in shared)
        assert model.modality[other].grad is None or not model.modality[other].grad.any()
