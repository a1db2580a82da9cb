"""CTC searches and prefix scores against sums over all alignments of tiny inputs."""

import itertools
import math

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator

from manifests.errors import InputError
from mmpt_fairseq.decoding.ctc import CTCPrefixBeamGenerator
from mmpt_fairseq.decoding.ensemble import JointEnsemble
from mmpt_fairseq.decoding.prefix_beam import prefix_beam_search
from mmpt_fairseq.decoding.prefix_score import IMPOSSIBLE, CTCPrefixScorer
from tests.decoding.alignments import BLANK, EOS, LABELS, PAD, emissions, text_probabilities
from tests.helpers import speech_batch, speech_model, words

EXCLUDED = [PAD, EOS, 3]


@pytest.mark.parametrize("seed", range(5))
def test_wide_beam_finds_every_text_with_its_probability(seed):
    lprobs = emissions(2, 5, seed)
    found = prefix_beam_search(lprobs, torch.tensor([5, 3]), 400, BLANK, EXCLUDED)
    for row, frames in enumerate((5, 3)):
        expected = text_probabilities(lprobs[row, :frames])
        expected = {text: p for text, p in expected.items() if p > 0}
        got = {tuple(tokens.tolist()): score.exp().item() for tokens, score in found[row]}
        assert got.keys() == expected.keys()
        assert len(got) == len(found[row])
        assert all(got[text] == pytest.approx(p, rel=1e-5) for text, p in expected.items())
        scores = [score.item() for _, score in found[row]]
        assert scores == sorted(scores, reverse=True)


def reference_beam(lprobs: torch.Tensor, beam: int, labels=LABELS) -> dict[tuple[int, ...], float]:
    """Prefix beam search of arXiv 1408.2873, implemented with dictionaries."""
    state = {(): (1.0, 0.0)}
    for frame in lprobs.exp().double().tolist():
        found: dict[tuple[int, ...], list[float]] = {}
        for prefix, (blank, label) in state.items():
            found.setdefault(prefix, [0.0, 0.0])[0] += (blank + label) * frame[BLANK]
            for c in labels:
                if prefix and c == prefix[-1]:
                    found[prefix][1] += label * frame[c]
                    found.setdefault((*prefix, c), [0.0, 0.0])[1] += blank * frame[c]
                else:
                    found.setdefault((*prefix, c), [0.0, 0.0])[1] += (blank + label) * frame[c]
        best = sorted(found, key=lambda p: -sum(found[p]))[:beam]
        state = {prefix: tuple(found[prefix]) for prefix in best}
    return {prefix: sum(p) for prefix, p in state.items()}


@pytest.mark.parametrize("beam", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_narrow_beam_matches_the_published_algorithm(beam, seed):
    lprobs = emissions(1, 30, seed)
    (found,) = prefix_beam_search(lprobs, torch.tensor([30]), beam, BLANK, EXCLUDED)
    expected = reference_beam(lprobs[0], beam)
    got = {tuple(tokens.tolist()): score.exp().item() for tokens, score in found}
    assert got == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_search_over_many_labels_matches_the_published_algorithm(seed):
    """With more labels than twice the beam, of which only the best of a frame are considered."""
    labels = tuple(range(4, 44))
    lprobs = emissions(1, 20, seed, (BLANK, *labels), vocabulary=44)
    for beam in (1, 3, 6):
        (found,) = prefix_beam_search(lprobs, torch.tensor([20]), beam, BLANK, EXCLUDED)
        expected = reference_beam(lprobs[0], beam, labels)
        got = {tuple(tokens.tolist()): score.exp().item() for tokens, score in found}
        assert got == pytest.approx(expected, rel=1e-4)


def test_prefix_scores_are_sums_over_alignments():
    """Every text of up to 4 labels over 5 frames, including repetitions and impossible texts."""
    lprobs = emissions(2, 5, seed=3)
    lengths = torch.tensor([5, 3])
    expected = [text_probabilities(lprobs[row, :n]) for row, n in enumerate(lengths.tolist())]

    def prefix_probability(row: int, prefix: tuple[int, ...]) -> float:
        return sum(p for text, p in expected[row].items() if text[: len(prefix)] == prefix)

    for text in itertools.product(LABELS, repeat=4):
        scorer = CTCPrefixScorer(lprobs, lengths, BLANK, EOS)
        totals = [0.0, 0.0]
        for length in range(5):
            tokens = torch.tensor([[EOS, *text[:length]]] * 2)
            scores = scorer.step(tokens)
            for row in range(2):
                if totals[row] > IMPOSSIBLE / 2:
                    end = math.exp(totals[row] + scores[row, EOS].item())
                    assert end == pytest.approx(expected[row].get(text[:length], 0.0), abs=1e-9)
                if length < 4:
                    totals[row] += scores[row, text[length]].item()
                    known = prefix_probability(row, text[: length + 1])
                    assert math.exp(totals[row]) == pytest.approx(known, rel=1e-6, abs=1e-12)
            assert torch.isfinite(scores).all()
            scorer.reorder(torch.arange(2))


def test_prefix_scores_are_precise_for_long_clips():
    """3000 frames: score of a complete text against PyTorch's CTC loss in float64."""
    lprobs = emissions(1, 3000, seed=1, labels=range(7)).double()
    text = torch.randint(4, 7, (400,))
    scorer = CTCPrefixScorer(lprobs, torch.tensor([3000]), BLANK, EOS)
    total = 0.0
    for length in range(401):
        scores = scorer.step(torch.cat([torch.tensor([EOS]), text[:length]])[None])
        total += scores[0, EOS if length == 400 else text[length]].item()
        scorer.reorder(torch.arange(1))
    expected = -torch.nn.functional.ctc_loss(
        lprobs.transpose(0, 1), text[None], [3000], [400], reduction="sum"
    )
    assert total == pytest.approx(expected.item(), rel=1e-9)


def model_and_batch() -> tuple:
    model = speech_model()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4) if parameter.dim() > 1 else None
    return model, speech_batch([28, 16], [[4], [4]])


