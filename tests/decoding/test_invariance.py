"""Hypotheses depend on nothing but their own clip: not on batch size, order or padding."""

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator

from mmpt_fairseq.decoding.ctc import CTCGreedyGenerator
from tests.helpers import speech_model

LENGTHS = [37, 120, 61, 240, 59, 180, 88]


def decode(generator, model, clips: list[torch.Tensor], rows: list[int]) -> dict[int, list[int]]:
    """Best hypotheses of ``rows`` decoded as one batch."""
    lengths = torch.tensor([len(clips[row]) for row in rows])
    batch = torch.nn.utils.rnn.pad_sequence([clips[row] for row in rows], batch_first=True)
    sample = {"net_input": {"src_tokens": batch, "src_lengths": lengths}}
    found = generator.generate([model], sample)
    return {row: h[0]["tokens"].tolist() for row, h in zip(rows, found, strict=True)}


@pytest.mark.parametrize("search", ["beam", "ctc"])
@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
def test_batch_size_and_order(search, positions):
    model = speech_model(tuple("abcdefghij"), encoder_positions=positions)
    torch.manual_seed(3)
    for parameter in model.parameters():  # untrained weights say the same of everything
        torch.nn.init.normal_(parameter, std=0.3) if parameter.dim() > 1 else None
    clips = [torch.randn(length, 80) for length in LENGTHS]
    dictionary = model.decoder.dictionary
    if search == "beam":
        generator = SequenceGenerator([model], dictionary, beam_size=4, max_len_b=25)
    else:
        generator = CTCGreedyGenerator([model], dictionary)
    rows = list(range(len(clips)))
    alone = {row: decode(generator, model, clips, [row])[row] for row in rows}
    assert len({tuple(tokens) for tokens in alone.values()}) > 3
    assert decode(generator, model, clips, rows) == alone
    assert decode(generator, model, clips, rows[::-1]) == alone
    halves = [decode(generator, model, clips, part) for part in (rows[:3], rows[3:])]
    assert halves[0] | halves[1] == alone
