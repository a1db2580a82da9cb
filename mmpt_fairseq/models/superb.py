"""SUPERB model (arXiv 2105.01051): frozen upstream, weighted sum of its layers, small head."""

from dataclasses import dataclass, field

import torch
from fairseq.models import BaseFairseqModel, register_model
from torch import Tensor, nn

from manifests.errors import InputError
from mmpt_fairseq.data.superb_labels import UTTERANCE_KINDS
from mmpt_fairseq.models.encoder_config import check_at_least
from mmpt_fairseq.models.upstreams import UpstreamConfig, build_upstream
from mmpt_fairseq.modules.superb_heads import (
    DiarizationHead,
    FrameHead,
    UtteranceHead,
    WeightedSum,
)
from mmpt_fairseq.modules.upstreams import Upstream


@dataclass
class SuperbModelConfig(UpstreamConfig):
    """Defaults: the head sizes of s3prl; the upstream's sizes are read from its checkpoint."""

    upstream: str = field(
        default="fbank",
        metadata={
            "help": "fbank, random, random:CKPT, cached, or a checkpoint: of any stage, wav2vec "
            "2.0 or HuBERT"
        },
    )
    projector_dim: int = field(default=256, metadata={"help": "width between the linear layers"})
    lstm_dim: int = field(default=512, metadata={"help": "width of the LSTM (diarization)"})


@dataclass
class SuperbOutput:
    """``logits``, ``(B, classes)`` or ``(B, T, outputs)``; ``lengths`` ``(B,)`` of the states."""

    logits: Tensor
    lengths: Tensor


@register_model("mmpt_superb", dataclass=SuperbModelConfig)
class SuperbModel(BaseFairseqModel):
    """An upstream, never trained and always in evaluation mode, with a trained head."""

    def __init__(self, upstream: Upstream, head: nn.Module) -> None:
        super().__init__()
        self.upstream = upstream.requires_grad_(False).eval()
        self.mix, self.head = WeightedSum(upstream.layers), head

    @classmethod
    def build_model(cls, cfg: SuperbModelConfig, task) -> "SuperbModel":
        if cfg.upstream_mean and task.kind not in UTTERANCE_KINDS:
            raise InputError(
                f"the states in {task.cfg.data} are means over time, and {task.kind} needs every "
                "frame; store them again without --mean"
            )
        check_at_least(1, cfg, "projector_dim", "lstm_dim")
        upstream, size = build_upstream(cfg), task.labels.size
        if task.kind == "speaker_diarization":
            head = DiarizationHead(upstream.dim, size, cfg.lstm_dim)
        elif task.kind == "phoneme_recognition":
            head = FrameHead(upstream.dim, size, cfg.projector_dim)
        else:
            head = UtteranceHead(upstream.dim, size, cfg.projector_dim)
        return cls(upstream, head)

    def train(self, mode: bool = True) -> "SuperbModel":
        super().train(mode)
        self.upstream.eval()
        return self

    def forward(self, source: Tensor, lengths: Tensor) -> SuperbOutput:
        """``source``: ``(B, T, F)``, ``(B, samples)`` or stored states ``(B, T, layers, D)``."""
        with torch.no_grad():
            hidden = self.upstream(source, lengths)
        return SuperbOutput(self.head(self.mix(hidden.states), hidden.lengths), hidden.lengths)

    def max_positions(self) -> None:
        return None
