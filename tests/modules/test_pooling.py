import torch

from mmpt_fairseq.modules.pooling import masked_mean


def test_masked_mean_equals_a_loop():
    x = torch.randn(3, 5, 4)
    padding = torch.tensor([[False] * 5, [False, False, True, True, True], [True] * 5])
    pooled = masked_mean(x, padding)
    assert torch.allclose(pooled[0], sum(x[0]) / 5)
    assert torch.allclose(pooled[1], (x[1, 0] + x[1, 1]) / 2)
    assert not pooled[2].any()
    assert torch.allclose(masked_mean(x), x.sum(1) / 5)
