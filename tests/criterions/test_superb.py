"""Losses of SUPERB's tasks against explicit computations, and their metrics."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from fairseq.logging import metrics

from mmpt_fairseq.criterions.superb import SuperbCriterion, permutation_invariant_loss
from mmpt_fairseq.data.superb_labels import make_labels
from mmpt_fairseq.models.superb import SuperbOutput


def test_diarization_loss_is_invariant_to_speaker_order():
    torch.manual_seed(0)
    logits, lengths = torch.randn(2, 7, 2), torch.tensor([7, 4])
    target = (torch.rand(2, 7, 2) > 0.5).float()
    loss = permutation_invariant_loss(logits, target, lengths)
    expected = 0.0
    for i, n in enumerate(lengths.tolist()):
        orders = [target[i, :n], target[i, :n].flip(1)]
        expected += min(
            float(F.binary_cross_entropy_with_logits(logits[i, :n], t)) * n for t in orders
        )
    assert abs(float(loss) - expected) < 1e-4
    swapped = target.clone()
    swapped[1] = swapped[1].flip(1)
    assert torch.allclose(permutation_invariant_loss(logits, swapped, lengths), loss)
    logits[1, 4:] = 1e4  # padding
    assert torch.allclose(permutation_invariant_loss(logits, target, lengths), loss)


BATCHES = {  # the first batch of each has no speech, phones or clips
    "der": (
        {"missed": 0, "false_alarms": 30, "confused": 0, "spoken": 0},
        {"missed": 5, "false_alarms": 3, "confused": 2, "spoken": 40},
        100.0,
    ),
    "per": ({"phone_errors": 0, "phones": 0}, {"phone_errors": 3, "phones": 12}, 25.0),
    "accuracy": ({"correct": 0, "clips": 0}, {"correct": 2, "clips": 3}, 66.67),
}


@pytest.mark.parametrize("name", BATCHES)
def test_metrics_are_those_of_all_batches_together(name):
    """Independent of how batches are grouped in calls of ``reduce_metrics``."""
    *batches, expected = BATCHES[name]
    common = {"loss": 1.0, "sample_size": 1}
    logs = [common | batch for batch in batches]
    for steps in ([logs], [[each] for each in logs], [logs[::-1]]):
        with metrics.aggregate(new_root=True) as aggregated:
            for step in steps:
                SuperbCriterion.reduce_metrics(step)
        assert aggregated.get_smoothed_values()[name] == expected


def criterion(kind: str, inventory: list[list[str]]) -> SuperbCriterion:
    return SuperbCriterion(SimpleNamespace(kind=kind, labels=make_labels(kind, inventory)))


def test_ctc_loss_equals_torchs_mean():
    torch.manual_seed(0)
    subject = criterion("phoneme_recognition", [["a", "b", "c"]])
    logits, lengths = torch.randn(3, 12, 7), torch.tensor([12, 9, 2])
    target, sizes = torch.tensor([[4, 5, 6], [4, 4, 1], [4, 5, 6]]), torch.tensor([3, 2, 3])
    sample = {"target": target, "target_lengths": sizes}
    expected = F.ctc_loss(
        logits.log_softmax(-1).transpose(0, 1), target, lengths, sizes, zero_infinity=True
    )
    assert torch.allclose(subject._ctc(SuperbOutput(logits, lengths), sample) / 3, expected)


def test_cross_entropies_of_slots_are_summed():
    subject = criterion("intent_classification", [["a", "b"], ["x", "y", "z"]])
    logits, target = torch.randn(4, 5), torch.tensor([[0, 2], [1, 1], [0, 0], [1, 2]])
    expected = F.cross_entropy(logits[:, :2], target[:, 0]) + F.cross_entropy(
        logits[:, 2:], target[:, 1]
    )
    output = SuperbOutput(logits, torch.ones(4))
    assert torch.allclose(subject._cross_entropy(output, {"target": target}) / 4, expected)
