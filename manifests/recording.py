"""Inspection of an audio or video file, without fairseq, as done by the workers of every corpus.

=================  ============================================================================
wav, aiff          header, and that the data it announces is there; float samples are all read
flac, ogg, opus    decoded, and compared with the length in the header
mp3                decoded, and compared with its Xing, Info or VBRI frame, if it has one;
                   by FFmpeg if it has packets past the end of what libsndfile would read
mp4, mov, m4a      index of the container: it lists every packet, and the file must hold the last
anything else      decoded (FFmpeg), audio and video
=================  ============================================================================

Lengths are those that ``mmpt_fairseq.data`` decodes: edit lists of mp4 are applied, so what
``ffmpeg -ss -c copy`` hides does not count.
"""

from __future__ import annotations

import os
import struct
from array import array
from dataclasses import dataclass, field
from functools import lru_cache

from manifests.candidate import MISSING, NO_AUDIO, UNREADABLE
from manifests.container import (
    MP4,
    TOLERANCE,
    AudioClock,
    beginning,
    decoded_frames,
    find_audio_start,
    open_container,
    video_stream,
)
from manifests.headers import check_rate, data_promised, is_chained, is_soundfile, mp3_states_length

BLOCK = 1 << 20


@dataclass(frozen=True)
class Recording:
    """What a file holds.

    Attributes:
        rate: samples per second, 0 without audio.
        samples: number of samples at that rate.
        audio_start: start of the audio, in seconds after the start of the recording.
        video_frames: number of video frames, 0 without video.
        times: if requested, the time in seconds at which each frame appears, followed by the end of
            the last one.
        cut_off: what is missing of the length in the header, if all before it can be read.
        fault: (reason, detail); then nothing else is set.
    """

    rate: int = 0
    samples: int = 0
    audio_start: float = 0.0
    video_frames: int = 0
    times: array = field(default_factory=lambda: array("d"))
    cut_off: str = ""
    fault: tuple[str, str] | None = None


@lru_cache(maxsize=16)  # segments of one recording follow each other
def inspect(path: str, decode: bool = False, timed: bool = False) -> Recording:
    """Inspect a file; what is wrong with it is in ``fault``.

    Args:
        decode: decode it even if its header is exact.
        timed: also find the times of its frames, for which all packets are read.
    """
    try:
        if os.path.getsize(path) == 0:
            return Recording(fault=(UNREADABLE, "zero bytes"))
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return Recording(fault=(MISSING, ""))
    if is_soundfile(path):
        return _soundfile(path, decode)
    return _container(path, decode, timed)


def _soundfile(path: str, decode: bool) -> Recording:
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            check_rate(file.samplerate, path)
            # Only float samples can be infinite or NaN.
            is_float = file.subtype in ("FLOAT", "DOUBLE")
            # By the file's format, not by its name.
            compressed = file.format in ("FLAC", "OGG", "MP3")
            if decode or is_float or compressed:
                frames = _count_decodable(file, is_float)
            else:
                file.seek(max(0, file.frames - 1))
                frames = file.frames if len(file.read(1)) else 0
            if not frames:
                return Recording(fault=(UNREADABLE, "no samples"))
            expected = frames
            if not compressed:
                expected = round(frames * data_promised(path))
            elif file.format != "MP3" or mp3_states_length(path):
                expected = file.frames
            if expected - frames > TOLERANCE * file.samplerate:
                detail = f"{frames} of the {expected} samples that its header promises are there"
                if compressed:
                    return Recording(fault=(UNREADABLE, detail))
                return Recording(file.samplerate, frames, cut_off=detail)
            return Recording(file.samplerate, frames)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, struct.error) as error:
        return Recording(fault=(UNREADABLE, _one_line(error)))


def _count_decodable(file, is_float: bool) -> int:
    """Number of samples that can be decoded in sequence, as training reads them.

    Raises:
        ValueError: one of them is infinite or NaN.
    """
    import numpy as np

    frames = 0
    while True:
        block = file.read(BLOCK, dtype="float32" if is_float else "int16")
        if is_float and not np.isfinite(block).all():
            raise ValueError("holds samples that are infinite or not numbers")
        frames += len(block)
        if len(block) < BLOCK:  # at the end, or at damage past which libsndfile could continue
            return frames


