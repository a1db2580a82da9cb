r"""A custom masking and a custom objective built on stage 1's: a template for a ``--user-dir``.

    fairseq-hydra-train --config-dir examples/own/config --config-name pretraining \
        common.user_dir=examples/extending task._name=gap_pretraining \
        criterion._name=fading_reconstruction +criterion.half_life=2000 \
        task.data=data/pretrain checkpoint.save_dir=runs/gap

fairseq imports the folder as a package. What is registered here has its own name and the options of
its dataclass; the rest is inherited from the parent. ``mmpt-report``, ``mmpt-transcribe`` and
``mmpt_fairseq.export`` load its checkpoints when given ``--user-dir examples/extending``, Python
code once the package is imported. Stages 2 and 3 initialise from its encoder as from any other.
"""

from dataclasses import dataclass, field

import numpy as np
from fairseq.criterions import register_criterion
from fairseq.tasks import register_task
from numpy.typing import NDArray

from mmpt_fairseq.criterions.masked_reconstruction import (
    MaskedReconstructionConfig,
    MaskedReconstructionCriterion,
)
from mmpt_fairseq.data.av_dataset import ClipOptions
from mmpt_fairseq.data.masks import masked_count
from mmpt_fairseq.tasks.av_pretraining import AVPretrainingConfig, AVPretrainingTask


class GapOptions(ClipOptions):
    """Mask one contiguous span of a clip's audio."""

    def mask_audio(self, length: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Mask over encoder frames ``(length,)``, True = masked."""
        count = masked_count(length, self.audio_mask_ratio)
        start = rng.integers(length - count + 1)
        places = np.arange(length)
        return (places >= start) & (places < start + count)


@register_task("gap_pretraining", dataclass=AVPretrainingConfig)
class GapPretrainingTask(AVPretrainingTask):
    """Stage 1 with the masking of :class:`GapOptions`."""

    clip_options = GapOptions


@dataclass
class FadingReconstructionConfig(MaskedReconstructionConfig):
    """The parent's options and ``half_life``."""

    half_life: float = field(
        default=1000.0,
        metadata={"help": "updates after which the weight of the video term has halved"},
    )


@register_criterion("fading_reconstruction", dataclass=FadingReconstructionConfig)
class FadingReconstruction(MaskedReconstructionCriterion):
    """MAE whose video weight decays exponentially."""

    def __init__(self, task, video_weight: float, half_life: float) -> None:
        super().__init__(task, video_weight)
        self.first_weight, self.half_life = video_weight, half_life

    def forward(self, model, sample, reduce=True):
        """Return fairseq's (loss, sample size, logging output)."""
        self.video_weight = self.first_weight * 0.5 ** (self.task.updates / self.half_life)
        return super().forward(model, sample, reduce)
