"""Interaction of modalities: clips that lack one, joint decoding, CLR on masked input."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import av_batch, av_model

AUDIO = ("audio", "audio_unmasked", "audio_lengths", "audio_mask")
VIDEO = ("video", "video_mask")


def mixed_batch():
    """Three clips: audio and video, audio only, video only."""
    batch = av_batch()
    return {**batch, "audio_rows": torch.tensor([0, 1]), "video_rows": torch.tensor([0, 2])}


def with_masked_values(model, batch, value):
    """The batch with ``value`` at all masked positions."""
    hidden = batch["audio_mask"].repeat_interleave(4, dim=1)[:, : batch["audio"].size(1)]
    patches = model.video_encoder.patches
    pixels = patches.patchify(batch["video"]).masked_fill(batch["video_mask"][..., None], value)
    audio = batch["audio"].masked_fill(hidden[..., None], value)
    return {**batch, "audio": audio, "video": patches.unpatchify(pixels)}


@pytest.mark.parametrize("joint", [False, True])
@torch.no_grad()
def test_clips_without_a_modality_do_not_depend_on_the_batch(joint):
    model, batch = av_model(joint_decoding=joint), mixed_batch()
    together, pairs = model(**batch, contrast=True)
    assert len(together.audio_error) == len(together.video_error) == 2
    one = torch.tensor([0])
    both = {name: batch[name][:1] for name in (*AUDIO, *VIDEO)}
    alone, pair = model(**both, audio_rows=one, video_rows=one, contrast=True)
    assert alone.audio_error.item() == pytest.approx(together.audio_error[0].item(), rel=1e-4)
    assert alone.video_error.item() == pytest.approx(together.video_error[0].item(), rel=1e-4)
    assert torch.allclose(pair.audio, pairs.audio, atol=1e-5)
    assert torch.allclose(pair.video, pairs.video, atol=1e-5)
    length = int(batch["audio_lengths"][1])
    audio_inputs = {n: batch[n][1:] for n in ("audio_lengths", "audio_mask")}
    audio_inputs["audio_mask"] = audio_inputs["audio_mask"][:, : math.ceil(length / 4)]
    alone, none = model(
        audio=batch["audio"][1:, :length], **audio_inputs, audio_rows=one, contrast=True
    )
    assert alone.audio_error.item() == pytest.approx(together.audio_error[1].item(), rel=1e-4)
    assert len(alone.video_error) == len(none.audio) == 0
    video_inputs = {name: batch[name][1:] for name in VIDEO}
    alone, none = model(**video_inputs, video_rows=one, contrast=True)
    assert alone.video_error.item() == pytest.approx(together.video_error[1].item(), rel=1e-4)
    assert len(alone.audio_error) == len(none.audio) == 0


@torch.no_grad()
def test_joint_decoding_lets_each_modality_see_the_visible_part_of_the_other():
    for joint in (False, True):
        model, batch = av_model(joint_decoding=joint), av_batch()
        first, _ = model(**batch)
        audio, video = batch["audio"].clone(), batch["video"].clone()
        audio[0, 4 * int((~batch["audio_mask"][0]).nonzero()[0])] += 1
        audio_changed, _ = model(**{**batch, "audio": audio})
        assert torch.equal(audio_changed.video[0], first.video[0]) is not joint
        pixels = model.video_encoder.patches.patchify(video)
        pixels[0, int((~batch["video_mask"][0]).nonzero()[0])] += 1
        video_changed, _ = model(
            **{**batch, "video": model.video_encoder.patches.unpatchify(pixels)}
        )
        assert torch.equal(video_changed.audio[0], first.audio[0]) is not joint
        assert torch.allclose(video_changed.audio[1, :9], first.audio[1, :9], atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
@torch.no_grad()
def test_masked_values_reach_neither_joint_predictions_nor_masked_embeddings(positions, pooling):
    """Bit for bit, for any masked values."""
    model = av_model(
        joint_decoding=True, contrast_masked=True, encoder_positions=positions, pooling=pooling
    )
    batch = av_batch()
    first, pairs = model(**batch, contrast=True)
    for value in (0.0, 1e6, float("nan")):
        changed = {**with_masked_values(model, batch, value), "audio_unmasked": None}
        second, second_pairs = model(**changed, contrast=True)
        assert torch.equal(second.audio[0], first.audio[0])
        assert torch.equal(second.audio[1, :9], first.audio[1, :9])
        assert torch.equal(second.video, first.video)
        assert torch.equal(second_pairs.audio, pairs.audio)
        assert torch.equal(second_pairs.video, pairs.video)
    visible = batch["audio"].masked_fill(~batch["audio_mask"].repeat_interleave(4, 1)[..., None], 5)
    _, other = model(**{**batch, "audio": visible}, contrast=True)
    assert not torch.allclose(other.audio, pairs.audio, atol=1e-3)


@torch.no_grad()
def test_masked_embeddings_are_means_over_visible_states():
    model, batch = av_model(contrast_masked=True), av_batch()
    _, pairs = model(**batch, contrast=True, reconstruct=False)
    for row, length in enumerate(batch["audio_lengths"].tolist()):
        mask = batch["audio_mask"][row : row + 1, : math.ceil(length / 4)]
        encoded = model.audio_encoder(
            batch["audio"][row : row + 1, :length], batch["audio_lengths"][row : row + 1], mask
        )
        expected = model.audio_projection(sum(encoded.states[0]) / len(encoded.states[0]))
        assert torch.allclose(pairs.audio[row], expected / expected.norm(), atol=1e-5)
        encoder = model.video_encoder
        kept = ~batch["video_mask"][row]
        patches = encoder.patches.embed(encoder.patches.patchify(batch["video"][row : row + 1]))
        tokens = (patches + encoder.patches.positions(encoder.dim))[0, kept]
        states = encoder.transformer(tokens[None])[0]
        expected = model.video_projection(sum(states) / len(states))
        assert torch.allclose(pairs.video[row], expected / expected.norm(), atol=1e-5)


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_fully_masked_modality_is_reconstructed_from_the_other(modality):
    """Predictions are finite, depend on the other modality only, and CLR skips the clip."""
    model = av_model(joint_decoding=True, contrast_masked=True)
    batch = av_batch()
    batch[f"{modality}_mask"][0] = True
    first, pairs = model(**batch, contrast=True)
    assert len(pairs.audio) == 1
    loss = first.audio_error.sum() + first.video_error.sum() + pairs.audio.sum()
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        second, second_pairs = model(**with_masked_values(model, batch, 1e3), contrast=True)
        assert torch.equal(getattr(second, modality)[0], getattr(first, modality)[0])
        assert torch.equal(second_pairs.audio, pairs.audio)
        other = "video" if modality == "audio" else "audio"
        third, _ = model(**{**batch, other: batch[other] + 1})
        assert not torch.equal(getattr(third, modality)[0], getattr(first, modality)[0])
    assert first.audio_error[0].item() > 0
    assert first.video_error[0].item() > 0


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_batch_without_visible_pairs_gives_empty_embeddings(pooling):
    model = av_model(joint_decoding=True, contrast_masked=True, pooling=pooling)
    batch = av_batch()
    batch["audio_mask"][:] = True
    _, pairs = model(**batch, contrast=True)
    assert pairs.audio.shape == pairs.video.shape == (0, 8)


@torch.no_grad()
@pytest.mark.parametrize("objective", ["mae", "clr"])
def test_uint8_and_float_video_give_the_same_results(objective):
    model, batch = av_model(normalise_slices=objective == "clr"), av_batch()
    pixels = torch.randint(0, 256, batch["video"].shape, dtype=torch.uint8)
    found = []
    for video in (pixels, pixels.double().div(127.5).sub(1).float()):
        result, pairs = model(**{**batch, "video": video}, contrast=objective == "clr")
        found.append([result.video, result.video_error, *([] if pairs is None else [pairs.video])])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@torch.no_grad()
def test_small_changes_survive_16_bits_in_normalised_slices():
    """A still background with one patch that changes a little, like a mouth."""
    torch.manual_seed(0)
    encoder = av_model(normalise_slices=True).video_encoder
    video = torch.randint(40, 215, (1, 3, 1, 16, 16)).expand(1, 3, 4, 16, 16).clone()
    video[:, :, :, 4:8, 4:8] += torch.randint(-20, 21, (1, 3, 4, 4, 4))
    video = video.to(torch.uint8)
    whole = encoder.encode_slices(video)
    halved = encoder.bfloat16().encode_slices(video).float()
    assert float((halved - whole).norm() / whole.norm()) < 0.02


def options_of(objective):
    return {
        "mae": {},
        "mae_joint": {"joint_decoding": True, "normalise_targets": True},
        "clr": {"pooling": "attention"},
        "mae_clr": {"contrast_masked": True},
    }[objective]


def objective_loss(model, batch, objective):
    """The objective computed from its definition on the model's outputs."""
    contrast, reconstruct = "clr" in objective, "mae" in objective
    result, pairs = model(**batch, reconstruct=reconstruct, contrast=contrast)
    loss = 0.0
    if reconstruct:
        loss = result.audio_error.sum() + result.video_error.sum()
    if contrast:
        logits = pairs.log_scale.exp() * pairs.audio @ pairs.video.t()
        for row in range(len(logits)):
            for line in (logits[row], logits[:, row]):
                loss = loss + 0.5 * (line.logsumexp(0) - line[row])
    return loss


