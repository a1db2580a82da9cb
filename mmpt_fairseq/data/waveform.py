"""Audio: read any file, or a slice of one, as 16 kHz mono."""

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
from manifests.container import (
    MATROSKA,
    MPEG_TS,
    TOLERANCE,
    AudioClock,
    decoded_frames,
    open_container,
)
from manifests.errors import UnreadableClip, reason_of
from manifests.headers import check_rate, is_soundfile

# Decoders of compressed audio need some audio before the requested part.
PREROLL = 0.5  # seconds
TIMESTAMPED = {MATROSKA, MPEG_TS}  # containers in which audio is sought by rounded timestamps

Waveform = NDArray[np.float32]


def read_waveform(source: str) -> Waveform:
    """Decode a file, a slice of a recording or a member of a ZIP archive to 16 kHz mono.

    Args:
        source: a path, ``recording.wav:offset:length`` (samples of the recording, which may be a
            video) or ``archive.zip:offset:length`` (bytes).

    Returns:
        ``(samples,)`` in [-1, 1].

    Raises:
        UnreadableClip: no such file, not audio, no audio track, no samples, samples that are not
            finite, an implausible rate, or a slice that reaches past the end of its recording.
    """
    path, offset, length = split_slice(source)
    check_file(path)
    if path.endswith(".zip"):
        waveform, rate = _decode(zip_member(path, offset, length), source, 0, -1)
    else:
        waveform, rate = _decode(path, source, offset, length)
        if len(waveform) + TOLERANCE * rate < length:
            raise UnreadableClip(
                f"{source} reaches past the end of the recording: only {len(waveform)} of its "
                "samples exist"
            )
    if not len(waveform):
        raise UnreadableClip(f"{source} holds no samples")
    check_finite(waveform, source)
    return resample(waveform, *resampling_ratio(rate))


def check_file(path: str) -> None:
    """Raise UnreadableClip unless ``path`` is a non-empty regular file."""
    if os.path.isdir(path):
        raise UnreadableClip(f"{path} is a folder; name the audio files in it")
    if not os.path.exists(path):
        raise UnreadableClip(f"there is no audio file {path}")
    if not os.path.isfile(path):
        raise UnreadableClip(f"{path} is a pipe or a device; write its audio to a file first")
    if os.path.getsize(path) == 0:
        raise UnreadableClip(f"{path} is a file of zero bytes")


def check_finite(waveform: Waveform, name: str) -> None:
    """Raise UnreadableClip if a sample is NaN or infinite, as in corrupt float WAVs."""
    if not np.isfinite(waveform).all():
        raise UnreadableClip(f"{name} holds samples that are infinite or not numbers")


def split_slice(source: str) -> tuple[str, int, int]:
    """Split ``path[:offset:length]`` into (path, offset, length); length -1 is the whole file."""
    parts = source.rsplit(":", 2)
    if len(parts) == 3 and all(part.isascii() and part.isdigit() for part in parts[1:]):
        return parts[0], int(parts[1]), int(parts[2])
    return source, 0, -1


def zip_member(path: str, offset: int, length: int) -> bytes:
    """Read an uncompressed member of an archive, which starts at byte ``offset``.

    Raises:
        UnreadableClip: the archive is too short, or no offset and length are given.
    """
    if length < 0:
        raise UnreadableClip(f"{path} needs :offset:length after it to name a member")
    data = file_bytes(path, offset, length)
    if len(data) != length:
        raise UnreadableClip(f"{path}:{offset}:{length} reaches past the end of the archive")
    return data


def file_bytes(path: str, offset: int = 0, length: int = -1) -> bytes:
    """Read ``length`` bytes of a file from ``offset`` on, -1 for all; fewer if it ends before.

    Raises:
        UnreadableClip: an I/O or permission error, or offset or length are out of range.
    """
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(length)
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise UnreadableClip(f"{path} cannot be read: {reason_of(error)}") from None


def _decode(file: str | bytes, name: str, start: int, frames: int) -> tuple[Waveform, int]:
    """Decode to mono ``(samples,)`` at the file's own rate; return it and the rate."""
    import soundfile

    if isinstance(file, bytes) or is_soundfile(file):
        with soundfile_errors(name):
            data, rate = soundfile.read(
                io.BytesIO(file) if isinstance(file, bytes) else file,
                dtype="float32",
                always_2d=True,
                start=start,
                frames=frames,
            )
        check_rate(rate, name)
        return data.mean(axis=1), rate
    decoded = list(container_blocks(file, name, start, frames))
    rate = decoded[0][1] if decoded else SAMPLE_RATE
    return np.concatenate([np.zeros(0, np.float32), *(block for block, _ in decoded)]), rate


@contextlib.contextmanager
def soundfile_errors(name: str) -> Iterator[None]:
    """Convert exceptions of soundfile to UnreadableClip."""
    import soundfile

    try:
        yield
    except MemoryError:  # a damaged header declares terabytes
        raise UnreadableClip(
            f"{name} cannot be read as audio: by its header it is longer than memory can hold"
        ) from None
    except (soundfile.LibsndfileError, ValueError, RuntimeError) as error:
        if isinstance(error, UnreadableClip):
            raise
        reason = str(error).splitlines()[0].split(": ", 1)[-1]
        if "regular file" in reason:  # libsndfile's message for an mp3 without any frame
            reason = "its content does not match its file name"
        raise UnreadableClip(f"{name} cannot be read as audio: {reason}") from None


