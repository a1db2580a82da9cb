"""Masked autoencoding (MAE): squared error on masked patches, summed over audio and video.

``loss = sum over clips of (audio error + video error)``, each error the mean over the masked
values of a clip. fairseq divides by the number of clips, so that neither batch size nor the number
of processes changes the gradient.
"""

from dataclasses import dataclass, field

from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from torch import Tensor

from mmpt_fairseq.criterions.weights import check_weight
from mmpt_fairseq.models.av_pretraining import Reconstruction


@dataclass
class MaskedReconstructionConfig(FairseqDataclass):
    """Defaults: the paper's unweighted sum of both terms."""

    video_weight: float = field(
        default=1.0, metadata={"help": "weight of the video error, relative to the audio error"}
    )


class PretrainingCriterion(FairseqCriterion):
    """Base of stage 1's criterions: logs are sums, so that they can be added over processes.

    Attributes:
        reconstructs: the criterion has an MAE term, which needs masked patches.
        contrasts: the criterion has a CLR term, which needs clips with audio and video.
    """

    reconstructs = contrasts = False

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict]) -> None:
        reduce_logs(logging_outputs)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


@register_criterion("mmpt_masked_reconstruction", dataclass=MaskedReconstructionConfig)
class MaskedReconstructionCriterion(PretrainingCriterion):
    """MAE only."""

    reconstructs = True

    def __init__(self, task, video_weight: float) -> None:
        super().__init__(task)
        check_weight("video_weight", video_weight)
        self.video_weight = video_weight

    def forward(self, model, sample, reduce=True):
        """fairseq's (loss, sample size, logging output)."""
        reconstruction, _ = model(**sample["net_input"], reconstruct=True)
        loss, logs = reconstruction_loss(reconstruction, self.video_weight)
        return loss, sample["nsentences"], logging_output(sample, loss, sample["nsentences"], logs)


def reconstruction_loss(
    reconstruction: Reconstruction, video_weight: float
) -> tuple[Tensor, dict[str, Tensor | int]]:
    """The weighted sum of all clips' errors, and logs: sums of errors and numbers of clips."""
    audio, video = reconstruction.audio_error.sum(), reconstruction.video_error.sum()
    logs = {
        "mae_audio": audio.detach(),
        "mae_audio_clips": len(reconstruction.audio_error),
        "mae_video": video.detach(),
        "mae_video_clips": len(reconstruction.video_error),
    }
    return audio + video_weight * video, logs


def logging_output(sample: dict, loss: Tensor, sample_size: int, logs: dict) -> dict:
    """fairseq's logging output of a batch; all entries are sums, which it may add up."""
    return {
        "loss": loss.detach(),
        "sample_size": sample_size,
        "nsentences": sample["nsentences"],
        "ntokens": sample["ntokens"],
        **logs,
    }


def reduce_logs(logging_outputs: list[dict]) -> None:
    """Log ``loss`` per sample, and per clip each ``name`` that has a count ``name_clips``."""

    def total(key: str) -> float:
        return float(sum(logs.get(key, 0) for logs in logging_outputs))

    size = total("sample_size")
    metrics.log_scalar("loss", total("loss") / max(size, 1), size, round=4)
    counts = sorted({k for logs in logging_outputs for k in logs if k.endswith("_clips")})
    for key in counts:
        name, clips = key.removesuffix("_clips"), total(key)
        if clips:
            metrics.log_scalar(name, total(name) / clips, clips, round=4)
