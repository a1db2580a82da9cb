import itertools

import pytest
import torch

from manifests.errors import InputError
from mmpt_fairseq.decoding.ctc import CTCGreedyGenerator, greedy_labels
from tests.helpers import speech_batch, speech_model, words

DICTIONARY = words("a", "b", "c")
BLANK, EOS = DICTIONARY.bos(), DICTIONARY.eos()


def scripted(labels):
    """A model whose CTC head outputs ``labels[t]`` at frame t for any input."""
    model = speech_model()
    head = model.encoder.ctc_projection
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    logits = torch.zeros(len(labels), 1, 7)
    logits[torch.arange(len(labels)), 0, torch.tensor(labels)] = 5.0
    head.register_forward_hook(lambda *_: logits.transpose(0, 1))
    return model


def collapsed(labels):
    starts, position = [], 0
    for label, run in itertools.groupby(labels):
        if label != BLANK:
            starts.append((label, position))
        position += len(list(run))
    return starts


@pytest.mark.parametrize("seed", range(20))
def test_greedy_ctc_collapses_repetitions_and_blanks(seed):
    torch.manual_seed(seed)
    labels = torch.tensor([BLANK, 4, 5, 6])[torch.randint(4, (25,))].tolist()
    generator = CTCGreedyGenerator([scripted(labels)], DICTIONARY)
    batch = speech_batch([100], [[4]])
    (((hypothesis),),) = generator.generate(None, batch)
    expected = collapsed(labels)
    assert hypothesis["tokens"].tolist() == [*(label for label, _ in expected), EOS]
    assert hypothesis["frames"].tolist() == [position for _, position in expected]
    last_frames = [len(labels) - 1 - position for _, position in collapsed(labels[::-1])]
    assert hypothesis["last_frames"].tolist() == last_frames[::-1]


@torch.no_grad()
def test_greedy_hypotheses_are_independent_of_the_batch():
    model = speech_model()
    generator = CTCGreedyGenerator([model], DICTIONARY)
    torch.nn.init.normal_(model.encoder.ctc_projection.weight, std=3.0)
    batch = speech_batch([200, 90, 33], [[4], [4], [4]])
    rows = generator.generate(None, batch)
    source = batch["net_input"]["src_tokens"]
    found = set()
    for row, length in enumerate([200, 90, 33]):
        alone = {
            "src_tokens": source[row : row + 1, :length],
            "src_lengths": torch.tensor([length]),
        }
        ((single,),) = generator.generate(None, {"net_input": alone})
        lprobs = model.encoder(**alone)["ctc_logits"][0][:, 0].log_softmax(-1)
        lprobs[:, [DICTIONARY.pad(), EOS]] = -torch.inf  # never in a text
        labels = lprobs.argmax(-1).tolist()
        expected = [label for label, _ in itertools.groupby(labels) if label != BLANK]
        assert rows[row][0]["tokens"].tolist() == single["tokens"].tolist() == [*expected, EOS]
        score = lprobs.max(-1).values.mean().item()
        assert rows[row][0]["score"].item() == pytest.approx(score, abs=1e-5)
        assert len(rows[row][0]["positional_scores"]) == len(expected) + 1
        found.add(len(expected))
    assert len(found) == 3


def test_models_other_than_one_with_a_ctc_head_are_rejected():
    with pytest.raises(InputError, match=r"model\.ctc=true"):
        CTCGreedyGenerator([speech_model(ctc=False)], DICTIONARY)
    with pytest.raises(InputError, match="one model"):
        CTCGreedyGenerator([speech_model(), speech_model()], DICTIONARY)


def test_greedy_labels_are_collapsed_within_each_length():
    best = torch.tensor([[0, 5, 5, 0, 5, 6, 6, 7], [4, 0, 0, 0, 9, 9, 9, 9]])
    logits = torch.nn.functional.one_hot(best, 10).float()
    found = greedy_labels(logits, torch.tensor([7, 4]), blank=0)
    assert [row.tolist() for row in found] == [[5, 5, 6], [4]]
    assert greedy_labels(logits[:, 3:4], torch.tensor([1, 1]), blank=0)[0].tolist() == []
