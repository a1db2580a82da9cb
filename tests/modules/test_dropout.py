"""Statistics, gradients and seeding of our dropout."""

import pytest
import torch

from mmpt_fairseq.modules.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_drop_rate_and_scale(p):
    torch.manual_seed(0)
    dropped = Dropout(p)(torch.ones(1000, 400))
    rounded = round(256 * p) / 256
    assert (dropped == 0).float().mean().item() == pytest.approx(rounded, abs=0.002)
    kept = dropped[dropped != 0]
    assert torch.equal(kept, torch.full_like(kept, 1 / (1 - rounded)))
    # Neighbours are drawn from the same 64-bit number, but must be independent.
    both = ((dropped[:, :-1] == 0) & (dropped[:, 1:] == 0)).float().mean().item()
    assert both == pytest.approx(rounded**2, abs=0.003)


def test_every_byte_of_a_word_has_the_same_drop_rate():
    torch.manual_seed(0)
    dropped = Dropout(0.25)(torch.ones(50_000, 8))
    assert (dropped == 0).float().mean(0) == pytest.approx([0.25] * 8, abs=0.01)


def test_gradient_is_the_scaled_mask():
    x = torch.randn(7, 13, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert torch.allclose(y, x * x.grad)
    assert set(x.grad.unique().tolist()) == {0.0, 2.0}


def test_seed_determines_the_mask_and_evaluation_is_the_identity():
    dropout, x = Dropout(0.2), torch.randn(5, 33)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(dropout(x))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert torch.equal(dropout.eval()(x), x)
