import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from fairseq.logging import metrics

from manifests.errors import InputError
from mmpt_fairseq.criterions.label_smoothed_cross_entropy import ManifestLabelSmoothedCrossEntropy
from tests.helpers import speech_batch, speech_model, speech_task


def criterion(smoothing=0.1, ctc_weight=0.3, **guide):
    return ManifestLabelSmoothedCrossEntropy(
        speech_task(), False, smoothing, 0, True, ctc_weight, **guide
    )


@pytest.mark.parametrize(("updates", "warns"), [(4, True), (5, True), (6, False), (0, False)])
def test_warns_if_ctc_is_guided_in_all_updates(caplog, updates, warns):
    criterion(ctc_guide_updates=5, max_update=updates)
    assert ("CTC is guided" in caplog.text and "in all" in caplog.text) == warns


def ctc_by_enumeration(probabilities, target):
    """-log of the summed probability of all paths that collapse to ``target``; 0 is the blank."""
    total = 0.0
    for path in itertools.product(range(probabilities.shape[1]), repeat=len(probabilities)):
        if [label for label, _ in itertools.groupby(path) if label != 0] == target:
            total += math.prod(float(probabilities[t, k]) for t, k in enumerate(path))
    return -math.log(total)


@torch.no_grad()
def test_loss_is_smoothed_cross_entropy_plus_weighted_ctc():
    model, targets = speech_model(), [[4, 5], [6, 6], [5]]
    batch = speech_batch([18, 16, 9], targets)
    loss, size, logs = criterion()(model, batch)
    logits, extra = model(**batch["net_input"])
    log_probabilities = logits.double().log_softmax(-1)
    expected = likelihood = 0.0
    for row, target in enumerate(targets):
        for place, token in enumerate([*target, 2]):
            for symbol in range(7):
                probability = 0.9 if symbol == token else 0.1 / 6
                expected -= probability * log_probabilities[row, place, symbol].item()
            likelihood -= log_probabilities[row, place, token].item()
    lprobs, lengths = model.get_ctc_output((logits, extra), batch)
    ctc = sum(
        ctc_by_enumeration(lprobs[:n, row].exp().numpy(), targets[row])
        for row, n in enumerate(lengths.tolist())
    )
    assert logs["nll_loss"] == pytest.approx(likelihood, rel=1e-4)
    assert logs["ctc_loss"] == pytest.approx(ctc, rel=1e-4)
    assert loss.item() == pytest.approx(expected + 0.3 * ctc, rel=1e-4)
    assert size == 8
    assert logs["total"] == 8
    with metrics.aggregate() as logged:
        ManifestLabelSmoothedCrossEntropy.reduce_metrics([logs, logs])
    values = logged.get_smoothed_values()
    assert values["ctc_loss"] == pytest.approx(ctc / 5 / math.log(2), abs=1e-3)  # of 5 labels
    assert values["loss"] == pytest.approx(loss.item() / 8 / math.log(2), abs=1e-3)


def test_row_without_transcript_has_no_ctc_loss():
    """Nor a gradient; both are 0 if no row has a transcript."""
    model, batch = speech_model(), speech_batch([16, 16], [[4, 5], [6, 6]])

    def ctc(transcribed):
        """CTC loss and gradient of the CTC head if only the first rows have transcripts."""
        model.zero_grad()
        lengths = torch.tensor([2] * transcribed + [0] * (2 - transcribed))
        targets = batch["ctc_target"][:, : int(lengths.max())]
        changed = {**batch, "ctc_target": targets, "ctc_target_lengths": lengths}
        loss, _, logs = criterion(ctc_weight=1.0)(model, changed)
        loss.backward()
        return logs["ctc_loss"], model.encoder.ctc_projection.weight.grad.clone()

    with_one, gradient = ctc(transcribed=1)
    logits, extra = model(**batch["net_input"])
    lprobs, lengths = model.get_ctc_output((logits, extra), batch)
    alone = ctc_by_enumeration(lprobs[: lengths[0], 0].detach().exp().numpy(), [4, 5])
    assert with_one == pytest.approx(alone, rel=1e-4)
    assert gradient.abs().sum() > 0
    with_none, gradient = ctc(transcribed=0)
    assert (with_none, gradient.abs().sum()) == (0, 0)


def test_without_a_decoder_the_loss_is_ctc_only():
    """It equals the CTC term of a model with decoder, and all encoder parameters get gradients."""
    batch = speech_batch([18, 16, 9], [[4, 5], [6, 6], [5]])
    whole, alone = speech_model(), speech_model(decoder_layers=0)
    alone.encoder.load_state_dict(whole.encoder.state_dict())
    loss, size, logs = criterion(ctc_weight=1.0)(alone, batch)
    assert logs["ctc_loss"] == pytest.approx(
        criterion(ctc_weight=1.0)(whole, batch)[2]["ctc_loss"], rel=1e-5
    )
    assert (loss.item(), size) == (logs["ctc_loss"], 8)
    assert logs["nll_loss"] == logs["total"] == 0
    with metrics.aggregate() as logged:
        ManifestLabelSmoothedCrossEntropy.reduce_metrics([logs, {**logs, "loss": 3 * logs["loss"]}])
    values = logged.get_smoothed_values()
    assert values["loss"] == pytest.approx(2 * logs["loss"] / size / math.log(2), abs=1e-3)
    assert set(values) == {"loss", "ctc_loss"}  # no perplexity, which would be 1
    loss.backward()
    assert all(p.grad is not None for p in alone.encoder.parameters())
    with pytest.raises(InputError, match="leaves only the CTC loss"):
        criterion(ctc_weight=0.0)(alone, batch)


