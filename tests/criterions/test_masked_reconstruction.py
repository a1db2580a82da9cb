import pytest
import torch
from fairseq.logging import metrics

from mmpt_fairseq.criterions.contrastive import ContrastiveCriterion
from mmpt_fairseq.criterions.masked_reconstruction import (
    MaskedReconstructionCriterion,
    reconstruction_loss,
)
from mmpt_fairseq.models.av_pretraining import Reconstruction


def test_loss_and_logs_are_sums_over_clips():
    audio, video = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([10.0, 20.0])
    loss, logs = reconstruction_loss(Reconstruction(audio, video, audio, None), 0.1)
    assert loss.item() == pytest.approx(7 + 3)
    counts = {"mae_audio": 7.0, "mae_audio_clips": 3, "mae_video": 30.0, "mae_video_clips": 2}
    assert logs == counts


@pytest.mark.parametrize("criterion", [MaskedReconstructionCriterion, ContrastiveCriterion])
def test_logs_of_several_processes_are_weighted_by_clips(criterion):
    """Also if logs are summed over processes first, as in fairseq."""
    logs = [
        {"loss": 8.0, "sample_size": 2, "mae_audio": 8.0, "mae_audio_clips": 2},
        {"loss": 1.0, "sample_size": 1, "mae_audio": 1.0, "mae_audio_clips": 1},
    ]
    assert criterion.logging_outputs_can_be_summed()
    summed = [{key: sum(log[key] for log in logs) for key in logs[0]}]
    for outputs in (logs, summed):
        with metrics.aggregate() as meters:
            criterion.reduce_metrics(outputs)
        assert meters["loss"].avg == pytest.approx(3.0)
        assert meters["mae_audio"].avg == pytest.approx(3.0)


def test_metrics_without_clips_are_not_logged():
    logs = {"loss": 0.0, "sample_size": 0, "clr": 0.0, "clr_clips": 0}
    with metrics.aggregate() as meters:
        ContrastiveCriterion.reduce_metrics([logs])
    assert "clr" not in meters.get_smoothed_values()
    assert meters.get_smoothed_values()["loss"] == 0
