"""Sound: any file, or a part of one, to 16 kHz mono."""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from math import gcd

import numpy as np
from numpy.typing import NDArray

from manifests.common import SAMPLE_RATE
from manifests.container import MATROSKA, MPEG_TS, TOLERANCE, SoundClock, open_container
from manifests.errors import UnreadableClip, reason_of
from manifests.headers import is_soundfile

# Decoders of compressed sound need some of what comes before the part that is wanted.
PREROLL = 0.5  # seconds
TIMED = {MATROSKA, MPEG_TS}  # whose sound is sought by time

Waveform = NDArray[np.float32]


def read_waveform(source: str) -> Waveform:
    """Decode a file, a slice of a recording or a slice of a ZIP to 16 kHz mono.

    Args:
        source: a path, ``recording.wav:offset:length`` (samples of the recording, which may be a
            video) or ``archive.zip:offset:length`` (bytes).

    Returns:
        ``(samples,)`` in [-1, 1].

    Raises:
        UnreadableClip: no such file, not audio, no audio track, no samples, NaN among them, or a
            part that reaches past the end of its recording.
    """
    path, offset, length = split_slice(source)
    check_file(path)
    if path.endswith(".zip"):
        waveform, rate = _decode(zip_member(path, offset, length), source, 0, -1)
    else:
        waveform, rate = _decode(path, source, offset, length)
        if len(waveform) + TOLERANCE * rate < length:
            raise UnreadableClip(
                f"{source} reaches past the end of the recording: {len(waveform)} of its samples "
                "are there"
            )
    if not len(waveform):
        raise UnreadableClip(f"{source} holds no samples")
    check_finite(waveform, source)
    return resample(waveform, *resampling_ratio(rate))


def check_file(path: str) -> None:
    """Raise UnreadableClip unless ``path`` is a file with something in it."""
    if os.path.isdir(path):
        raise UnreadableClip(f"{path} is a folder; name the audio files in it")
    if not os.path.exists(path):
        raise UnreadableClip(f"there is no audio file {path}")
    if not os.path.isfile(path):
        raise UnreadableClip(f"{path} is a pipe or a device; write its sound to a file first")
    if os.path.getsize(path) == 0:
        raise UnreadableClip(f"{path} is a file of zero bytes")


def check_finite(waveform: Waveform, name: str) -> None:
    """Raise UnreadableClip where a sample is NaN or infinite, as broken float WAVs have them."""
    if not np.isfinite(waveform).all():
        raise UnreadableClip(f"{name} holds samples that are infinite or not numbers")


def split_slice(source: str) -> tuple[str, int, int]:
    """``path[:offset:length]`` as (path, offset, length), length -1 for the whole file."""
    parts = source.rsplit(":", 2)
    if len(parts) == 3 and all(part.isascii() and part.isdigit() for part in parts[1:]):
        return parts[0], int(parts[1]), int(parts[2])
    return source, 0, -1


def zip_member(path: str, offset: int, length: int) -> bytes:
    """What lies in an archive, uncompressed, from byte ``offset`` on.

    Raises:
        UnreadableClip: there are no such bytes, or none are named.
    """
    if length < 0:
        raise UnreadableClip(f"{path} needs :offset:length behind it to name a member")
    data = file_bytes(path, offset, length)
    if len(data) != length:
        raise UnreadableClip(f"{path}:{offset}:{length} reaches past the end of the archive")
    return data


def file_bytes(path: str, offset: int = 0, length: int = -1) -> bytes:
    """``length`` bytes of a file, or all, from ``offset`` on; fewer where it ends before.

    Raises:
        UnreadableClip: the disk, or who may read it, is against it; no file is so long.
    """
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(length)
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise UnreadableClip(f"{path} cannot be read: {reason_of(error)}") from None


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


@contextlib.contextmanager
def soundfile_faults(name: str) -> Iterator[None]:
    """Turn what soundfile raises into UnreadableClip."""
    import soundfile

    try:
        yield
    except MemoryError:  # a damaged header promises terabytes
        raise UnreadableClip(
            f"{name} cannot be read as audio: by its header it is longer than memory holds"
        ) from None
    except (soundfile.LibsndfileError, ValueError, RuntimeError) as error:
        if isinstance(error, UnreadableClip):
            raise
        reason = str(error).splitlines()[0].split(": ", 1)[-1]
        if "regular file" in reason:  # libsndfile's word for an mp3 in which it finds no frame
            reason = "its content is not what its name says"
        raise UnreadableClip(f"{name} cannot be read as audio: {reason}") from None