def _one_line(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return " ".join(lines[0].split(": ", 1)[-1].split())


def _container(path: str, decode: bool, timed: bool) -> Recording:
    """Inspect with FFmpeg: from the index if the format has one, else by decoding."""
    import av

    av.logging.set_level(av.logging.PANIC)  # faults are reported in skipped.tsv
    try:
        with open_container(path) as container:
            if container.format.name == "ogg" and is_chained(path):
                raise ValueError(
                    "several chained Ogg streams, which are not cut exactly; re-encode"
                )
            audio = container.streams.audio[0] if container.streams.audio else None
            video = video_stream(container)
            if audio is None and video is None:
                return Recording(fault=(NO_AUDIO, "neither audio nor video"))
            if audio:
                check_rate(audio.rate, path)
            found = None
            if container.format.name == MP4:
                found = _from_index(container, audio, video, timed and not decode)
            if decode or found is None:
                found = _checked(_by_decoding(container, audio, video), found)
    except Exception as error:  # PyAV raises many types on damaged files: all mean a bad file
        return Recording(fault=(UNREADABLE, _one_line(error)))
    if (audio and not found.samples) or (video and not found.video_frames):
        return Recording(fault=(UNREADABLE, "a track without samples or frames"))
    return found


def _checked(decoded: Recording, index: Recording | None) -> Recording:
    """The decoded recording, if it is as long as the index says.

    Raises:
        ValueError: packets in the middle cannot be decoded.
    """
    if index is not None:
        lost = index.samples - decoded.samples
        if lost > TOLERANCE * index.rate or decoded.video_frames < index.video_frames:
            raise ValueError(
                f"{decoded.samples} of {index.samples} samples and {decoded.video_frames} of "
                f"{index.video_frames} video frames can be decoded"
            )
    return decoded


def _from_index(container, audio, video, timed: bool) -> Recording | None:
    """What the index states; None if it is incomplete.

    Raises:
        ValueError: the file ends before its last packet.
    """
    for stream in (audio, video):
        # A fragmented file has no frame count, and its index may cover only the beginning.
        if stream and not (stream.frames and len(stream.index_entries)):
            return None
        last = stream.index_entries[-1] if stream else None
        if last and last.pos + last.size > container.size:
            raise ValueError("the file ends before its last packet")
    rate = samples = num_frames = 0
    if audio:
        packet, rate = audio.codec_context.frame_size, audio.rate
        if not packet or audio.time_base.numerator * rate != audio.time_base.denominator:
            return None
        # Timestamps count from the first audible sample (the encoder's delay is negative);
        # decoders return the last packet whole.
        samples = audio.index_entries[-1].timestamp + packet - max(0, audio.start_time or 0)
    if video:
        num_frames = sum(not entry.is_discard for entry in video.index_entries)
    audio_start = find_audio_start(container, audio)
    if not (video and timed):
        return Recording(rate, samples, audio_start, num_frames)
    times = _packet_times(container, video)
    if len(times) == num_frames + 1:
        return Recording(rate, samples, audio_start, num_frames, times)
    container.seek(0)
    return None


def _packet_times(container, video) -> array:
    """Times at which frames appear, from their packets, which are read but not decoded."""
    packets = (p for p in container.demux(video) if p.pts is not None and not p.is_discard)
    shown = sorted((packet.pts, packet.duration or 0) for packet in packets)
    unit, zero = float(video.time_base), beginning(container)
    times = array("d", (stamp * unit - zero for stamp, _ in shown))
    return _with_end(times, shown[-1][1] * unit if shown else 0.0)


def _with_end(times: array, last: float) -> array:
    """Append the end of the last frame, ``last`` seconds after it appeared."""
    if len(times) > 1 and not last:
        last = times[-1] - times[-2]
    if times:
        times.append(times[-1] + last)
    return times


def _by_decoding(container, audio, video) -> Recording:
    """Decode both tracks in one pass."""
    times, ordered = array("d"), True
    for stream in (audio, video):
        if stream:
            stream.thread_type = "NONE"  # the workers already run in parallel
    clock = AudioClock(audio.rate if audio else 0)  # the rate of its first frame
    zero = beginning(container)
    for frame in decoded_frames(container, [s for s in (audio, video) if s]):
        if hasattr(frame, "samples"):
            clock.silence_before(frame)
            continue
        time = -1.0 if frame.time is None else frame.time - zero
        ordered = ordered and frame.time is not None and (not times or time > times[-1])
        times.append(time)
    num_frames, step = len(times), 1 / float(video.average_rate or 25) if video else 0.0
    if not ordered:  # no usable timestamps
        times = array("d", (i * step for i in range(num_frames)))
    times = _with_end(times, step if num_frames == 1 else 0.0)
    return Recording(
        clock.rate, clock.samples, find_audio_start(container, audio), num_frames, times
    )
