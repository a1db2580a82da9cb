"""The CTC probe of frozen encoders."""

import itertools
import math

import pytest
import torch

from examples.mboshi.frozen import Head, effective_rank, train_head
from mmpt_fairseq.scoring import error_rates


def test_effective_rank_counts_the_directions_of_variance():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4000, 8, generator=generator)
    assert effective_rank(x) == pytest.approx(8, abs=0.1)
    assert effective_rank(x[:, :1] * x[:1]) == pytest.approx(1, abs=1e-3)
    # Half of the variance in one direction, a quarter in each of two others.
    spectrum = torch.tensor([2.0, 1.0, 1.0]).sqrt()
    assert effective_rank(x[:, :3] * spectrum) == pytest.approx(2**1.5, abs=0.05)


def test_bits_sum_over_all_ctc_paths():
    """The probability of a text, summed over all of its alignments to four frames."""
    head = Head(5, "ab").eval()
    states = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    lprobs = head([states])[0][0].detach()

    def text(path: tuple[int, ...]) -> str:
        return "".join("_ab"[label] for label, _ in itertools.groupby(path)).replace("_", "")

    paths = [path for path in itertools.product(range(3), repeat=4) if text(path) == "ab"]
    total = sum(math.exp(sum(float(lprobs[i, k]) for i, k in enumerate(path))) for path in paths)
    assert head.bits([states], ["ab"]).item() == pytest.approx(-math.log2(total) / 2, abs=1e-4)
    assert head.bits([states], ["axb"]).item() == pytest.approx(-math.log2(total) / 2, abs=1e-4)


def test_head_learns_characters_from_states_but_not_from_noise():
    """Each character is one direction over two frames, followed by a zero frame."""
    generator = torch.Generator().manual_seed(1)
    texts, states, noises = [], [], []
    for _ in range(64):
        labels = torch.randint(4, (6,), generator=generator)
        texts.append("".join("abcd"[label] for label in labels))
        x = torch.eye(4)[labels].repeat_interleave(3, 0)
        x[2::3] = 0.0  # between two characters
        states.append(x)
        noises.append(torch.randn(18, 4, generator=generator))
    head = train_head(states[:48], texts[:48], "abcd", 40, seed=1)
    noisy = train_head(noises[:48], texts[:48], "abcd", 40, seed=1)
    with torch.no_grad():
        assert error_rates(texts[48:], head.decode(states[48:]))["cer"] < 30
        assert error_rates(texts[48:], noisy.decode(noises[48:]))["cer"] > 60
        assert head.bits(states[48:], texts[48:]) < 0.5 * noisy.bits(noises[48:], texts[48:])