@torch.no_grad()
def test_target_longer_than_its_audio_has_no_ctc_loss():
    model = speech_model()
    both = speech_batch([16, 8], [[4, 5], [6, 6]])  # 6 6 needs three frames, 8 give two
    one = speech_batch([16], [[4, 5]])
    one["net_input"]["src_tokens"] = both["net_input"]["src_tokens"][:1]
    together, alone = (criterion()(model, batch)[2]["ctc_loss"] for batch in (both, one))
    assert alone > 0
    assert together == pytest.approx(alone, rel=1e-4)


@torch.no_grad()
def test_without_ctc_no_head_is_needed():
    batch = speech_batch([16, 8], [[4, 5], [6]])
    loss, _, logs = criterion(smoothing=0.0, ctc_weight=0.0)(speech_model(ctc=False), batch)
    assert logs["ctc_loss"] == 0
    assert loss.item() == pytest.approx(logs["nll_loss"], rel=1e-5)


@torch.no_grad()
def test_guide_affects_only_training_in_its_updates():
    """In validation it is off, so that losses are comparable over training."""
    model, batch = speech_model(dropout=0.0), speech_batch([60, 44], [[4, 5, 6], [6, 4]])
    plain, guided = criterion(), criterion(ctc_guide_updates=100, ctc_guide_width=0.06)

    def ctc(criterion, update):
        model.set_num_updates(update)
        return criterion(model, batch)[2]["ctc_loss"]

    free = ctc(plain, 0)
    assert ctc(guided, 0) > ctc(guided, 50) > free + 1e-3
    assert ctc(guided, 100) == ctc(guided, 5000) == free
    guided.eval()
    assert ctc(guided, 0) == free


@pytest.mark.parametrize(("key", "value"), [("updates", -1), ("width", 0.0)])
def test_guide_options_out_of_range_are_refused_by_key(key, value):
    with pytest.raises(InputError, match=rf"criterion\.ctc_guide_{key}={value} must be"):
        criterion(**{f"ctc_guide_{key}": value})


@torch.no_grad()
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("dtype", [torch.float, torch.bfloat16])
def test_guide_follows_the_speech_of_each_clip(stored, dtype):
    """Equals CTC of probabilities weighted frame by frame, for a clip with leading silence, one
    with trailing silence and one without transcript. With stored states progress is linear in time.
    """
    targets, speech = [[4, 5, 6], [6, 4], []], [range(32, 63), range(33), range(52)]
    model, batch = speech_model(dropout=0.0).to(dtype), speech_batch([63, 41, 52], targets)
    source = batch["net_input"]["src_tokens"]
    source -= source.mean(-1, keepdim=True)
    for row, frames in enumerate(speech):
        source[row] += torch.tensor([20.0 * (t in frames) for t in range(63)])[:, None]
    if stored:
        model.encoder.given_states = True
        source = source[..., : model.encoder.ctc_projection.in_features]
    batch["net_input"]["src_tokens"] = source.to(dtype)
    guided = criterion(ctc_weight=1.0, ctc_guide_updates=100, ctc_guide_width=0.1)
    model.set_num_updates(40)
    found = guided(model, batch)[2]["ctc_loss"]
    lprobs, lengths = model.get_ctc_output(model(**batch["net_input"]), batch)
    expected = 0.0
    for row, target in enumerate(targets[:2]):
        steps, frames = int(lengths[row]), int(batch["net_input"]["src_lengths"][row])
        assert steps == (frames if stored else math.ceil(frames / 4))
        weighted = lprobs[:steps, row].double().clone()
        for step in range(steps):
            middle = math.floor((step + 0.5) * frames / steps)
            before = sum(t in speech[row] for t in range(middle))
            progress = (before + (middle in speech[row]) / 2) / len(speech[row])
            fraction = (step + 0.5) / steps if stored else progress
            for place, label in enumerate(target):
                distance = fraction - (place + 0.5) / len(target)
                weighted[step, label] -= 0.6 * distance**2 / (2 * 0.1**2)
        loss = F.ctc_loss(weighted, torch.tensor(target), [steps], [len(target)], reduction="sum")
        expected += loss.item()
    assert found == pytest.approx(expected, rel=1e-4)


def test_guide_without_ctc_is_refused():
    with pytest.raises(InputError, match=r"criterion\.ctc_guide_updates has no effect"):
        criterion(ctc_weight=0.0, ctc_guide_updates=10)