def joint(model, weight: float, beam: int = 5, **options) -> SequenceGenerator:
    options = {"beam_size": beam, "max_len_b": 4, "normalize_scores": False, **options}
    generator = SequenceGenerator([model], model.decoder.dictionary, **options)
    generator.model = JointEnsemble([model], weight)
    return generator


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
@torch.no_grad()
def test_joint_scores_interpolate_decoder_and_ctc(weight):
    """Hypothesis scores against the teacher-forced decoder and PyTorch's CTC loss."""
    model, batch = model_and_batch()
    found = joint(model, weight).generate([model], batch)
    inputs, compared = batch["net_input"], 0
    for row, hypotheses in enumerate(found):
        source = inputs["src_tokens"][row : row + 1, : inputs["src_lengths"][row]]
        for hypothesis in hypotheses:
            tokens = hypothesis["tokens"]
            previous = torch.cat([torch.tensor([EOS]), tokens[:-1]])[None]
            logits, extra = model(source, inputs["src_lengths"][row : row + 1], previous)
            lprobs = logits[0].log_softmax(-1)
            attention = lprobs.gather(1, tokens[:, None]).sum().item()
            sample = {"ctc_target_lengths": torch.tensor([len(tokens) - 1])}
            ctc, length = model.get_ctc_output((logits, extra), sample)
            loss = torch.nn.functional.ctc_loss(
                ctc.double(), tokens[None, :-1], length.tolist(), [len(tokens) - 1], reduction="sum"
            ).item()
            if math.isinf(loss) or not set(tokens[:-1].tolist()) - {PAD, EOS, BLANK}:
                continue
            expected = (1 - weight) * attention - weight * loss
            assert hypothesis["score"].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)
            compared += 1
    assert compared >= 5


def test_joint_search_is_exact_with_a_wide_beam():
    """With all weight on CTC, the result is the best text of the enumeration."""
    for seed in range(4):
        model, batch = model_and_batch()
        batch = {"net_input": {k: v[:1] for k, v in batch["net_input"].items()}}
        batch["net_input"]["src_lengths"] = torch.tensor([16])  # 4 encoder frames
        lprobs = emissions(1, 4, seed)
        head = model.encoder.ctc_projection
        head.register_forward_hook(lambda *_, known=lprobs: known)
        generator = joint(model, 1.0, beam=6, max_len_b=5)
        best = generator.generate([model], batch)[0][0]
        expected = max(
            text_probabilities(lprobs[0]).items(), key=lambda item: item[1] if item[0] else -1
        )
        assert tuple(best["tokens"].tolist()) == (*expected[0], EOS)
        assert best["score"].exp().item() == pytest.approx(expected[1], rel=1e-4)


def test_language_tags_do_not_change_ctc_scores():
    lprobs = emissions(1, 4, seed=2)
    plain = CTCPrefixScorer(lprobs, torch.tensor([4]), BLANK, EOS)
    tagged = CTCPrefixScorer(lprobs, torch.tensor([4]), BLANK, EOS, torch.tensor([3]))
    assert tagged.step(torch.tensor([[EOS]]))[0, 3] == 0
    tagged.reorder(torch.arange(1))
    first = plain.step(torch.tensor([[EOS]]))
    plain.reorder(torch.arange(1))
    assert torch.allclose(tagged.step(torch.tensor([[EOS, 3]])), first)
    tagged.reorder(torch.arange(1))
    second = plain.step(torch.tensor([[EOS, 4]]))
    assert torch.allclose(tagged.step(torch.tensor([[EOS, 3, 4]])), second)
    assert second[0, 3] == IMPOSSIBLE


def test_invalid_weight_or_model_is_rejected():
    with pytest.raises(InputError, match=r"ctc_decoding_weight=1\.5"):
        JointEnsemble([speech_model()], 1.5)
    with pytest.raises(InputError, match=r"model\.ctc=true"):
        JointEnsemble([speech_model(ctc=False)], 0.5)


@torch.no_grad()
def test_prefix_beam_generator_returns_an_n_best_list():
    model, batch = model_and_batch()
    generator = CTCPrefixBeamGenerator([model], words("a", "b", "c"), {6}, beam=4)
    for hypotheses in generator.generate(None, batch):
        assert 1 < len(hypotheses) <= 4
        scores = [h["score"].item() for h in hypotheses]
        assert scores == sorted(scores, reverse=True)
        for hypothesis in hypotheses:
            assert hypothesis["tokens"][-1] == EOS
            assert not set(hypothesis["tokens"][:-1].tolist()) & {BLANK, PAD, EOS, 6}
            assert len(hypothesis["positional_scores"]) == len(hypothesis["tokens"])
