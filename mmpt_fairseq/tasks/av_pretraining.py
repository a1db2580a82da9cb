"""Task of stage 1: audio-visual pre-training without labels."""

import logging
import os
from dataclasses import dataclass, field
from typing import Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import FairseqTask, register_task
from omegaconf import II, MISSING

from mmpt_fairseq.data.av_dataset import AVDataset, ClipOptions
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.errors import InputError, exit_on_input_error
from mmpt_fairseq.tasks._every_row import EveryRowMixin, check_start, is_training_split

logger = logging.getLogger(__name__)


@dataclass
class AVPretrainingConfig(FairseqDataclass):
    """Defaults are the paper's where it states them."""

    data: str = field(default=MISSING, metadata={"help": "folder of the manifests"})
    audio_root: Optional[str] = field(
        default=None, metadata={"help": "what paths in manifests are relative to (their folder)"}
    )
    max_audio_frames: int = field(
        default=1000, metadata={"help": "filterbank frames kept per clip (10 ms each)"}
    )
    use_video: bool = field(default=True, metadata={"help": "read pictures where rows have them"})
    video_num_frames: int = field(default=16, metadata={"help": "pictures per clip"})
    video_stride: int = field(default=4, metadata={"help": "frames from one picture to the next"})
    video_size: int = field(default=224, metadata={"help": "pixels on a side"})
    video_crop_scale: float = field(
        default=0.5, metadata={"help": "smallest share of the picture in a random crop"}
    )
    audio_mask_ratio: float = field(default=0.6, metadata={"help": "share of frames masked"})
    video_mask_ratio: float = field(default=0.6, metadata={"help": "share of patches masked"})
    seed: int = II("common.seed")
    train_subset: str = II("dataset.train_subset")
    decodes_with: Optional[str] = II("common_eval.path")
    distributed_world_size: int = II("distributed_training.distributed_world_size")


@register_task("mmpt_av_pretraining", dataclass=AVPretrainingConfig)
class AVPretrainingTask(EveryRowMixin, FairseqTask):
    """Reads ``<data>/<split>.tsv``; see :mod:`mmpt_fairseq.data.manifest` for its columns."""

    cfg: AVPretrainingConfig
    contrasts = False  # whether the criterion compares sound with pictures

    @classmethod
    def setup_task(cls, cfg: AVPretrainingConfig, **kwargs) -> "AVPretrainingTask":
        with exit_on_input_error():
            check_start(cfg, kwargs.get("from_checkpoint", False))
            for name in ("audio_mask_ratio", "video_mask_ratio"):
                if not 0 <= getattr(cfg, name) < 1:
                    raise InputError(
                        f"task.{name}={getattr(cfg, name)} must be at least 0 and below 1"
                    )
            return cls(cfg)

    def build_model(self, cfg: FairseqDataclass, from_checkpoint: bool = False):
        with exit_on_input_error():
            model = super().build_model(cfg, from_checkpoint)
        self.num_patches = model.video_encoder.patches.num_patches
        return model

    def build_criterion(self, cfg: FairseqDataclass):
        self.contrasts = "contrastive" in cfg._name
        return super().build_criterion(cfg)

    def load_dataset(self, split: str, combine: bool = False, **kwargs) -> None:
        cfg = self.cfg
        options = ClipOptions(
            max_frames=cfg.max_audio_frames,
            video=cfg.use_video,
            num_frames=cfg.video_num_frames,
            stride=cfg.video_stride,
            size=cfg.video_size,
            num_patches=self.num_patches,
            audio_mask_ratio=cfg.audio_mask_ratio,
            video_mask_ratio=cfg.video_mask_ratio,
            crop_scale=cfg.video_crop_scale,
        )
        with exit_on_input_error():
            manifest = Manifest(os.path.join(cfg.data, f"{split}.tsv"))
            with_video = sum(1 for path in manifest.column("video") if path and cfg.use_video)
            logger.info("%s: %d of %d rows have video", split, with_video, len(manifest))
            if self.contrasts and not with_video:
                raise InputError(
                    f"the contrastive loss needs video and no row of {manifest.path} has any; fill "
                    "the column video, or set criterion._name=mmpt_masked_reconstruction"
                )
            self.datasets[split] = AVDataset(
                manifest,
                options,
                training=is_training_split(cfg, split),
                seed=cfg.seed,
                audio_root=cfg.audio_root,
            )

    def max_positions(self) -> None:
        return None
