import torch

from mmpt_fairseq.modules.masking import VisibleTokens

HIDDEN = torch.tensor(
    [[True, False, False, True, False], [True, True, True, False, True], [False] * 4 + [True]]
)


def test_visible_tokens_are_in_order_of_time():
    visible = VisibleTokens.from_hidden(HIDDEN)
    assert visible.length == 5
    for row in range(3):
        expected = (~HIDDEN[row]).nonzero()[:, 0].tolist()
        kept = ~visible.padding[row]
        assert visible.index[row][kept].tolist() == expected
        assert kept.tolist() == [True] * len(expected) + [False] * (4 - len(expected))


def test_scatter_inverts_gather():
    visible = VisibleTokens.from_hidden(HIDDEN)
    x = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)
    fill = torch.randn(2, dtype=torch.float64, requires_grad=True)
    full = visible.scatter(visible.gather(x), fill)
    for row in range(3):
        for position in range(5):
            expected = fill if HIDDEN[row, position] else x[row, position]
            assert torch.equal(full[row, position], expected)
    assert not visible.scatter(visible.gather(x))[HIDDEN].any()
    assert torch.autograd.gradcheck(lambda a, b: visible.scatter(visible.gather(a), b), (x, fill))


def test_rows_without_visible_tokens_have_one_padded_token():
    visible = VisibleTokens.from_hidden(torch.ones(2, 4, dtype=torch.bool))
    assert visible.padding.tolist() == [[True], [True]]
    assert not visible.scatter(torch.ones(2, 1, 3)).any()
