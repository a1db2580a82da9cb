"""Audio of any length as 16 kHz mono blocks: ``read_waveform`` in bounded memory."""

import math
import numbers
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from manifests.container import MATROSKA, MP4, find_audio_start, open_container
from manifests.errors import InputError, UnreadableClip, reason_of
from manifests.headers import check_rate, data_promised, is_soundfile
from mmpt_fairseq.data.waveform import (
    SAMPLE_RATE,
    Waveform,
    check_file,
    check_finite,
    container_blocks,
    resample,
    resampling_ratio,
    soundfile_errors,
)

BLOCK_SECONDS = 10
READ_SECONDS = 1  # per read: a read that hits damage is lost completely
FULL_SCALE = 32768  # of 16-bit integer samples
# Of other formats, FFmpeg estimates the length by the bit rate, or finds it at the end of the file.
STATE_LENGTH = {MP4, MATROSKA, "au"}
Item = TypeVar("Item")


@dataclass(frozen=True)
class Samples:
    """Audio in memory.

    Attributes:
        name: used in messages.
        waveform: ``(samples,)`` in [-1, 1].
        rate: in Hz.
    """

    name: str
    waveform: Waveform
    rate: int

    def __str__(self) -> str:
        return self.name

    @property
    def seconds(self) -> float:
        return len(self.waveform) / self.rate


Source = str | Samples


def as_source(audio: object, rate: int | None, name: str) -> Source:
    """Convert a path, or an array ``(samples,)`` of floats in [-1, 1] or int16, to a source.

    Args:
        rate: of an array, in Hz.
        name: of an array, for messages.

    Raises:
        InputError: the source is neither, or ``rate`` is missing or implausible.
    """
    if isinstance(audio, (str, Path)):
        return str(audio)
    if not hasattr(audio, "__array__"):
        kind = type(audio).__name__
        raise InputError(f"audio must be a path or an array of samples, not {kind}")
    try:
        waveform = np.asarray(audio)
    except (TypeError, RuntimeError) as error:  # a tensor on a GPU or one that requires gradients
        raise InputError(f"{name} cannot be read as an array: {reason_of(error)}") from None
    if waveform.ndim != 1:
        raise InputError(
            f"{name} have the shape {waveform.shape}; give one channel, (samples,), or the mean "
            "of all channels"
        )
    if not isinstance(rate, numbers.Real) or not math.isfinite(rate) or rate < 1 or rate % 1:
        raise InputError(f"{name} need their rate in Hz, a whole number, as in rate=16000")
    check_rate(int(rate), name)
    kind, size = waveform.dtype.kind, waveform.dtype.itemsize
    if kind != "f" and (kind, size) != ("i", 2):
        raise InputError(f"{name} are {waveform.dtype}; give floats in [-1, 1], or int16")
    waveform = waveform.astype(np.float32, copy=False)
    return Samples(name, waveform if kind == "f" else waveform / FULL_SCALE, int(rate))


def waveform_blocks(source: Source, skip_damaged: bool = False) -> Iterator[Waveform]:
    """Decode a whole recording; the concatenated blocks are what ``read_waveform`` returns.

    Args:
        skip_damaged: skip damaged packets of a container; raise UnreadableClip after the last
            block.

    Yields:
        ``(samples,)`` in [-1, 1] at 16 kHz, at most ten seconds.

    Raises:
        UnreadableClip: as ``read_waveform``; for late damage, after the intact blocks.
    """
    empty = True
    for block in resampled_blocks(_decoded(source, skip_damaged)):
        check_finite(block, str(source))
        empty = False
        yield block
    if empty:
        raise UnreadableClip(f"{source} holds no samples")


def _decoded(source: Source, skip_damaged: bool) -> Iterable[tuple[Waveform, int]]:
    if isinstance(source, Samples):
        size = BLOCK_SECONDS * source.rate
        starts = range(0, len(source.waveform), size)
        return ((source.waveform[start : start + size], source.rate) for start in starts)
    check_file(source)
    if is_soundfile(source):
        return _soundfile_blocks(source)
    return container_blocks(source, source, skip_damaged=skip_damaged)