def container_blocks(
    path: str, name: str, start: int = 0, length: int = -1, skip_damaged: bool = False
) -> Iterator[tuple[Waveform, int]]:
    """Yield blocks ``(samples,)`` of the audio track of mp4, mpg, m4a ... (PyAV) with their rate.

    Gaps in the track are filled with silence.

    Args:
        start, length: the requested slice, in samples of the track; -1 is all from ``start``.
        skip_damaged: for whole tracks: skip damaged packets, and raise UnreadableClip with their
            number only after the last block.

    Raises:
        UnreadableClip: there is no audio track, or part of it cannot be decoded.
    """
    damaged: list[int] = []
    try:
        with open_container(path) as container:
            if not container.streams.audio:
                raise UnreadableClip(f"{name} has no audio track")
            stream = container.streams.audio[0]
            rate = stream.rate  # may change later in concatenated files
            check_rate(rate, name)
            if skip_damaged:
                decoded, position = decoded_frames(container, [stream], damaged), 0
            else:
                decoded, position = _decode_from(container, stream, start)
            end = start + length if length >= 0 else sys.maxsize
            for block in _fill_gaps(decoded, rate):
                requested = block[max(0, start - position) : max(0, end - position)]
                position += len(block)
                if len(requested):
                    yield requested, rate
                if position >= end:
                    break
    except UnreadableClip:
        raise
    except Exception as error:  # PyAV raises many types for damaged files
        raise UnreadableClip(f"{name} cannot be read as audio: {reason_of(error)}") from None
    if damaged:
        raise UnreadableClip(f"{name} is damaged: {len(damaged)} audio packets cannot be decoded")


def _fill_gaps(frames: Iterable, rate: int) -> Iterator[Waveform]:
    """Yield decoded frames of any layout and format as ``(samples,)``, gaps filled with silence.

    Channels are averaged, as for WAV files; PyAV's own downmix to mono is 3 dB louder.
    """
    import av

    resamplers: dict[int, av.AudioResampler] = {}  # by input rate
    clock = AudioClock(rate)
    for frame in frames:
        silence = clock.silence_before(frame)
        yield from (np.zeros(n, np.float32) for n in _chunk_sizes(silence, rate))
        if frame.sample_rate not in resamplers:
            resamplers[frame.sample_rate] = av.AudioResampler(format="fltp", rate=rate)
        for block in resamplers[frame.sample_rate].resample(frame):
            yield block.to_ndarray().mean(0)
    for resampler in resamplers.values():
        for block in resampler.resample(None):  # flush
            yield block.to_ndarray().mean(0)


def _chunk_sizes(samples: int, largest: int) -> Iterator[int]:
    """Yield chunk sizes of at most ``largest`` that sum to ``samples``."""
    for start in range(0, samples, largest):
        yield min(largest, samples - start)


def _decode_from(container, stream, start: int) -> tuple[Iterator, int]:
    """Return decoded frames from before sample ``start`` on, and the first one's sample position.

    Seeks if timestamps count samples (mp4), or are fine enough to identify the frames of the track
    (mkv, webm, ts); otherwise the track is decoded from the beginning.
    """
    early = start - round(PREROLL * stream.rate)
    counts_samples = stream.time_base * stream.rate == 1
    if early <= 0 or not (counts_samples or container.format.name in TIMESTAMPED):
        return decoded_frames(container, [stream]), 0
    origin = stream.start_time or 0
    to_position = (
        (lambda pts: pts - origin) if counts_samples else _position_function(container, stream)
    )
    if to_position is not None:
        container.seek(origin + int(early / stream.rate / stream.time_base), stream=stream)
        decoded = decoded_frames(container, [stream])
        first = next(decoded, None)
        if first is not None and first.pts is not None and to_position(first.pts) <= early:
            return chain([first], decoded), to_position(first.pts)
    container.seek(origin, stream=stream)
    return decoded_frames(container, [stream]), 0


def _position_function(container, stream) -> Callable[[int], int] | None:
    """Function from a frame's timestamp to its sample position; None if that is not possible.

    Timestamps are rounded, in mkv to milliseconds. Frames have equal lengths except the first,
    from which the encoder delay was trimmed.
    """
    first_frames = list(islice(container.decode(stream), 2))
    if len(first_frames) < 2 or first_frames[0].pts is None:
        return None
    first, second = first_frames
    origin, unit = first.pts, float(first.time_base * stream.rate)

    def to_position(pts: int) -> int:
        approximate = (pts - origin) * unit
        exact = (
            first.samples + round((approximate - first.samples) / second.samples) * second.samples
        )
        return exact if abs(exact - approximate) <= max(unit, 1) else round(approximate)

    return to_position


def to_flac(waveform: Waveform) -> bytes:
    """Encode ``(samples,)`` at 16 kHz as a 16-bit FLAC file."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, waveform.clip(-1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def resampling_ratio(rate: int) -> tuple[int, int]:
    """Upsampling and downsampling factors from ``rate`` to 16 kHz, in lowest terms."""
    divisor = gcd(rate, SAMPLE_RATE)
    return SAMPLE_RATE // divisor, rate // divisor


def resample(waveform: Waveform, up: int, down: int) -> Waveform:
    """Resample by ``up / down``: ``(samples,)`` -> ``(ceil(samples * up / down),)``."""
    if up == down:
        return waveform
    from scipy.signal import resample_poly

    return resample_poly(waveform, up, down).astype(np.float32)
