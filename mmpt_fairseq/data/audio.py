"""Log-mel filterbank features of 16 kHz audio, computed or read from a cache, and normalised.

One normalisation serves all stages and transcription: per clip, each mel bin gets zero mean and
unit variance over time (the utterance-level CMVN of fairseq's S2T recipes). During masked
pre-training the statistics come from the visible frames alone, because statistics over the
masked ones would leak information about them to the encoder.
"""

import io
import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from manifests.errors import UnreadableClip, reason_of
from mmpt_fairseq.data.waveform import (
    SAMPLE_RATE,
    Waveform,
    file_bytes,
    read_waveform,
    split_slice,
    zip_member,
)

NUM_MEL_BINS = 80
FRAME_LENGTH = SAMPLE_RATE * 25 // 1000  # samples in a 25 ms window
FRAME_SHIFT = SAMPLE_RATE * 10 // 1000  # samples between frames
FRAMES_PER_SECOND = SAMPLE_RATE // FRAME_SHIFT
SUBSAMPLING = 4  # filterbank frames per encoder frame of the Conformer
MIN_VARIANCE = 0.1  # of log energies; that of speech is 4 to 20
# Log energy of 16-bit rounding noise, averaged over the mel bins. Anything below is digital
# silence, as codecs leave at a clip's ends: it is uninformative and would skew the variance.
ROUNDING_NOISE = 2.0

Features = NDArray[np.float32]


def num_frames(num_samples: int) -> int:
    """Number of filterbank frames of ``num_samples`` samples at 16 kHz."""
    return max(0, 1 + (num_samples - FRAME_LENGTH) // FRAME_SHIFT)


def subsampled(frames):  # type: (Tensor | int) -> Tensor | int
    """Number of encoder frames for ``frames`` filterbank frames: a quarter, rounded up."""
    return (frames + SUBSAMPLING - 1) // SUBSAMPLING


def read_filterbank(
    source: str, transform: Callable[[Waveform], Waveform] | None = None
) -> Features:
    """Log-mel energies ``(T, 80)`` of a clip, computed or read from cached ``.npy`` features.

    Computed energies are floored at 16-bit rounding noise; cached ones are returned unchanged.

    Args:
        transform: applied to the waveform first.

    Raises:
        UnreadableClip: as :func:`read_waveform`; or the clip is shorter than one 25 ms window, or
            the features are cached although a transform is given.
    """
    cached = _cached_features(source)
    if cached is not None and transform is not None:
        raise UnreadableClip(f"{source} holds cached features, but augmentation needs waveforms")
    if cached is not None:
        return cached
    waveform = read_waveform(source)
    return floored_filterbank(transform(waveform) if transform else waveform, source)


def floored_filterbank(waveform: Waveform, name: str) -> Features:
    """Log-mel energies ``(T, 80)`` of a waveform, floored at 16-bit rounding noise.

    Raises:
        UnreadableClip: the waveform is shorter than one 25 ms window, or its samples are so large
            that energies are not finite, as in corrupt float WAVs.
    """
    if len(waveform) < FRAME_LENGTH:
        raise UnreadableClip(
            f"{name} lasts {1000 * len(waveform) / SAMPLE_RATE:.0f} ms, less than one 25 ms frame"
        )
    energies = np.maximum(filterbank(waveform), ROUNDING_NOISE)
    if not np.isfinite(energies).all():
        raise UnreadableClip(
            f"{name} holds samples as large as {np.abs(waveform).max():.0e}; full scale is 1"
        )
    return energies


def filterbank(waveform: Waveform) -> Features:
    """Kaldi's 80-bin log-mel energies (Povey window, 25/10 ms, no dither) as float32 ``(T, 80)``.

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
    """Normalise each mel bin to zero mean and unit variance over the clip.

    Args:
        features: ``(T, F)``.
        visible: ``(T,)``, True for the frames that the statistics are taken from; default: all.

    Returns:
        ``(T, F)``; constant bins become 0, and so does everything if no frame is visible. The
        variance is floored at ``MIN_VARIANCE`` so that digital silence is not amplified.
    """
    selected = features if visible is None else features[visible]
    if not len(selected):
        return np.zeros_like(features)
    mean = selected.mean(axis=0, dtype=np.float64)
    variance = (selected.astype(np.float64) ** 2).mean(axis=0) - mean**2
    scale = np.sqrt(np.maximum(variance, MIN_VARIANCE))
    return ((features - mean) / scale).astype(np.float32)


def is_cached(source: str) -> bool:
    """Whether ``source`` holds features, not audio; False if there is no such file."""
    try:
        return _cached_features(source) is not None
    except UnreadableClip:
        return source.endswith(".npy")


def read_states(source: str) -> NDArray[np.float32]:
    """Stored hidden states ``(layers, T, D)``, as manifests/states.py and examples/superb write.

    Raises:
        UnreadableClip: the array is missing or of another shape or type.
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
    """A ``.npy`` array, in a file or a ZIP, as float32; None if the source is something else."""
    path, offset, length = split_slice(source)
    if path.endswith(".npy"):
        data = file_bytes(path) if os.path.isfile(path) else b""
    elif path.endswith(".zip") and os.path.isfile(path):
        data = zip_member(path, offset, length)
    else:
        return None
    if data[:6] != b"\x93NUMPY":
        return None
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy raises many types for damaged headers
        raise UnreadableClip(f"{source} is not a readable .npy array: {reason_of(error)}") from None
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise UnreadableClip(f"{source} holds values that are not finite floating-point numbers")
    return array.astype(np.float32)
