"""Contrastive learning (CLR): symmetric InfoNCE between the clips of a batch, and MAE+CLR.

For unit vectors a_i, v_i and scale s, with negatives from all processes (arXiv 2103.00020):

    loss = 1/2 sum_i [ -log softmax_j(s a_i . v_j)_i - log softmax_j(s v_i . a_j)_i ]
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from fairseq.criterions import register_criterion
from fairseq.dataclass import FairseqDataclass
from torch import Tensor

from mmpt_fairseq.criterions.masked_reconstruction import (
    MaskedReconstructionConfig,
    PretrainingCriterion,
    logging_output,
    reconstruction_loss,
)
from mmpt_fairseq.criterions.retrieval import Retrieval
from mmpt_fairseq.criterions.weights import check_weight
from mmpt_fairseq.models.av_pretraining import Embeddings
from mmpt_fairseq.modules.distributed import gather_from_all_processes


@register_criterion("mmpt_contrastive", dataclass=FairseqDataclass)
class ContrastiveCriterion(PretrainingCriterion):
    """CLR only.

    Attributes:
        retrieval: collects the pairs of the current validation set.
    """

    contrasts = True

    def __init__(self, task) -> None:
        super().__init__(task)
        self.retrieval = Retrieval()

    def contrast(self, embeddings: Embeddings, sample: dict) -> tuple[Tensor, dict]:
        """Loss and logs; in evaluation the pairs are also added to ``retrieval``."""
        is_dummy = sample.get("is_dummy", False)
        if not self.training:
            self.retrieval.add(embeddings, is_dummy)
        return contrastive_loss(embeddings, is_dummy)

    def forward(self, model, sample, reduce=True):
        """fairseq's (loss, sample size, logging output)."""
        _, embeddings = model(**sample["net_input"], reconstruct=False, contrast=True)
        loss, logs = self.contrast(embeddings, sample)
        pairs = logs["clr_clips"]
        return loss, pairs, logging_output(sample, loss, pairs, logs)


@dataclass
class ReconstructionAndContrastiveConfig(MaskedReconstructionConfig):
    """Defaults: the paper's unweighted sum of both losses."""

    contrastive_weight: float = field(
        default=1.0, metadata={"help": "weight of CLR, relative to MAE (paper: 1)"}
    )


@register_criterion(
    "mmpt_masked_reconstruction_and_contrastive", dataclass=ReconstructionAndContrastiveConfig
)
class ReconstructionAndContrastiveCriterion(ContrastiveCriterion):
    """MAE on masked input plus CLR on unmasked clips, or on the same masked input."""

    reconstructs = True

    def __init__(self, task, video_weight: float, contrastive_weight: float) -> None:
        super().__init__(task)
        check_weight("video_weight", video_weight)
        check_weight("contrastive_weight", contrastive_weight)
        self.video_weight, self.contrastive_weight = video_weight, contrastive_weight

    def forward(self, model, sample, reduce=True):
        """fairseq's (loss, sample size, logging output)."""
        reconstruction, embeddings = model(**sample["net_input"], reconstruct=True, contrast=True)
        mae, mae_logs = reconstruction_loss(reconstruction, self.video_weight)
        clr, clr_logs = self.contrast(embeddings, sample)
        loss = mae + self.contrastive_weight * clr
        clips = sample["nsentences"]
        return loss, clips, logging_output(sample, loss, clips, {**mae_logs, **clr_logs})


def contrastive_loss(embeddings: Embeddings, is_dummy: bool = False) -> tuple[Tensor, dict]:
    """InfoNCE of this process's clips against those of all processes, summed, and logs.

    Args:
        embeddings: unit vectors ``(P, D)``; every process must call this, even if P is 0.
        is_dummy: the batch only keeps processes in step; its clips are left out.
    """
    rows = 0 if is_dummy else len(embeddings.audio)
    both = torch.cat([embeddings.audio, embeddings.video], 1)
    gathered, start = gather_from_all_processes(both, rows)
    all_audio, all_video = gathered.chunk(2, 1)
    target = torch.arange(start, start + rows, device=all_audio.device)
    # Autocast is off: in 16 bits cosines close to 1, times a scale of 100, would be too coarse.
    with torch.autocast(all_audio.device.type, enabled=False):
        scale = embeddings.log_scale.exp()
        audio_to_video = scale * embeddings.audio[:rows] @ all_video.t()  # (rows, all rows)
        video_to_audio = scale * embeddings.video[:rows] @ all_audio.t()
        loss = 0.5 * (
            F.cross_entropy(audio_to_video, target, reduction="sum")
            + F.cross_entropy(video_to_audio, target, reduction="sum")
            if rows
            else audio_to_video.sum() + video_to_audio.sum()  # 0, with a graph for backward
        )
    # Always a tensor: fairseq sums tensors and numbers of processes separately.
    correct = (audio_to_video.argmax(1) == target).sum() if rows else loss.new_zeros(())
    logs = {
        "clr": loss.detach(),
        "clr_clips": rows,
        "clr_accuracy": correct,
        "clr_accuracy_clips": rows,
    }
    return loss, logs
