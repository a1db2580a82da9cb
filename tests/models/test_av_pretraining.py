from collections import Counter

import pytest
import torch

from manifests.errors import InputError
from mmpt_fairseq.modules.conformer import ConformerLayer
from mmpt_fairseq.modules.vit import Block
from tests.helpers import av_batch, av_model


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"encoder_positions": "rotary"},
        {"decoder_audio_kernel": 5},
        {"decoder_interpolates": True},
    ],
)
@torch.no_grad()
def test_masked_values_do_not_affect_predictions_bit_for_bit(options):
    model, batch = av_model(**options), av_batch()
    first, _ = model(**batch)
    hidden = batch["audio_mask"].repeat_interleave(4, dim=1)[:, : batch["audio"].size(1)]
    pixels = model.video_encoder.patches.patchify(batch["video"])
    for value in (1e6, float("nan")):
        audio = batch["audio"].masked_fill(hidden[..., None], value)
        masked_pixels = pixels.masked_fill(batch["video_mask"][..., None], value)
        video = model.video_encoder.patches.unpatchify(masked_pixels)
        second, _ = model(**{**batch, "audio": audio, "video": video})
        assert torch.equal(second.audio[0], first.audio[0])  # the longest clip: no padding
        assert torch.equal(second.audio[1, :9], first.audio[1, :9])
        assert torch.equal(second.video, first.video)
        assert not torch.equal(second.audio_error, first.audio_error)
        assert not torch.equal(second.video_error, first.video_error)


@torch.no_grad()
def test_visible_values_affect_predictions_of_their_clip():
    model, batch = av_model(), av_batch()
    first, _ = model(**batch)
    seen = int((~batch["audio_mask"][0]).nonzero()[1])
    audio, video = batch["audio"].clone(), batch["video"].clone()
    audio[0, 4 * seen] += 1
    pixels = model.video_encoder.patches.patchify(video)
    pixels[0, int((~batch["video_mask"][0]).nonzero()[1])] += 1
    video = model.video_encoder.patches.unpatchify(pixels)
    second, _ = model(**{**batch, "audio": audio, "video": video})
    for name in ("audio", "video"):
        assert not torch.equal(getattr(second, name)[0], getattr(first, name)[0])
        assert torch.allclose(getattr(second, name)[1], getattr(first, name)[1], atol=1e-6)