def duration(source: Source) -> float | None:
    """Duration in seconds; of a file by its header, which may be wrong; None if unknown."""
    if isinstance(source, Samples):
        return source.seconds
    if not os.path.isfile(source):
        return None
    if is_soundfile(source):
        import soundfile

        try:
            # For a truncated WAV or AIFF, libsndfile counts only the samples that exist.
            return soundfile.info(os.fsencode(source)).duration * data_promised(source)
        except (soundfile.LibsndfileError, RuntimeError, OSError):
            return None
    import av

    try:
        with open_container(source) as container:
            return container.duration and container.duration / av.time_base
    except (av.error.FFmpegError, OSError):
        return None


def stated_audio_end(path: str) -> float | None:
    """End of a container's audio in seconds by its header; None if that does not tell.

    Matroska states only the length of the whole file, whose picture may be longer than its audio:
    that counts as the audio's if all streams end before it, as in a truncated file.
    """
    import av

    try:
        with open_container(path) as container:
            audio = container.streams.audio[0]
            if container.format.name not in STATE_LENGTH or not container.duration:
                return None
            stated = container.duration / av.time_base
            if audio.duration:
                length = float(audio.duration * audio.time_base)
                return min(stated, find_audio_start(container, audio) + length)
            ends = (
                float((packet.pts + (packet.duration or 0)) * packet.time_base)
                for packet in container.demux()
                if packet.pts is not None
            )
            return stated if max(ends, default=0.0) < stated - 1.0 else None
    except (av.error.FFmpegError, OSError):
        return None


def _soundfile_blocks(path: str) -> Iterator[tuple[Waveform, int]]:
    import soundfile

    with soundfile_errors(path), soundfile.SoundFile(os.fsencode(path)) as file:
        check_rate(file.samplerate, path)
        if file.seekable():
            # As soundfile.read does; without it, an Ogg whose timestamps start late differs.
            file.seek(0)
        size = READ_SECONDS * file.samplerate
        while len(block := file.read(size, dtype="float32", always_2d=True)):
            yield block.mean(axis=1), file.samplerate


def resampled_blocks(blocks: Iterable[tuple[Waveform, int]]) -> Iterator[Waveform]:
    """Resample ``(samples, rate)`` blocks of one rate to 16 kHz, as if all at once.

    scipy's ``resample_poly`` filters with ``10 * max(up, down)`` taps on each side at the
    intermediate rate. Each block is resampled with that much context, which is then cut off; all
    cuts are at multiples of ``down`` samples, where an output sample coincides with an input one.

    Raises:
        UnreadableClip: as ``blocks`` does, after all samples before it.
    """
    held, left, up, down = np.zeros(0, np.float32), 0, 1, 1
    faults: list[UnreadableClip] = []
    for block, rate in until_fault(blocks, faults):
        if rate == SAMPLE_RATE:
            yield block
            continue
        up, down = resampling_ratio(rate)
        context = down * math.ceil(10 * max(up, down) / up / down)
        held = np.concatenate([held, block])
        ready = (len(held) - left - context) // down * down
        # Not for every small block of a container: each call filters the context again.
        if ready < max(context, rate):
            continue
        resampled = resample(held[: left + ready + context], up, down)
        yield resampled[left * up // down : (left + ready) * up // down]
        done = left + ready
        left = min(context, done)
        held = held[done - left :]
    if len(held) > left:
        yield resample(held, up, down)[left * up // down :]
    if faults:
        raise faults[0]


def until_fault(blocks: Iterable[Item], faults: list[UnreadableClip]) -> Iterator[Item]:
    """Yield ``blocks``; an UnreadableClip ends them and is appended to ``faults``."""
    try:
        yield from blocks
    except UnreadableClip as fault:
        faults.append(fault)