@pytest.mark.parametrize("objective", ["mae", "mae_joint", "clr", "mae_clr"])
def test_gradients_equal_finite_differences(objective):
    """Along random directions over all parameters, in double precision."""
    model = av_model(**options_of(objective)).double()
    batch = {k: v.double() if v.is_floating_point() else v for k, v in av_batch().items()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    objective_loss(model, batch, objective).backward()
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        directions = [torch.randn(p.shape, generator=generator).double() for p in parameters]
        slope = sum(
            float((p.grad * d).sum())
            for p, d in zip(parameters, directions, strict=True)
            if p.grad is not None
        )
        ends = []
        for step in (1e-6, -2e-6):
            with torch.no_grad():
                for p, d in zip(parameters, directions, strict=True):
                    p += step * d
                ends.append(float(objective_loss(model, batch, objective)))
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p += 1e-6 * d
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("objective", "updates"), [("mae", 120), ("clr", 60), ("mae_clr", 120)])
def test_overfits_one_batch(objective, updates):
    """Random clips, which can only be memorised."""
    model = av_model(**options_of(objective), dropout=0.0, decoder_embed_dim=64).train()
    batch, optimizer = av_batch(), torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(updates):
        loss = objective_loss(model, batch, objective)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.03 * losses[0]


@pytest.mark.parametrize("objective", ["mae", "mae_joint", "clr", "mae_clr"])
def test_autocast_to_bfloat16_is_close(objective):
    """Forward and backward in mixed precision."""
    model, batch = av_model(**options_of(objective)).train(), av_batch()
    for module in model.modules():
        if hasattr(module, "p"):
            module.p = 0.0
    exact = objective_loss(model, batch, objective)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective_loss(model, batch, objective)
    loss.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_attention_pooling_is_a_weighted_average():
    from mmpt_fairseq.modules.pooling import AttentionPooling

    torch.manual_seed(0)
    pool = AttentionPooling(8, 2).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    padding = torch.tensor([[False] * 5, [False, False, True, True, True]])
    torch.nn.init.normal_(pool.query)
    pooled = pool(x, padding)
    for row, length in enumerate((5, 2)):
        heads = []
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            kv = F.linear(x[row, :length], pool.key_value.weight, pool.key_value.bias)
            keys, values = kv[:, :8][:, part], kv[:, 8:][:, part]
            weights = [math.exp(float(k @ pool.query[head, 0]) / 2) for k in keys]
            total = sum(weights)
            heads.append(sum(w / total * v for w, v in zip(weights, values, strict=True)))
        assert torch.allclose(pooled[row], pool.out(torch.cat(heads)))
    assert torch.allclose(pool(x)[0], pooled[0])
