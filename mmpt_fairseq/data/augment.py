"""Speed perturbation (Ko et al., Interspeech 2015) and additive noise on waveforms.

Noise is one clip of a noise manifest, or the sum of several; several speech clips make babble.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from manifests.errors import InputError, UnreadableClip
from mmpt_fairseq.data.audio import is_cached
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.skipping import SkippedClips
from mmpt_fairseq.data.waveform import Waveform, read_waveform, resample

logger = logging.getLogger(__name__)

PERCENT = 100  # speeds are rounded to whole percents to keep resampling filters short
# Mean power of half a 16-bit quantisation step; below it there is silence but for rounding.
SILENCE_POWER = (0.5 / 2**15) ** 2
MAX_DRAWS = 10  # of a noise clip, until one is readable


@dataclass
class Augmentation:
    """Random augmentation of a training clip's waveform.

    Attributes:
        speeds: one is drawn per clip; 1.1 is 10 % faster, with a higher pitch.
        noises: clips to add, or None.
        probability: fraction of the clips that noise is added to.
        snr: lowest and highest signal-to-noise ratio in dB.
        sources: number of clips of ``noises`` that are summed into one noise.
    """

    speeds: tuple[float, ...] = (1.0,)
    noises: Manifest | None = None
    probability: float = 0.5
    snr: tuple[float, float] = (0.0, 20.0)
    sources: int = 1

    def __post_init__(self) -> None:
        rows = len(self.noises) if self.noises is not None else 0
        self.skipped = SkippedClips(rows, tolerate=True, kind="noise clips")

    @classmethod
    def from_config(cls, cfg) -> "Augmentation | None":
        """Build from the task's config; None if it configures no augmentation.

        Raises:
            InputError: a value is out of range, or the noise manifest is invalid.
        """
        speeds, snr = tuple(cfg.speeds), tuple(cfg.noise_snr)
        if not speeds or not all(0.5 <= speed <= 2.0 for speed in speeds):
            raise InputError(f"task.speeds={list(speeds)} must list speeds between 0.5 and 2")
        if len(snr) != 2 or snr[0] > snr[1]:
            raise InputError(
                f"task.noise_snr={list(snr)} must be the lowest and the highest ratio in dB"
            )
        if not 0.0 <= cfg.noise_probability <= 1.0 or cfg.noise_sources < 1:
            raise InputError(
                f"task.noise_probability={cfg.noise_probability} must be between 0 and 1 and "
                f"task.noise_sources={cfg.noise_sources} at least 1"
            )
        noise = cfg.noise_probability, snr, cfg.noise_sources
        enabled = cfg.noise_probability > 0
        if enabled and not cfg.noise_manifest and noise != (cls.probability, cls.snr, cls.sources):
            logger.warning(
                "task.noise_probability, task.noise_snr and task.noise_sources have no effect "
                "without a noise manifest; set task.noise_manifest"
            )
        if set(speeds) == {1.0} and not cfg.noise_manifest:
            return None
        path = Path(cfg.noise_manifest) if cfg.noise_manifest else None
        if path is not None and not path.is_file():
            raise InputError(
                f"there is no file task.noise_manifest={path}; set it to a manifest of noise "
                "clips, such as python -m manifests.folder writes"
            )
        noises = Manifest(path) if path is not None else None
        # The first row shows what a manifest holds.
        if noises is not None and is_cached(noises.resolve("audio", 0)):
            raise InputError(
                f"{noises.where(0)} holds cached features, but noise is added to waveforms; set "
                "task.noise_manifest to a manifest of audio files"
            )
        return cls(speeds, noises, *noise)

    def __call__(self, waveform: Waveform, generator: np.random.Generator) -> Waveform:
        """Return ``(samples,)`` with a speed and noise drawn from ``generator``."""
        waveform = change_speed(waveform, float(generator.choice(self.speeds)))
        if self.noises is not None and generator.random() < self.probability:
            noise = self._draw_noise(len(waveform), generator)
            waveform = add_noise(waveform, noise, generator.uniform(*self.snr))
        return waveform

    def _draw_noise(self, samples: int, generator: np.random.Generator) -> Waveform:
        """Sum of random clips as ``(samples,)``, each scaled to equal power.

        Each starts at a random position and repeats if short; a silent excerpt adds nothing.
        """
        mixed = np.zeros(samples, np.float64)
        for _ in range(self.sources):
            clip = self._draw_clip(generator)
            if clip is None:
                continue
            start = int(generator.integers(len(clip)))
            excerpt = np.resize(np.roll(clip, -start), samples).astype(np.float64)
            power = np.mean(excerpt**2)
            if power >= SILENCE_POWER:
                mixed += excerpt / np.sqrt(power)
        return mixed.astype(np.float32)

    def _draw_clip(self, generator: np.random.Generator) -> Waveform | None:
        """A random readable clip, or None if MAX_DRAWS clips are unreadable, which are counted."""
        for row in generator.integers(len(self.noises), size=MAX_DRAWS).tolist():
            self.skipped.count_read(row)
            try:
                return read_waveform(self.noises.resolve("audio", row))
            except UnreadableClip as error:
                self.skipped.report(row, self.noises.where(row), error)
        return None


def change_speed(waveform: Waveform, speed: float) -> Waveform:
    """Resample to ``(samples / speed,)``, which changes tempo and pitch alike."""
    return resample(waveform, PERCENT, round(speed * PERCENT))


def add_noise(waveform: Waveform, noise: Waveform, snr: float) -> Waveform:
    """Add ``noise`` of the same length, scaled to ``snr`` dB below the mean power of the clip.

    If either is silent, the waveform is returned unchanged.
    """
    signal_power, noise_power = (np.mean(np.square(x, dtype=np.float64)) for x in (waveform, noise))
    if min(signal_power, noise_power) < SILENCE_POWER:
        return waveform
    scale = np.sqrt(signal_power / noise_power * 10 ** (-snr / 10))
    return (waveform + scale * noise).astype(np.float32)
