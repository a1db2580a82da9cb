import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from mmpt_fairseq.modules.ctc_guide import CtcGuide, apply_prior, progress_at, speech_progress


def clip(*parts, bins=80, seed=1):
    """Features ``(T, F)``: noise around the levels of successive ``(frames, level)`` parts."""
    generator = torch.Generator().manual_seed(seed)
    return torch.cat(
        [level + 0.1 * torch.randn(frames, bins, generator=generator) for frames, level in parts]
    )


def by_enumeration(lprobs, target, progress, width, strength):
    """-log of the summed weight of all paths that collapse to the target; 0 is the blank."""
    steps, classes = lprobs.shape
    total = lprobs.new_zeros(())
    for path in itertools.product(range(classes), repeat=steps):
        if [label for label, _ in itertools.groupby(path) if label] != target:
            continue
        weight = lprobs.new_ones(())
        for step, label in enumerate(path):
            weight = weight * lprobs[step, label].exp()
            if label:
                weight = weight * max(
                    math.exp(
                        -strength
                        * (progress[step].item() - (place + 0.5) / len(target)) ** 2
                        / (2 * width**2)
                    )
                    for place, target_label in enumerate(target)
                    if target_label == label
                )
        total = total + weight
    return -total.log()


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_loss_and_gradient_equal_those_of_all_weighted_paths(strength):
    torch.manual_seed(1)
    steps, targets = [5, 4], [[1, 2, 1], [2]]
    logits = torch.randn(2, 5, 4, dtype=torch.double, requires_grad=True)
    progress = torch.tensor([[0.0, 0.2, 0.5, 0.9, 1.0], [0.1, 0.6, 0.6, 1.0, 1.0]]).double()
    table = torch.tensor([[1, 2, 1], [2, 3, 3]])  # target padding is ignored

    lengths = torch.tensor([3, 1])
    lprobs, target_classes = apply_prior(
        logits.log_softmax(-1), table, lengths, progress, 0.2, strength
    )
    loss = F.ctc_loss(
        lprobs.transpose(0, 1), target_classes, torch.tensor(steps), lengths, reduction="sum"
    )
    (gradient,) = torch.autograd.grad(loss, logits)
    reference = sum(
        by_enumeration(
            logits[row, : steps[row]].log_softmax(-1), target, progress[row], 0.2, strength
        )
        for row, target in enumerate(targets)
    )
    (expected,) = torch.autograd.grad(reference, logits)
    assert loss.item() == pytest.approx(reference.item(), rel=1e-7)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(lprobs.exp().sum(-1), torch.ones(2, 5).double())
    assert lprobs.size(-1) == 4  # the blank, two labels of the targets, the rest


def test_progress_does_not_advance_in_pauses():
    """Silence before, between and after two words: progress is linear within speech only."""
    features = clip((40, -5.0), (30, 2.0), (50, -5.0), (30, 2.0), (20, -5.0))
    progress = speech_progress(features[None], torch.tensor([170]))[0]
    assert progress[:40].max() < 0.01
    assert (progress[70:120] - 0.5).abs().max() < 0.02
    assert progress[150:].min() > 0.99
    assert (progress.diff() >= 0).all()
    assert progress[54:56].mean() == pytest.approx(0.25, abs=0.02)


def test_loud_click_counts_as_little_speech():
    features = clip((40, -5.0), (2, 6.0), (40, -5.0), (60, 1.0))
    assert speech_progress(features[None], torch.tensor([142]))[0, 80] < 0.05


def test_progress_does_not_depend_on_padding_and_gain():
    short, long = clip((20, -3.0), (40, 1.0)), clip((30, 0.0), (20, -4.0), (60, 0.5), seed=2)
    batch = torch.full((2, 110, 80), 9.0)
    batch[0, :60], batch[1] = short, long
    progress = speech_progress(batch, torch.tensor([60, 110]))
    alone = speech_progress(short[None], torch.tensor([60]))[0]
    torch.testing.assert_close(progress[0, :60], alone)
    assert (progress[0, 60:] == 1).all()
    louder = speech_progress(3.0 * long[None] + 7, torch.tensor([110]))[0]
    torch.testing.assert_close(louder, progress[1], rtol=1e-4, atol=1e-5)


def test_progress_is_linear_in_time_at_constant_loudness():
    progress = speech_progress(torch.zeros(1, 10, 80), torch.tensor([8]))[0]
    expected = torch.tensor([(t + 0.5) / 8 for t in range(8)] + [1.0, 1.0])
    torch.testing.assert_close(progress, expected)
    coarse = progress_at(progress[None], torch.tensor([8]), 3, torch.tensor([2]))[0]
    torch.testing.assert_close(coarse[:2], torch.tensor([2.5 / 8, 6.5 / 8]))


def test_apply_prior_accepts_a_batch_without_targets():
    lprobs = torch.randn(1, 3, 4).log_softmax(-1)
    none = torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, dtype=torch.long)
    given, target_classes = apply_prior(lprobs, *none, torch.rand(1, 3), 0.1, 1.0)
    blank = lprobs[..., :1].exp()
    torch.testing.assert_close(given.exp(), torch.cat([blank, 1 - blank], -1))
    assert target_classes.shape == (1, 0)


def test_strength_falls_linearly_to_zero_and_options_are_checked():
    guide = CtcGuide(updates=200, width=0.1)
    assert [guide.strength(update) for update in (0, 50, 200, 300)] == [1, 0.75, 0, 0]
    assert CtcGuide(updates=0, width=0.1).strength(0) == 0
    for updates, width, key in [(-1, 0.1, "updates=-1"), (10, 0.0, "width=0.0")]:
        with pytest.raises(ValueError, match=f"ctc_guide_{key} must be"):
            CtcGuide(updates, width)
