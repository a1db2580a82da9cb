"""Speech with phoneme times from eSpeak NG, and background noise.

eSpeak keeps state from one call to the next, so that the same sentence sounds different the second
time. Each utterance is therefore spoken in a fork of a process that has only initialised it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import pickle
import random
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common import CorpusError

SAMPLE_RATE = 16_000
# The accents and variants that repeat from process to process; f2, f3, f5 and whisper do not.
ACCENTS = ("en-us", "en-us-nyc", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-029")
VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f4") + (
    "klatt",
    "klatt2",
    "klatt3",
    "klatt4",
)
NOISE_SLOPES = {"white": 0.0, "pink": -0.5, "brown": -1.0, "blue": 0.5}  # exponent of amplitude

# Of espeak-ng/speak_lib.h:
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_PHONEME_EVENTS = 1
_EVENT_LIST_TERMINATED, _EVENT_PHONEME = 0, 7
_RATE, _PITCH, _RANGE = 1, 3, 4
_CHARS_UTF8 = 1


@dataclass(frozen=True)
class Speaker:
    """A voice: eSpeak's accent and variant, pitch and its range (0-100), words per minute."""

    name: str
    voice: str
    pitch: int
    pitch_range: int
    rate: int


@dataclass(frozen=True)
class Speech:
    """`samples` (n_samples,) float32 at 16 kHz; `phonemes` are (start in seconds, mnemonic)."""

    samples: NDArray[np.float32]
    phonemes: tuple[tuple[float, str], ...]


class _EventId(ctypes.Union):
    _fields_ = [
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    ]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def draw_speakers(seed: int, n: int) -> list[Speaker]:
    """`n` speakers, no two of them with the same accent and variant."""
    voices = [f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS]
    if n > len(voices):
        raise CorpusError(f"There are {len(voices)} voices, fewer than the {n} speakers asked for.")
    rng = random.Random(f"speakers {seed}")
    return [
        Speaker(f"s{i:03d}", voice, rng.randint(25, 75), rng.randint(30, 70), rng.randint(140, 195))
        for i, voice in enumerate(rng.sample(voices, n))
    ]


@functools.cache
def _library() -> tuple[ctypes.CDLL, int]:
    """eSpeak, initialised but never used in this process, and its sample rate."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise CorpusError(
            "The generated corpus is spoken by eSpeak NG: pip install espeakng-loader"
        ) from error
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = os.fsencode(espeakng_loader.get_data_path())
    rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data, _INITIALIZE_PHONEME_EVENTS)
    if rate <= 0:
        raise CorpusError(
            "eSpeak NG finds no voices: pip install --force-reinstall espeakng-loader"
        )
    return library, rate


def speak(text: str, speaker: Speaker) -> Speech:
    """Speak English text; the same text and speaker give the same samples."""
    _, rate = _library()
    pcm, phonemes = pickle.loads(_in_a_fork(text, speaker))
    if not pcm:
        raise CorpusError(f"eSpeak NG made no sound of {text!r} with the voice {speaker.voice}.")
    samples = np.frombuffer(pcm, np.int16).astype(np.float32) / 32768
    return Speech(resample(samples, rate), tuple(phonemes))


def _in_a_fork(text: str, speaker: Speaker) -> bytes:
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads (of BLAS): the child below takes no locks.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with os.fdopen(writer, "wb") as stream:
                stream.write(pickle.dumps(_synthesise(text, speaker)))
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()
    if os.waitpid(pid, 0)[1] != 0:
        raise CorpusError(f"eSpeak NG failed on {text!r} with the voice {speaker.voice}.")
    return answer


def _synthesise(text: str, speaker: Speaker) -> tuple[bytes, list[tuple[float, str]]]:
    """16-bit samples at eSpeak's own rate, and phonemes."""
    library, _ = _library()
    pcm, phonemes = bytearray(), []

    def receive(wave, count, events) -> int:
        if wave and count > 0:
            pcm.extend(ctypes.string_at(wave, 2 * count))
        index = 0
        while events[index].type != _EVENT_LIST_TERMINATED:
            if events[index].type == _EVENT_PHONEME:
                name = events[index].id.string.decode("utf-8", "replace")
                phonemes.append((events[index].audio_position / 1000, name))
            index += 1
        return 0

    callback = _Callback(receive)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(speaker.voice.encode()) != 0:
        raise CorpusError(f"eSpeak NG has no voice {speaker.voice}.")
    settings = ((_RATE, speaker.rate), (_PITCH, speaker.pitch), (_RANGE, speaker.pitch_range))
    for parameter, value in settings:
        library.espeak_SetParameter(parameter, value, 0)
    data = text.encode()
    library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
    library.espeak_Synchronize()
    return bytes(pcm), phonemes


def resample(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """To 16 kHz by cutting the spectrum; the ends of the signal should be silent."""
    divisor = np.gcd(rate, SAMPLE_RATE)
    down = rate // divisor
    blocks = -(-len(samples) // down)
    spectrum = np.fft.rfft(samples, blocks * down)
    wanted = blocks * SAMPLE_RATE // divisor
    out = np.fft.irfft(spectrum[: wanted // 2 + 1], wanted) * (wanted / (blocks * down))
    return out.astype(np.float32)


def in_noise(speech: Speech, rng: np.random.Generator) -> Speech:
    """Silence around the speech, a random level, and noise of a random colour at 10-30 dB SNR.

    The length becomes a whole number of 40 ms video frames.
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
