"""Speech synthesis with phoneme times by eSpeak NG, and additive background noise."""

from __future__ import annotations

import functools
import importlib.util
import pickle
import random
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common import SAMPLE_RATE
from ..errors import InputError
from . import espeak

# Accents and variants whose output is the same in every process; f2, f3, f5 and whisper vary.
ACCENTS = ("en-us", "en-us-nyc", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-029")
MALE, FEMALE = ("m1", "m2", "m3", "m4", "m5", "m6", "m7"), ("f1", "f4")
VARIANTS = (*MALE, *FEMALE, "klatt", "klatt2", "klatt3", "klatt4")
# Exponent of the amplitude spectrum.
NOISE_SLOPES = {"white": 0.0, "pink": -0.5, "brown": -1.0, "blue": 0.5}


@dataclass(frozen=True)
class Speaker:
    """An eSpeak voice (accent+variant), its pitch and pitch range (0-100), and words per minute."""

    name: str
    voice: str
    pitch: int
    pitch_range: int
    rate: int


@dataclass(frozen=True)
class Speech:
    """`samples` (n_samples,) float32 at 16 kHz; `phonemes` as (start in seconds, mnemonic)."""

    samples: NDArray[np.float32]
    phonemes: tuple[tuple[float, str], ...]


def draw_speakers(seed: int, n: int) -> list[Speaker]:
    """Sample `n` speakers, no two of them with the same accent and variant."""
    voices = [f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS]
    if n > len(voices):
        raise InputError(f"There are {len(voices)} voices, fewer than the {n} speakers requested.")
    rng = random.Random(f"speakers {seed}")
    return [
        Speaker(f"s{i:03d}", voice, rng.randint(25, 75), rng.randint(30, 70), rng.randint(140, 195))
        for i, voice in enumerate(rng.sample(voices, n))
    ]


def require_espeak() -> None:
    """Raise InputError if the optional dependency is not installed."""
    if importlib.util.find_spec("espeakng_loader") is None:
        raise InputError("The generated corpus needs eSpeak NG: pip install espeakng-loader")


@functools.cache
def _server() -> subprocess.Popen:
    """The eSpeak subprocess of this process; it exits when its stdin closes."""
    require_espeak()
    command = [sys.executable, "-P", espeak.__file__]
    # A session of its own, so that Ctrl-C does not reach it.
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )


def speak(text: str, speaker: Speaker) -> Speech:
    """Synthesise English text; the same text and speaker give the same samples."""
    server = _server()
    request = (text, speaker.voice, speaker.rate, speaker.pitch, speaker.pitch_range)
    try:
        pickle.dump(request, server.stdin)
        server.stdin.flush()
        answer = pickle.load(server.stdout)
    except (BrokenPipeError, EOFError) as error:
        raise InputError("The eSpeak NG process has exited; see its message above.") from error
    if isinstance(answer, str):
        raise InputError(answer)
    rate, pcm, phonemes = answer
    samples = np.frombuffer(pcm, np.int16).astype(np.float32) / 32768
    return Speech(resample(samples, rate), tuple(phonemes))


def resample(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Resample to 16 kHz by truncating the spectrum; the signal should start and end in silence."""
    divisor = np.gcd(rate, SAMPLE_RATE)
    down = rate // divisor
    blocks = -(-len(samples) // down)
    spectrum = np.fft.rfft(samples, blocks * down)
    wanted = blocks * SAMPLE_RATE // divisor
    out = np.fft.irfft(spectrum[: wanted // 2 + 1], wanted) * (wanted / (blocks * down))
    return out.astype(np.float32)


def add_noise(speech: Speech, rng: np.random.Generator) -> Speech:
    """Pad with silence, add noise of a random colour at 10-30 dB SNR, and set a random level.

    The length is rounded up to a whole number of 40 ms video frames.
    """
    lead, trail = rng.uniform(0.08, 0.3, 2)
    start = int(lead * SAMPLE_RATE)
    length = start + len(speech.samples) + int(trail * SAMPLE_RATE)
    length = -(-length // 640) * 640
    slope = NOISE_SLOPES[str(rng.choice(list(NOISE_SLOPES)))]
    snr, level = rng.uniform(10, 30), rng.uniform(-27, -19)
    frequency = np.maximum(np.fft.rfftfreq(length), 40 / SAMPLE_RATE)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(length)) * frequency**slope, length)
    noise *= 10 ** (-snr / 20) / np.sqrt(np.mean(noise**2))
    samples = noise.copy()
    samples[start : start + len(speech.samples)] += speech.samples / np.sqrt(
        np.mean(speech.samples**2)
    )
    samples = np.clip(samples * 10 ** (level / 20), -1, 1).astype(np.float32)
    shift = start / SAMPLE_RATE
    return Speech(samples, tuple((time + shift, name) for time, name in speech.phonemes))
