"""Sound: any file to 16 kHz mono, to log mel filterbanks, to normalised features.

One normalisation serves all stages and transcription: per clip, each mel bin gets zero mean and
unit variance over time (the utterance-level CMVN of fairseq's S2T recipes). During masked
pre-training the statistics come from the visible frames alone, because a statistic over the
masked ones would tell the encoder about them.
"""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from math import gcd
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmpt_fairseq.errors import UnreadableClip

SAMPLE_RATE = 16_000
NUM_MEL_BINS = 80
FRAME_LENGTH = SAMPLE_RATE * 25 // 1000  # samples in a 25 ms window
MIN_VARIANCE = 0.1  # of log energies; speech has 4 to 20
# Log energy that 16-bit rounding alone leaves, on average over the mel bins. What lies below is
# digital silence, as codecs leave at a clip's ends: it says nothing and would skew the variance.
ROUNDING_NOISE = 2.0
FRAME_SHIFT = SAMPLE_RATE * 10 // 1000  # samples between frames
# Decoders of compressed sound need some of what comes before the part that is wanted.
PREROLL = 0.5  # seconds
SOUNDFILE_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".aif", ".aiff"}

Waveform = NDArray[np.float32]
Features = NDArray[np.float32]


def num_frames(num_samples: int) -> int:
    """Filterbank frames that ``num_samples`` at 16 kHz give."""
    return max(0, 1 + (num_samples - FRAME_LENGTH) // FRAME_SHIFT)


def read_waveform(source: str) -> Waveform:
    """Decode a file, a slice of a recording or a slice of a ZIP to 16 kHz mono.

    Args:
        source: a path, ``recording.wav:offset:length`` (samples of the recording, which may be a
            video) or ``archive.zip:offset:length`` (bytes).

    Returns:
        ``(samples,)`` in [-1, 1].

    Raises:
        UnreadableClip: no such file, not audio, no audio track, no samples, or NaN among them.
    """
    path, offset, length = split_slice(source)
    check_file(path)
    if path.endswith(".zip"):
        waveform, rate = _decode(_zip_member(path, offset, length), source, 0, -1)
    else:
        waveform, rate = _decode(path, source, offset, length)
    if not len(waveform):
        raise UnreadableClip(f"{source} holds no samples")
    check_finite(waveform, source)
    return resample(waveform, *resampling_ratio(rate))


def check_file(path: str) -> None:
    """Raise UnreadableClip unless ``path`` is a file with something in it."""
    if os.path.isdir(path):
        raise UnreadableClip(f"{path} is a folder; name the audio files in it")
    if not os.path.isfile(path):
        raise UnreadableClip(f"there is no audio file {path}")
    if os.path.getsize(path) == 0:
        raise UnreadableClip(f"{path} is a file of zero bytes")


def check_finite(waveform: Waveform, name: str) -> None:
    """Raise UnreadableClip where a sample is NaN or infinite, as broken float WAVs have them."""
    if not np.isfinite(waveform).all():
        raise UnreadableClip(f"{name} holds samples that are infinite or not numbers")


def read_filterbank(source: str, change: Callable[[Waveform], Waveform] | None = None) -> Features:
    """Log mel energies ``(T, 80)`` of a clip, computed or read from cached ``.npy`` features.

    Computed ones are floored at the level of 16-bit rounding noise; cached ones stay as they are.

    Args:
        change: what to make of the waveform before.

    Raises:
        UnreadableClip: as :func:`read_waveform`, or shorter than one 25 ms window, or cached where
            the waveform is to be changed.
    """
    cached = _cached_features(source)
    if cached is not None and change is not None:
        raise UnreadableClip(f"{source} holds cached features, and augmentation needs waveforms")
    if cached is not None:
        return cached
    waveform = read_waveform(source)
    return floored_filterbank(change(waveform) if change else waveform, source)


def floored_filterbank(waveform: Waveform, name: str) -> Features:
    """Log mel energies ``(T, 80)`` of ``(samples,)``, floored at 16-bit rounding noise.

    Raises:
        UnreadableClip: shorter than one 25 ms window.
    """
    if len(waveform) < FRAME_LENGTH:
        raise UnreadableClip(
            f"{name} lasts {1000 * len(waveform) / SAMPLE_RATE:.0f} ms, less than one 25 ms frame"
        )
    return np.maximum(filterbank(waveform), ROUNDING_NOISE)


def filterbank(waveform: Waveform) -> Features:
    """Kaldi's 80-bin log mel energies (Povey window, 25/10 ms, no dither) as float32 ``(T, 80)``.

    Args:
        waveform: ``(samples,)`` in [-1, 1] at 16 kHz; scaled to 16-bit integers as Kaldi expects.
    """
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.mel_opts.num_bins = NUM_MEL_BINS
    computer = kaldi_native_fbank.OnlineFbank(options)
    computer.accept_waveform(SAMPLE_RATE, (waveform * 32768.0).astype(np.float32))
    computer.input_finished()
    frames = [computer.get_frame(i) for i in range(computer.num_frames_ready)]
    return np.stack(frames).astype(np.float32) if frames else np.zeros((0, NUM_MEL_BINS), "float32")


def normalise(features: Features, visible: NDArray[np.bool_] | None = None) -> Features:
    """Zero mean and unit variance per mel bin over the clip.

    Args:
        features: ``(T, F)``.
        visible: ``(T,)``, True where a frame may be looked at; all of them by default.

    Returns:
        ``(T, F)``; constant bins become 0, and so does everything where nothing is visible. The
        variance counts as at least ``MIN_VARIANCE``: digital silence is not blown up.
    """
    seen = features if visible is None else features[visible]
    if not len(seen):
        return np.zeros_like(features)
    mean = seen.mean(axis=0, dtype=np.float64)
    variance = (seen.astype(np.float64) ** 2).mean(axis=0) - mean**2
    scale = np.sqrt(np.maximum(variance, MIN_VARIANCE))
    return ((features - mean) / scale).astype(np.float32)


def split_slice(source: str) -> tuple[str, int, int]:
    """``path[:offset:length]`` as (path, offset, length), length -1 for the whole file."""
    parts = source.rsplit(":", 2)
    if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
        return parts[0], int(parts[1]), int(parts[2])
    return source, 0, -1


def is_cached(source: str) -> bool:
    """Whether it is features, not sound; False where there is no such file."""
    try:
        return _cached_features(source) is not None
    except UnreadableClip:
        return source.endswith(".npy")


def read_states(source: str) -> NDArray[np.float32]:
    """Stored hidden states ``(layers, T, D)`` of an upstream, as examples/superb/cache.py writes.

    Raises:
        UnreadableClip: no such array, or another kind of array.
    """
    states = _read_array(source)
    if states is None or states.ndim != 3 or not states.size:
        raise UnreadableClip(f"{source} holds no hidden states (layers, frames, width)")
    return states


def _cached_features(source: str) -> Features | None:
    features = _read_array(source)
    if features is None:
        return None
    if features.ndim != 2 or features.shape[1] != NUM_MEL_BINS or not len(features):
        raise UnreadableClip(f"{source} has shape {features.shape}, not (frames, {NUM_MEL_BINS})")
    return features


def _read_array(source: str) -> NDArray[np.float32] | None:
    """A ``.npy`` file or ZIP member as float32; None where the source is something else."""
    path, offset, length = split_slice(source)
    if path.endswith(".npy"):
        data = Path(path).read_bytes() if os.path.isfile(path) else b""
    elif path.endswith(".zip") and os.path.isfile(path):
        data = _zip_member(path, offset, length)
    else:
        return None
    if data[:6] != b"\x93NUMPY":
        return None
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UnreadableClip(f"{source} is not a readable .npy array ({error})") from None
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise UnreadableClip(f"{source} holds values that are not finite floating-point numbers")
    return array.astype(np.float32)


def _zip_member(path: str, offset: int, length: int) -> bytes:
    if length < 0:
        raise UnreadableClip(f"{path} needs :offset:length behind it to name a member")
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read(length)
    if len(data) != length:
        raise UnreadableClip(f"{path}:{offset}:{length} reaches past the end of the archive")
    return data


def _decode(file: str | bytes, name: str, start: int, frames: int) -> tuple[Waveform, int]:
    """``(samples,)`` mono at the file's own rate, and that rate."""
    import soundfile

    if isinstance(file, bytes) or is_soundfile(file):
        with soundfile_faults(name):
            data, rate = soundfile.read(
                io.BytesIO(file) if isinstance(file, bytes) else file,
                dtype="float32",
                always_2d=True,
                start=start,
                frames=frames,
            )
        return data.mean(axis=1), rate
    decoded = list(container_blocks(file, name, start, frames))
    rate = decoded[0][1] if decoded else SAMPLE_RATE
    return np.concatenate([np.zeros(0, np.float32), *(block for block, _ in decoded)]), rate


def is_soundfile(path: str) -> bool:
    """Whether libsndfile reads this kind of file; FFmpeg reads the others."""
    return Path(path).suffix.lower() in SOUNDFILE_SUFFIXES


@contextlib.contextmanager
def soundfile_faults(name: str) -> Iterator[None]:
    """Turn what soundfile raises into UnreadableClip."""
    import soundfile

    try:
        yield
    except (soundfile.LibsndfileError, ValueError, RuntimeError) as error:
        if isinstance(error, UnreadableClip):
            raise
        reason = str(error).splitlines()[0].split(": ", 1)[-1]
        raise UnreadableClip(f"{name} cannot be read as audio: {reason}") from None


def container_blocks(
    path: str, name: str, start: int = 0, length: int = -1
) -> Iterator[tuple[Waveform, int]]:
    """Blocks ``(samples,)`` of the audio track of mp4, mpg, m4a ... (PyAV), each with its rate.

    Args:
        start, length: the part that is wanted, in samples of the track; -1 is all from ``start``.
    """
    import av

    try:
        with av.open(path) as container:
            if not container.streams.audio:
                raise UnreadableClip(f"{name} has no audio track")
            stream = container.streams.audio[0]
            decoded, position = _sound_from(container, stream, start)
            end = start + length if length >= 0 else sys.maxsize
            for block in _mono(decoded, stream.rate):
                wanted = block[max(0, start - position) : max(0, end - position)]
                position += len(block)
                if len(wanted):
                    yield wanted, stream.rate
                if position >= end:
                    break
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, UnreadableClip):
            raise
        raise UnreadableClip(f"{name} cannot be read as audio: {error}") from None


