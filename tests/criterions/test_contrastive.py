import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmpt_fairseq.criterions.contrastive import (
    ContrastiveCriterion,
    ReconstructionAndContrastiveCriterion,
    contrastive_loss,
)
from mmpt_fairseq.criterions.masked_reconstruction import MaskedReconstructionCriterion
from mmpt_fairseq.models.av_pretraining import Embeddings
from tests.helpers import av_batch, av_model


def info_nce(audio, video, scale):
    """Symmetric InfoNCE summed over the pairs, in loops."""
    total, count = 0.0, len(audio)
    for i in range(count):
        for first, second in ((audio, video), (video, audio)):
            logits = [scale * sum(first[i] * second[j]) for j in range(count)]
            total -= logits[i] - np.log(sum(np.exp(logits)))
    return total / 2


def embeddings(rows, seed=0):
    torch.manual_seed(seed)
    audio, video = F.normalize(torch.randn(2, rows, 6, dtype=torch.float64), dim=-1)
    return Embeddings(audio, video, torch.tensor(2.0, dtype=torch.float64))


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_loss_is_info_nce(rows):
    pairs = embeddings(rows)
    loss, logs = contrastive_loss(pairs)
    expected = info_nce(pairs.audio.numpy(), pairs.video.numpy(), np.exp(2.0))
    assert loss.item() == pytest.approx(expected)
    best = (pairs.audio @ pairs.video.t()).argmax(1)
    assert int(logs["clr_accuracy"]) == int((best == torch.arange(rows)).sum())
    assert logs["clr_clips"] == logs["clr_accuracy_clips"] == rows


def test_gradient_equals_finite_differences():
    pairs = embeddings(3)
    tensors = [t.requires_grad_() for t in (pairs.audio, pairs.video, pairs.log_scale)]
    assert torch.autograd.gradcheck(lambda *t: contrastive_loss(Embeddings(*t))[0], tensors)


def test_autocast_to_16_bits_does_not_affect_the_loss():
    """Gradients for similar embeddings at the largest scale equal those in 32 bits."""
    pairs = embeddings(8)
    near = [F.normalize(x[:1] + 0.05 * x, dim=-1).float() for x in (pairs.audio, pairs.video)]
    gradients = []
    for enabled in (False, True):
        both = [x.clone().requires_grad_() for x in near]
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss, _ = contrastive_loss(Embeddings(*both, torch.tensor(100.0).log()))
        loss.backward()
        gradients.append(torch.cat([x.grad for x in both]))
    assert gradients[0].abs().max() > 1
    assert torch.equal(*gradients)


def test_matching_pairs_have_a_lower_loss_than_swapped_ones():
    unit = torch.eye(4, 6)
    good, logs = contrastive_loss(Embeddings(unit, unit, torch.tensor(3.0)))
    bad, swapped = contrastive_loss(Embeddings(unit, unit.roll(1, 0), torch.tensor(3.0)))
    assert good.item() < 1e-6
    assert bad.item() > 50
    assert (int(logs["clr_accuracy"]), int(swapped["clr_accuracy"])) == (4, 0)


@pytest.mark.parametrize("dummy", [False, True])
def test_empty_and_dummy_batches_give_a_differentiable_zero(dummy):
    pairs = embeddings(3 if dummy else 0)
    pairs.log_scale.requires_grad_()
    loss, logs = contrastive_loss(pairs, is_dummy=dummy)
    loss.backward()
    assert (loss.item(), logs["clr_clips"], pairs.log_scale.grad.item()) == (0.0, 0, 0.0)


def sample():
    return {"net_input": av_batch(), "nsentences": 2, "ntokens": 83}


@torch.no_grad()
def test_mae_clr_is_the_weighted_sum_of_mae_and_clr():
    model = av_model()
    mae, mae_size, mae_logs = MaskedReconstructionCriterion(None, video_weight=0.5)(model, sample())
    clr, clr_size, clr_logs = ContrastiveCriterion(None)(model, sample())
    both, size, logs = ReconstructionAndContrastiveCriterion(None, 0.5, 3.0)(model, sample())
    result, pairs = model(**av_batch(), contrast=True)
    expected = result.audio_error.sum() + 0.5 * result.video_error.sum()
    assert mae.item() == pytest.approx(expected.item())
    scale = float(pairs.log_scale.exp())
    nce = info_nce(pairs.audio.numpy(), pairs.video.numpy(), scale)
    assert clr.item() == pytest.approx(nce, rel=1e-4)
    assert both.item() == pytest.approx(expected.item() + 3 * nce, rel=1e-4)
    assert mae_size == clr_size == size == 2
    for name in ("mae_audio", "mae_video", "clr"):
        assert logs[name].item() == pytest.approx({**mae_logs, **clr_logs}[name].item())
    assert logs["ntokens"] == 83


@torch.no_grad()
def test_clips_without_video_are_not_contrasted():
    batch = sample()
    for name in ("video", "video_mask", "video_rows"):
        del batch["net_input"][name]
    loss, size, logs = ContrastiveCriterion(None)(av_model(), batch)
    assert (loss.item(), size, logs["clr_clips"]) == (0.0, 0, 0)
    loss, size, logs = ReconstructionAndContrastiveCriterion(None, 1.0, 1.0)(av_model(), batch)
    assert loss.item() == pytest.approx(logs["mae_audio"].item())
    assert (size, logs["mae_video_clips"]) == (2, 0)
