"""What a file of sound or pictures holds, without fairseq: what the workers of every corpus ask.

=================  ============================================================================
wav, aiff          header, and the data that it speaks of is there; float samples are all read
flac, ogg, opus    decoded, and as long as the header says
mp3                decoded, and as long as its Xing, Info or VBRI frame says, where it has one;
                   by FFmpeg where its packets go on behind what libsndfile would read
mp4, mov, m4a      index of the container: it lists every packet, and the file must hold the last
anything else      decoded (FFmpeg), sound and pictures
=================  ============================================================================

Lengths are those that ``mmpt_fairseq.data`` decodes: of mp4, edit lists are applied, so that what
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
    SoundClock,
    beginning,
    open_container,
    sound_begins,
    video_stream,
)
from manifests.headers import data_promised, is_chained, is_soundfile, mp3_tells_length

BLOCK = 1 << 20


@dataclass(frozen=True)
class Recording:
    """What a file holds.

    Attributes:
        rate: samples a second, 0 without sound.
        samples: at that rate.
        sound_from: seconds after the recording's beginning at which its sound begins.
        pictures: 0 without video.
        times: where they were asked for, the second at which each picture appears, and the one at
            which the last one goes.
        cut_off: what is missing of what the header promises, where all before it can be read.
        fault: (reason, detail); nothing else holds then.
    """

    rate: int = 0
    samples: int = 0
    sound_from: float = 0.0
    pictures: int = 0
    times: array = field(default_factory=lambda: array("d"))
    cut_off: str = ""
    fault: tuple[str, str] | None = None


@lru_cache(maxsize=16)  # segments of one recording follow each other
def inspect(path: str, decode: bool = False, timed: bool = False) -> Recording:
    """What a file holds; ``fault`` tells what is wrong with it.

    Args:
        decode: decode it even where its header is exact.
        timed: tell the times of its pictures, for which all packets are read.
    """
    try:
        if os.path.getsize(path) == 0:
            return Recording(fault=(UNREADABLE, "zero bytes"))
    except (OSError, ValueError):  # a name that no file can have
        return Recording(fault=(MISSING, ""))
    if is_soundfile(path):
        return _soundfile(path, decode)
    return _container(path, decode, timed)


def _soundfile(path: str, decode: bool) -> Recording:
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            # Only float samples can be infinite or no number.
            is_float = file.subtype in ("FLOAT", "DOUBLE")
            # By what the file is, not by what it is called.
            compressed = file.format in ("FLAC", "OGG", "MP3")
            if decode or is_float or compressed:
                frames = _read_through(file, is_float)
            else:
                file.seek(max(0, file.frames - 1))
                frames = file.frames if len(file.read(1)) else 0
            if not frames:
                return Recording(fault=(UNREADABLE, "no samples"))
            promised = frames
            if not compressed:
                promised = round(frames * data_promised(path))
            elif file.format != "MP3" or mp3_tells_length(path):
                promised = file.frames
            if promised - frames > TOLERANCE * file.samplerate:
                detail = f"{frames} of the {promised} samples that its header promises are there"
                if compressed:
                    return Recording(fault=(UNREADABLE, detail))
                return Recording(file.samplerate, frames, cut_off=detail)
            if file.format == "OGG" and is_chained(path):
                detail = "several Ogg streams one after the other; only the first would be read"
                return Recording(fault=(UNREADABLE, detail))
            return Recording(file.samplerate, frames)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, struct.error) as error:
        return Recording(fault=(UNREADABLE, _sentence(error)))


def _read_through(file, is_float: bool) -> int:
    """Samples that can be decoded in one go, as training reads them; a header may promise more.

    Raises:
        ValueError: one of them is infinite or no number.
    """
    import numpy as np

    frames = 0
    while True:
        block = file.read(BLOCK, dtype="float32" if is_float else "int16")
        if is_float and not np.isfinite(block).all():
            raise ValueError("holds samples that are infinite or not numbers")
        frames += len(block)
        if len(block) < BLOCK:  # at the end, or at damage, behind which libsndfile can go on
            return frames


def _sentence(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return " ".join(lines[0].split(": ", 1)[-1].split())


def _container(path: str, decode: bool, timed: bool) -> Recording:
    """Through FFmpeg: from the index where the format keeps one, else by decoding."""
    import av

    av.logging.set_level(av.logging.PANIC)  # what is wrong with a file is told in skipped.tsv
    try:
        with open_container(path) as container:
            sound = container.streams.audio[0] if container.streams.audio else None
            video = video_stream(container)
            if sound is None and video is None:
                return Recording(fault=(NO_AUDIO, "neither sound nor pictures"))
            found = None
            if container.format.name == MP4:
                found = _from_index(container, sound, video, timed and not decode)
            if decode or found is None:
                found = _checked(_by_decoding(container, sound, video), found)
    except Exception as error:  # PyAV raises many kinds over damaged files: all are this file's
        return Recording(fault=(UNREADABLE, _sentence(error)))
    if (sound and not found.samples) or (video and not found.pictures):
        return Recording(fault=(UNREADABLE, "no samples or no pictures in a track"))
    return found


def _checked(decoded: Recording, index: Recording | None) -> Recording:
    """What was decoded, where it is as much as the index promised.

    Raises:
        ValueError: packets in the middle cannot be decoded.
    """
    if index is not None:
        lost = index.samples - decoded.samples
        if lost > TOLERANCE * index.rate or decoded.pictures < index.pictures:
            raise ValueError(
                f"{decoded.samples} of {index.samples} samples and {decoded.pictures} of "
                f"{index.pictures} pictures can be decoded"
            )
    return decoded


def _from_index(container, sound, video, timed: bool) -> Recording | None:
    """What the index tells; None where it does not tell all.

    Raises:
        ValueError: the file ends before its last packet.
    """
    for stream in (sound, video):
        # A fragmented file counts no frames, and its index may be that of the beginning.
        if stream and not (stream.frames and len(stream.index_entries)):
            return None
        last = stream.index_entries[-1] if stream else None
        if last and last.pos + last.size > container.size:
            raise ValueError("the file ends before its last packet")
    rate = samples = pictures = 0
    if sound:
        packet, rate = sound.codec_context.frame_size, sound.rate
        if not packet or sound.time_base.numerator * rate != sound.time_base.denominator:
            return None
        # Timestamps count from the first sample that is heard (the encoder's delay is negative);
        # decoders hand out the last packet whole.
        samples = sound.index_entries[-1].timestamp + packet - max(0, sound.start_time or 0)
    if video:
        pictures = sum(not entry.is_discard for entry in video.index_entries)
    begins = sound_begins(container, sound)
    if not (video and timed):
        return Recording(rate, samples, begins, pictures)
    times = _packet_times(container, video)
    if len(times) == pictures + 1:
        return Recording(rate, samples, begins, pictures, times)
    container.seek(0)
    return None


def _packet_times(container, video) -> array:
    """When pictures appear, by their packets, which are read but not decoded."""
    packets = (p for p in container.demux(video) if p.pts is not None and not p.is_discard)
    shown = sorted((packet.pts, packet.duration or 0) for packet in packets)
    unit, zero = float(video.time_base), beginning(container)
    times = array("d", (stamp * unit - zero for stamp, _ in shown))
    return _with_end(times, shown[-1][1] * unit if shown else 0.0)


def _with_end(times: array, last: float) -> array:
    """Times with that at which the last picture goes, ``last`` seconds after it came."""
    if len(times) > 1 and not last:
        last = times[-1] - times[-2]
    if times:
        times.append(times[-1] + last)
    return times


def _by_decoding(container, sound, video) -> Recording:
    """Both tracks decoded in one go."""
    times, ordered = array("d"), True
    for stream in (sound, video):
        if stream:
            stream.thread_type = "NONE"  # the workers are the parallelism
    clock = SoundClock(sound.rate if sound else 0)  # that of its first frame
    zero = beginning(container)
    for frame in container.decode([s for s in (sound, video) if s]):
        if hasattr(frame, "samples"):
            clock.silence_before(frame)
            continue
        time = -1.0 if frame.time is None else frame.time - zero
        ordered = ordered and frame.time is not None and (not times or time > times[-1])
        times.append(time)
    pictures, step = len(times), 1 / float(video.average_rate or 25) if video else 0.0
    if not ordered:  # no clock to go by
        times = array("d", (i * step for i in range(pictures)))
    times = _with_end(times, step if pictures == 1 else 0.0)
    return Recording(clock.rate, clock.samples, sound_begins(container, sound), pictures, times)