def _mono(frames: Iterable, rate: int) -> Iterator[Waveform]:
    """Decoded frames of any layout and format as ``(samples,)`` each."""
    import av

    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    for frame in chain(frames, [None]):  # None brings out what it holds back
        for block in resampler.resample(frame):
            yield block.to_ndarray()[0]


def _sound_from(container, stream, start: int) -> tuple[Iterator, int]:
    """Decoded frames from at most sample ``start``, and the first one's place in samples.

    Seeks only where timestamps count samples (mp4); elsewhere all is decoded from the beginning.
    """
    early = start - round(PREROLL * stream.rate)
    if early > 0 and stream.time_base * stream.rate == 1:
        begin = stream.start_time or 0
        container.seek(begin + early, stream=stream, backward=True)
        decoded = container.decode(stream)
        first = next(decoded, None)
        if first is not None and first.pts is not None and first.pts - begin <= early:
            return chain([first], decoded), first.pts - begin
        container.seek(begin, stream=stream, backward=True)
    return container.decode(stream), 0


def resampling_ratio(rate: int) -> tuple[int, int]:
    """By how much to go up and down from ``rate`` to 16 kHz, in lowest terms."""
    divisor = gcd(rate, SAMPLE_RATE)
    return SAMPLE_RATE // divisor, rate // divisor


def resample(waveform: Waveform, up: int, down: int) -> Waveform:
    """``(samples,)`` -> ``(ceil(samples * up / down),)``."""
    if up == down:
        return waveform
    from scipy.signal import resample_poly

    return resample_poly(waveform, up, down).astype(np.float32)