def container_blocks(
    path: str, name: str, start: int = 0, length: int = -1, pass_over: bool = False
) -> Iterator[tuple[Waveform, int]]:
    """Blocks ``(samples,)`` of the audio track of mp4, mpg, m4a ... (PyAV), each with its rate.

    Where the track has a gap they are silent.

    Args:
        start, length: the part that is wanted, in samples of the track; -1 is all from ``start``.
        pass_over: of the whole track, packets that are damaged; after the last block it is said
            how many.

    Raises:
        UnreadableClip: there is no audio track, or something of it cannot be decoded.
    """
    damaged: list[int] = []
    try:
        with open_container(path) as container:
            if not container.streams.audio:
                raise UnreadableClip(f"{name} has no audio track")
            stream = container.streams.audio[0]
            rate = stream.rate  # a file that was joined may have others later
            if pass_over:
                decoded, position = _undamaged(container, stream, damaged), 0
            else:
                decoded, position = _sound_from(container, stream, start)
            end = start + length if length >= 0 else sys.maxsize
            for block in _without_gaps(decoded, rate):
                wanted = block[max(0, start - position) : max(0, end - position)]
                position += len(block)
                if len(wanted):
                    yield wanted, rate
                if position >= end:
                    break
    except UnreadableClip:
        raise
    except Exception as error:  # PyAV raises many kinds over damaged files: all are this file's
        raise UnreadableClip(f"{name} cannot be read as audio: {reason_of(error)}") from None
    if damaged:
        raise UnreadableClip(f"{name} is damaged: {len(damaged)} packets of its sound")


def _undamaged(container, stream, damaged: list[int]) -> Iterator:
    """Decoded frames; of packets that cannot be, the places go into ``damaged``."""
    import av

    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            damaged.append(packet.pts)


def _without_gaps(frames: Iterable, rate: int) -> Iterator[Waveform]:
    """Decoded frames of any layout and format as ``(samples,)`` each, the mean of their channels.

    As of wav files; av's own mixing to one channel is 3 dB louder.
    """
    import av

    resamplers: dict[int, av.AudioResampler] = {}  # by the rate of what they are given
    clock = SoundClock(rate)
    for frame in frames:
        silence = clock.silence_before(frame)
        yield from (np.zeros(n, np.float32) for n in _parts(silence, rate))
        if frame.sample_rate not in resamplers:
            resamplers[frame.sample_rate] = av.AudioResampler(format="fltp", rate=rate)
        for block in resamplers[frame.sample_rate].resample(frame):
            yield block.to_ndarray().mean(0)
    for resampler in resamplers.values():
        for block in resampler.resample(None):  # what it holds back
            yield block.to_ndarray().mean(0)


def _parts(samples: int, largest: int) -> Iterator[int]:
    """Numbers of up to ``largest`` that sum to ``samples``."""
    for start in range(0, samples, largest):
        yield min(largest, samples - start)


def _sound_from(container, stream, start: int) -> tuple[Iterator, int]:
    """Decoded frames from at most sample ``start``, and the first one's place in samples.

    Seeks where timestamps count samples (mp4), and where they are fine enough to tell which of the
    track's frames one is (mkv, webm, ts); elsewhere all is decoded from the beginning.
    """
    early = start - round(PREROLL * stream.rate)
    counts_samples = stream.time_base * stream.rate == 1
    if early <= 0 or not (counts_samples or container.format.name in TIMED):
        return container.decode(stream), 0
    begin = stream.start_time or 0
    place = (lambda pts: pts - begin) if counts_samples else _places(container, stream)
    if place is not None:
        container.seek(begin + int(early / stream.rate / stream.time_base), stream=stream)
        decoded = container.decode(stream)
        first = next(decoded, None)
        if first is not None and first.pts is not None and place(first.pts) <= early:
            return chain([first], decoded), place(first.pts)
    container.seek(begin, stream=stream)
    return container.decode(stream), 0


def _places(container, stream) -> Callable[[int], int] | None:
    """From a frame's timestamp to its place in samples; None where timestamps do not tell it.

    They are rounded, to milliseconds in mkv; frames are equally long, but for the first, of which
    what the encoder put before the sound was cut off.
    """
    beginning = list(islice(container.decode(stream), 2))
    if len(beginning) < 2 or beginning[0].pts is None:
        return None
    first, second = beginning
    begin, unit = first.pts, float(first.time_base * stream.rate)

    def place(pts: int) -> int:
        rough = (pts - begin) * unit
        exact = first.samples + round((rough - first.samples) / second.samples) * second.samples
        return exact if abs(exact - rough) <= max(unit, 1) else round(rough)

    return place


def to_flac(waveform: Waveform) -> bytes:
    """``(samples,)`` at 16 kHz as a file of 16 bits."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, waveform.clip(-1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


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
