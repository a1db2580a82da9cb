"""Speed perturbation (Ko et al., Interspeech 2015) and additive noise on waveforms.

One noise is a clip of the noise manifest; several clips of speech at once are babble.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from manifests.errors import InputError, UnreadableClip
from mmpt_fairseq.data.audio import is_cached
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.waveform import Waveform, read_waveform, resample

logger = logging.getLogger(__name__)

PERCENT = 100  # speeds are taken to the percent, so that resampling stays short
# Mean power of half a step of 16 bits; what has less is silence but for its rounding.
SILENT = (0.5 / 2**15) ** 2


@dataclass
class Augmentation:
    """What may happen to a training clip.

    Attributes:
        speeds: one is drawn for every clip; 1.1 is a tenth faster, and higher.
        noises: clips to add, or None.
        probability: share of the clips that noise is added to.
        snr: lowest and highest signal-to-noise ratio in dB.
        sources: clips of ``noises`` that make one noise.
    """

    speeds: tuple[float, ...] = (1.0,)
    noises: Manifest | None = None
    probability: float = 0.5
    snr: tuple[float, float] = (0.0, 20.0)
    sources: int = 1

    @classmethod
    def from_config(cls, cfg) -> "Augmentation | None":
        """From the task's config; None where it asks for nothing.

        Raises:
            InputError: a value is out of range, or the noise manifest is at fault.
        """
        speeds, snr = tuple(cfg.speeds), tuple(cfg.noise_snr)
        if not speeds or not all(0.5 <= speed <= 2.0 for speed in speeds):
            raise InputError(f"task.speeds={list(speeds)} must name speeds between 0.5 and 2")
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
        wanted = cfg.noise_probability > 0
        if wanted and not cfg.noise_manifest and noise != (cls.probability, cls.snr, cls.sources):
            logger.warning(
                "task.noise_probability, task.noise_snr and task.noise_sources have no effect "
                "without noises; name their manifest in task.noise_manifest"
            )
        if set(speeds) == {1.0} and not cfg.noise_manifest:
            return None
        path = Path(cfg.noise_manifest) if cfg.noise_manifest else None
        if path is not None and not path.is_file():
            raise InputError(
                f"there is no task.noise_manifest={path}; name a manifest of noises, such as "
                "python -m manifests.folder writes of a folder"
            )
        noises = Manifest(path) if path is not None else None
        # The first row tells what a manifest holds.
        if noises is not None and is_cached(noises.resolve("audio", 0)):
            raise InputError(
                f"{noises.where(0)} holds cached features, and noise is added to waveforms; name "
                "the manifest of the sounds themselves in task.noise_manifest"
            )
        return cls(speeds, noises, *noise)

    def __call__(self, waveform: Waveform, generator: np.random.Generator) -> Waveform:
        """``(samples,)`` at another speed and with noise, as ``generator`` draws."""
        waveform = change_speed(waveform, float(generator.choice(self.speeds)))
        if self.noises is not None and generator.random() < self.probability:
            noise = self._noise(len(waveform), generator)
            waveform = add_noise(waveform, noise, generator.uniform(*self.snr))
        return waveform

    def _noise(self, samples: int, generator: np.random.Generator) -> Waveform:
        """``(samples,)``: clips of equal power, each from a random place on, repeated if short.

        One whose part is silent adds nothing.
        """
        mixed = np.zeros(samples, np.float64)
        for row in generator.integers(len(self.noises), size=self.sources):
            try:
                clip = read_waveform(self.noises.resolve("audio", int(row)))
            except UnreadableClip as error:
                where = self.noises.where(int(row))
                raise UnreadableClip(f"the noise {where} cannot be added: {error}") from None
            start = int(generator.integers(len(clip)))
            part = np.resize(np.roll(clip, -start), samples).astype(np.float64)
            power = np.mean(part**2)
            if power >= SILENT:
                mixed += part / np.sqrt(power)
        return mixed.astype(np.float32)


def change_speed(waveform: Waveform, speed: float) -> Waveform:
    """Resample, so that time and pitch change alike: ``(samples / speed,)``."""
    return resample(waveform, PERCENT, round(speed * PERCENT))


def add_noise(waveform: Waveform, noise: Waveform, snr: float) -> Waveform:
    """Add ``noise`` of the same length, scaled to ``snr`` dB below the mean power of the clip.

    Silent noise and silent clips change nothing.
    """
    signal, disturbance = (np.mean(np.square(x, dtype=np.float64)) for x in (waveform, noise))
    if min(signal, disturbance) < SILENT:
        return waveform
    scale = np.sqrt(signal / disturbance * 10 ** (-snr / 10))
    return (waveform + scale * noise).astype(np.float32)