@torch.no_grad()
def test_errors_are_means_over_masked_unpadded_values():
    model, batch = av_model(), av_batch()
    result, _ = model(**batch)
    for row, length in enumerate(batch["audio_lengths"].tolist()):
        predicted = result.audio[row].reshape(-1, 80)  # (4 L, 80): one row per frame
        errors = [
            (predicted[t] - batch["audio"][row, t]) ** 2
            for t in range(length)
            if batch["audio_mask"][row, t // 4]
        ]
        assert result.audio_error[row].item() == pytest.approx(torch.cat(errors).mean().item())
    target = model.video_encoder.patches.patchify(batch["video"])
    for row, mask in enumerate(batch["video_mask"]):
        expected = (result.video[row] - target[row])[mask].square().mean().item()
        assert result.video_error[row].item() == pytest.approx(expected)


@torch.no_grad()
def test_interpolation_changes_audio_predictions_only():
    first, second = (av_model(decoder_interpolates=i)(**av_batch())[0] for i in (False, True))
    assert not torch.allclose(first.audio, second.audio, atol=1e-3)
    assert torch.equal(first.video, second.video)


@pytest.mark.parametrize(
    "options", [{}, {"decoder_audio_kernel": 5}, {"decoder_interpolates": True}]
)
@torch.no_grad()
def test_outputs_do_not_depend_on_the_batch_and_padding(options):
    model, batch = av_model(**options), av_batch()
    together, pairs = model(**batch, contrast=True)
    for row, length in enumerate(batch["audio_lengths"].tolist()):
        alone, pair = model(
            batch["audio"][row : row + 1, :length],
            batch["audio_lengths"][row : row + 1],
            batch["audio_mask"][row : row + 1, : -(-length // 4)],
            batch["video"][row : row + 1],
            batch["video_mask"][row : row + 1],
            torch.tensor([0]),
            torch.tensor([0]),
            audio_unmasked=batch["audio_unmasked"][row : row + 1, :length],
            contrast=True,
        )
        tokens = alone.audio.size(1)
        assert torch.allclose(alone.audio[0], together.audio[row, :tokens], atol=1e-5)
        assert torch.allclose(alone.video[0], together.video[row], atol=1e-5)
        assert alone.audio_error.item() == pytest.approx(together.audio_error[row].item(), abs=1e-5)
        assert torch.allclose(pair.audio[0], pairs.audio[row], atol=1e-5)
        assert torch.allclose(pair.video[0], pairs.video[row], atol=1e-5)


@torch.no_grad()
def test_padding_values_do_not_affect_outputs_bit_for_bit():
    model, batch = av_model(), av_batch()
    first, first_pair = model(**batch, contrast=True)
    changed = {name: batch[name].clone() for name in ("audio", "audio_unmasked")}
    for value in changed.values():
        value[1, batch["audio_lengths"][1] :] = 1e3
    second, second_pair = model(**{**batch, **changed}, contrast=True)
    assert torch.equal(first.audio_error, second.audio_error)
    assert torch.equal(first_pair.audio, second_pair.audio)


@torch.no_grad()
def test_embeddings_are_of_unmasked_input_averaged_over_time():
    model, batch = av_model(), av_batch()
    _, pairs = model(**batch, reconstruct=False, contrast=True)
    other = {**batch, "audio_mask": ~batch["audio_mask"], "video_mask": ~batch["video_mask"]}
    other["audio"] = torch.zeros_like(batch["audio"])
    _, again = model(**other, reconstruct=False, contrast=True)
    assert torch.equal(pairs.audio, again.audio)
    assert torch.equal(pairs.video, again.video)
    length = int(batch["audio_lengths"][1])
    states = model.audio_encoder(
        batch["audio_unmasked"][1:, :length], batch["audio_lengths"][1:]
    ).states[0]
    expected = model.audio_projection(sum(states) / len(states))
    assert torch.allclose(pairs.audio[1], expected / expected.norm(), atol=1e-5)
    encoder = model.video_encoder
    cut = encoder.patches.patchify(batch["video"][1:])[0]
    tokens = encoder.patches.embed(cut) + encoder.patches.positions(16)[0]
    slices = torch.stack([tokens[:16].mean(0), tokens[16:].mean(0)])  # means over space
    expected = model.video_projection(encoder.transformer(slices[None])[0].mean(0))
    assert torch.allclose(pairs.video[1], expected / expected.norm(), atol=1e-5)


@torch.no_grad()
def test_only_clips_with_both_modalities_are_embedded():
    model, batch = av_model(), av_batch()
    _, both = model(**batch, reconstruct=False, contrast=True)
    for name in ("video", "video_mask"):
        batch[name] = batch[name][1:]
    batch["video_rows"] = torch.tensor([1])
    reconstruction, one = model(**batch, contrast=True)
    assert torch.allclose(one.audio, both.audio[1:], atol=1e-5)
    assert torch.allclose(one.video, both.video[1:], atol=1e-5)
    assert (len(reconstruction.audio_error), len(reconstruction.video_error)) == (2, 1)
    for name in ("video", "video_mask", "video_rows"):
        del batch[name]
    reconstruction, none = model(**batch, contrast=True)
    assert none.audio.shape == none.video.shape == (0, 8)
    assert len(reconstruction.video_error) == 0


@torch.no_grad()
def test_bfloat16_is_close_and_embeddings_stay_in_single_precision():
    exact, _ = av_model()(**av_batch())
    model = av_model().bfloat16()
    batch = {k: v.bfloat16() if v.is_floating_point() else v for k, v in av_batch().items()}
    result, pairs = model(**batch, contrast=True)
    assert result.audio_error.tolist() == pytest.approx(exact.audio_error.tolist(), rel=0.05)
    assert result.video_error.tolist() == pytest.approx(exact.video_error.tolist(), rel=0.05)
    for name in ("video", "video_mask", "video_rows"):
        del batch[name]
    # All processes, with and without pairs, must gather the same dtype.
    _, none = model(**batch, contrast=True)
    assert {t.dtype for e in (pairs, none) for t in (e.audio, e.video)} == {torch.float32}


def test_temperature_starts_at_clips_value_and_is_clamped():
    model, batch = av_model(), av_batch()
    _, pairs = model(**batch, reconstruct=False, contrast=True)
    assert pairs.log_scale.exp().item() == pytest.approx(1 / 0.07, rel=1e-5)
    torch.nn.init.constant_(model.log_scale, 9.0)
    _, pairs = model(**batch, reconstruct=False, contrast=True)
    assert pairs.log_scale.exp().item() == pytest.approx(100, rel=1e-5)
    for direction, gradient in ((1, 1), (-1, 0)):  # it can decrease, but not increase
        model.log_scale.grad = None
        (direction * pairs.log_scale).backward(retain_graph=True)
        assert model.log_scale.grad.item() == gradient


def test_every_parameter_gets_a_gradient_from_both_objectives():
    model, batch = av_model(), av_batch()
    reconstruction, pairs = model(**batch, contrast=True)
    loss = reconstruction.audio_error.sum() + reconstruction.video_error.sum()
    loss = loss + (pairs.audio @ pairs.video.t() * pairs.log_scale).square().sum()
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("options", [{}, {"decoder_audio_kernel": 3, "predict_zero_first": True}])
def test_reconstruction_error_falls_in_training(options):
    model, batch = av_model(**options), av_batch()
    batch["audio"] = batch["audio_unmasked"] = torch.linspace(-1, 1, 80).expand(2, 40, 80)
    batch["video"] = torch.linspace(-1, 1, 16).expand(2, 3, 4, 16, 16)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(40):
        result, _ = model(**batch)
        loss = result.audio_error.sum() + result.video_error.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ({"video_patch_size": 5}, "video_patch_size"),
        ({"encoder_embed_dim": 18}, "encoder_embed_dim=18 is not a multiple"),
        ({"video_attention_heads": 3}, r"not a multiple of model\.video_attention_heads=3"),
        ({"decoder_attention_heads": 3}, r"not a multiple of model\.decoder_attention_heads=3"),
        ({"decoder_attention_heads": 0}, r"not a multiple of model\.decoder_attention_heads=0"),
        ({"decoder_audio_kernel": 4}, "decoder_audio_kernel=4 must be odd"),
        ({"decoder_audio_kernel": -3}, "decoder_audio_kernel=-3 must be at least 0"),
        ({"video_patch_size": 0}, "video_patch_size=0 must be at least 1"),
        ({"decoder_layers": -1}, "decoder_layers=-1 must be at least 0"),
        ({"encoder_embed_dim": 0}, "encoder_embed_dim=0 is not a multiple"),
        (
            {"normalise_slices": True, "contrast_masked": True},
            r"normalise_slices=true .* no effect .*contrast_masked=true",
        ),
    ],
)
def test_inconsistent_options_are_refused_by_name(option, key):
    with pytest.raises(InputError, match=key):
        av_model(**option)


@torch.no_grad()
def test_normalised_targets_scale_the_error_per_patch():
    """The error is in units of a patch's standard deviation; predictions have the input's scale."""
    model, batch = av_model(normalise_targets=True), av_batch()
    result, _ = model(**batch)
    for row, length in enumerate(batch["audio_lengths"].tolist()):
        audio, errors = batch["audio"][row, :length], []
        for token in batch["audio_mask"][row, : (length + 3) // 4].nonzero().flatten().tolist():
            patch = audio[4 * token : 4 * token + 4]
            predicted = result.audio[row, token].view(4, 80)[: len(patch)]
            variance = patch.var(unbiased=False) + 1e-6
            errors.append(((predicted - patch) ** 2 / variance).flatten())
        expected = torch.cat(errors).mean().item()
        assert result.audio_error[row].item() == pytest.approx(expected, rel=1e-4)
    target = model.video_encoder.patches.patchify(batch["video"])
    scale = target.var(-1, unbiased=False, keepdim=True) + 1e-6
    for row, mask in enumerate(batch["video_mask"]):
        expected = ((result.video[row] - target[row]) ** 2 / scale[row])[mask].mean().item()
        assert result.video_error[row].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_targets_are_normalised_in_single_precision(dtype):
    """In half precision the mean of a nearly constant patch would be inaccurate."""
    model = av_model(normalise_targets=True)
    torch.manual_seed(0)
    target = (0.7 + 0.01 * torch.randn(1, 3, 320)).to(dtype)
    target[0, 0] = 0.7
    mask, predicted = torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3, 320, dtype=dtype)
    error, _ = model.reconstruction_error(predicted, target, mask)
    expected, _ = model.reconstruction_error(predicted.float(), target.float(), mask)
    assert error.item() == pytest.approx(expected.item(), rel=1e-6)


def test_compiled_layers_give_the_same_loss_and_gradients_at_any_length():
    """Tracing without code generation; four graphs: two kinds of layers, padded or not."""
    plain, compiled = av_model(), av_model()
    compiled.compile_layers("eager")
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    graphs = torch._dynamo.utils.counters["stats"]
    before = graphs["unique_graphs"]
    for frames in (40, 28, 36, 24, 32):
        batch = av_batch()
        batch["audio"] = batch["audio"][:, :frames]
        batch["audio_lengths"] = torch.tensor([frames, frames - 7])
        batch["audio_mask"] = batch["audio_mask"][:, : frames // 4]
        losses = []
        for model in (plain, compiled):
            result, _ = model(**batch)
            loss = result.audio_error.sum() + result.video_error.sum()
            model.zero_grad()
            loss.backward()
            losses.append(loss.item())
        assert losses[1] == pytest.approx(losses[0], rel=1e-6)
        for ours, theirs in zip(plain.parameters(), compiled.parameters(), strict=True):
            if ours.grad is not None:
                assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)
    assert 2 <= graphs["unique_graphs"] - before <= 4


def test_activation_checkpointing_gives_the_same_gradients_with_dropout():
    """Every layer of both encoders and the decoder runs twice, with the same dropout masks."""
    gradients, runs = [], []
    for recompute in (False, True):
        model = av_model(dropout=0.3, checkpoint_activations=recompute).train()
        count = Counter()
        for name, part in model.named_modules():
            if isinstance(part, (ConformerLayer, Block)):
                part.register_forward_pre_hook(lambda *_, c=count, name=name: c.update([name]))
        torch.manual_seed(4)
        result, pairs = model(**av_batch(), contrast=True)
        loss = result.audio_error.sum() + result.video_error.sum()
        loss = loss + pairs.audio.sum() + pairs.video.sum()
        loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
        runs.append(count)
    for name, gradient in gradients[0].items():
        if gradient is not None:
            assert torch.allclose(gradient, gradients[1][name], atol=1e-6), name
    assert len({name.split(".")[0] for name in runs[0]}) == 3
    assert runs[1] == {name: 2 * times for name, times in runs[0].items()}


def test_unknown_compile_backend_is_refused():
    with pytest.raises(InputError, match=r"task\.compile=clang must be one of .*inductor"):
        av_model().compile_layers("clang")


@torch.no_grad()
def test_normalised_slices_ignore_background_and_contrast():
    """A still video gives finite embeddings."""
    encoder, video = av_model(normalise_slices=True).video_encoder, av_batch()["video"]
    background = torch.randn(2, 3, 1, 16, 16)
    expected = encoder.encode_slices(video)
    assert torch.allclose(encoder.encode_slices(3 * video + background), expected, atol=1e-4)
    assert not torch.allclose(encoder.encode_slices(video.flip(2)), expected, atol=1e-2)
    assert encoder.encode_slices(background.expand_as(video)).isfinite().all()


@torch.no_grad()
def test_predict_zero_first_gives_zero_predictions():
    """The error of zero predictions for normalised patches is their variance, 1."""
    model = av_model(predict_zero_first=True, normalise_targets=True)
    result, _ = model(**av_batch())
    assert result.audio_error.tolist() == pytest.approx([1.0, 1.0], abs=1e-4)
    assert result.video_error.tolist() == pytest.approx([1.0, 1.0], abs=1e-4)
