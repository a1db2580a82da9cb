"""Sound of any length as 16 kHz mono blocks: what ``read_waveform`` gives, in bounded memory."""

import math
import os
from collections.abc import Iterable, Iterator

import numpy as np

from mmpt_fairseq.data.container import open_container
from mmpt_fairseq.data.waveform import (
    SAMPLE_RATE,
    Waveform,
    check_file,
    check_finite,
    container_blocks,
    is_soundfile,
    resample,
    resampling_ratio,
    soundfile_faults,
)
from mmpt_fairseq.errors import UnreadableClip

BLOCK_SECONDS = 10


def waveform_blocks(path: str) -> Iterator[Waveform]:
    """Decode a whole file; the blocks joined are what ``read_waveform`` returns.

    Yields:
        ``(samples,)`` in [-1, 1] at 16 kHz, some ten seconds or less.

    Raises:
        UnreadableClip: as ``read_waveform``; where the fault comes late, after good blocks.
    """
    check_file(path)
    empty = True
    decoded = _soundfile_blocks(path) if is_soundfile(path) else container_blocks(path, path)
    for block in resampled_blocks(decoded):
        check_finite(block, path)
        empty = False
        yield block
    if empty:
        raise UnreadableClip(f"{path} holds no samples")


def duration(path: str) -> float | None:
    """Seconds according to the file's header, which may err; None where it says nothing."""
    if not os.path.isfile(path):
        return None
    if is_soundfile(path):
        import soundfile

        try:
            return soundfile.info(os.fsencode(path)).duration
        except (soundfile.LibsndfileError, RuntimeError):
            return None
    import av

    try:
        with open_container(path) as container:
            return container.duration and container.duration / av.time_base
    except (av.error.FFmpegError, OSError):
        return None


def _soundfile_blocks(path: str) -> Iterator[tuple[Waveform, int]]:
    import soundfile

    with soundfile_faults(path), soundfile.SoundFile(os.fsencode(path)) as file:
        size = BLOCK_SECONDS * file.samplerate
        while len(block := file.read(size, dtype="float32", always_2d=True)):
            yield block.mean(axis=1), file.samplerate


def resampled_blocks(blocks: Iterable[tuple[Waveform, int]]) -> Iterator[Waveform]:
    """``(samples, rate)`` blocks of one rate to 16 kHz, as if all were resampled at once.

    scipy's ``resample_poly`` filters with ``10 * max(up, down)`` taps to each side at the rate
    in between. Each block is resampled with that much of its neighbours, which is then cut off;
    all cuts are at multiples of ``down`` samples, where an output sample falls on an input one.
    """
    held, left, up, down = np.zeros(0, np.float32), 0, 1, 1
    for block, rate in blocks:
        if rate == SAMPLE_RATE:
            yield block
            continue
        up, down = resampling_ratio(rate)
        context = down * math.ceil(10 * max(up, down) / up / down)
        held = np.concatenate([held, block])
        ready = (len(held) - left - context) // down * down
        # Not in every small block of a container: each call filters the context anew.
        if ready < max(context, rate):
            continue
        resampled = resample(held[: left + ready + context], up, down)
        yield resampled[left * up // down : (left + ready) * up // down]
        done = left + ready
        left = min(context, done)
        held = held[done - left :]
    if len(held) > left:
        yield resample(held, up, down)[left * up // down :]
