"""Config of the task of stage 1."""

from dataclasses import dataclass, field
from typing import Optional

from omegaconf import II, MISSING

from manifests.errors import InputError
from mmpt_fairseq.data.av_dataset import ClipOptions
from mmpt_fairseq.tasks._config import TaskConfig


@dataclass
class AVPretrainingConfig(TaskConfig):
    """Defaults follow the paper where it gives values."""

    data: str = field(default=MISSING, metadata={"help": "folder of the manifests"})
    audio_root: Optional[str] = field(
        default=None, metadata={"help": "root of relative paths (default: the manifest's folder)"}
    )
    max_audio_frames: int = field(
        default=ClipOptions.max_audio_frames,
        metadata={"help": "maximum filterbank frames (10 ms each) used per clip"},
    )
    random_start: bool = field(
        default=ClipOptions.random_start,
        metadata={
            "help": "in training, crop longer clips (audio and video alike) at a random position "
            "instead of at the start, as data augmentation"
        },
    )
    use_video: bool = field(
        default=ClipOptions.use_video, metadata={"help": "read video of the rows that have it"}
    )
    video_num_frames: int = field(
        default=ClipOptions.video_num_frames, metadata={"help": "video frames per clip"}
    )
    video_stride: int = field(
        default=ClipOptions.video_stride, metadata={"help": "use every n-th video frame"}
    )
    video_size: int = field(
        default=ClipOptions.video_size, metadata={"help": "height and width in pixels"}
    )
    video_crop_scale: float = field(
        default=ClipOptions.video_crop_scale,
        metadata={"help": "smallest fraction of the frame area in a random crop"},
    )
    audio_mask_ratio: float = field(
        default=ClipOptions.audio_mask_ratio, metadata={"help": "fraction of audio frames masked"}
    )
    video_mask_ratio: float = field(
        default=ClipOptions.video_mask_ratio, metadata={"help": "fraction of video patches masked"}
    )
    audio_mask_span: int = field(
        default=ClipOptions.audio_mask_span,
        metadata={"help": "length of masked spans in encoder frames (40 ms each)"},
    )
    video_tubes: bool = field(
        default=ClipOptions.video_tubes,
        metadata={"help": "tube masking: mask the same positions in all frames of a clip"},
    )
    modality_dropout: float = field(
        default=ClipOptions.modality_dropout,
        metadata={
            "help": "fraction of the audio-visual clips of which one modality, audio or video, "
            "is masked entirely; needs model.joint_decoding"
        },
    )
    compile: str = field(
        default="",
        metadata={
            "help": "torch.compile backend for the layers in training (inductor needs a C++ "
            "compiler and some minutes at the start); empty: no compilation"
        },
    )
    pictures: bool = field(
        default=True,
        metadata={"help": "plot a reconstruction in TensorBoard after every validation"},
    )
    tensorboard_logdir: Optional[str] = II("common.tensorboard_logdir")


def check_clips(cfg: AVPretrainingConfig) -> None:
    """Check the ranges of sizes, ratios and spans.

    Raises:
        InputError: a value is out of range; the message names the key and its limits.
    """
    for name in (
        "max_audio_frames",
        "video_num_frames",
        "video_stride",
        "video_size",
        "audio_mask_span",
    ):
        if getattr(cfg, name) < 1:
            raise InputError(f"task.{name}={getattr(cfg, name)} must be at least 1")
    if not 0 < cfg.video_crop_scale <= 1:
        raise InputError(
            f"task.video_crop_scale={cfg.video_crop_scale} must be above 0 and at most 1"
        )
    for name in ("audio_mask_ratio", "video_mask_ratio"):
        if not 0 <= getattr(cfg, name) < 1:
            raise InputError(
                f"task.{name}={getattr(cfg, name)} must be at least 0 (no masking) and below 1, "
                "because the encoder needs visible input"
            )
    if not 0 <= cfg.modality_dropout <= 1:
        raise InputError(f"task.modality_dropout={cfg.modality_dropout} must be from 0 to 1")
