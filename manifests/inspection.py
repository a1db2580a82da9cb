"""Lengths of recordings without fairseq: what the workers of every corpus do.

=================  ============================================================================
wav, aiff          header, and the last sample is read
flac, ogg, opus    decoded: their header is exact, but damage inside shows in no other way
mp3                decoded: a header may hold an estimate
mp4, mov, m4a      index of the container: it lists every packet, and the file must hold the last
anything else      decoded (FFmpeg), sound and pictures
=================  ============================================================================
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from manifests.candidate import (
    BAD_NAME,
    BAD_TEXT,
    BAD_TIMES,
    EMPTY_TEXT,
    MISSING,
    NO_AUDIO,
    NO_VIDEO,
    PAST_END,
    TOO_LONG,
    TOO_SHORT,
    UNREADABLE,
    Candidate,
    Limits,
    Measured,
)

SAMPLE_RATE = 16_000  # of what the models hear
PLAIN = {".wav", ".aif", ".aiff"}
COMPRESSED = {".flac", ".ogg", ".oga", ".opus", ".mp3"}
INDEXED = "mov,mp4,m4a,3gp,3g2,mj2"  # FFmpeg's name of the format
# A segment may end this much after its recording (rounded times); it is cut there.
TOLERANCE = 0.1  # seconds, as where mmpt_fairseq reads it
BLOCK = 1 << 20


@dataclass(frozen=True)
class Recording:
    """What a file holds.

    Attributes:
        rate: samples a second, 0 without sound.
        samples: at that rate.
        pictures: 0 without video.
        picture_rate: pictures a second.
        fault: (reason, detail); nothing else holds then.
    """

    rate: int = 0
    samples: int = 0
    pictures: int = 0
    picture_rate: float = 0.0
    fault: tuple[str, str] | None = None


def measure_all(candidates: Sequence[Candidate], limits: Limits) -> list[Measured]:
    """Look at each candidate's files; nothing is raised for a bad one."""
    return [measure(candidate, limits) for candidate in candidates]


def measure(candidate: Candidate, limits: Limits) -> Measured:
    """One candidate's lengths, or why it cannot be used."""
    fault = candidate.fault or _named_badly(candidate)
    if fault is None and candidate.text is not None and not candidate.text.strip():
        fault = (EMPTY_TEXT, "")
    if fault is not None:
        return Measured(reason=fault[0], detail=fault[1])
    sound = inspect(candidate.audio, limits.decode)
    if candidate.audio_else and (sound.fault or not sound.rate):
        found = inspect(candidate.audio_else, limits.decode)
        if found.rate:
            sound, candidate = found, replace(candidate, audio=candidate.audio_else)
    if sound.fault or not sound.rate:
        reason, detail = sound.fault or (NO_AUDIO, "")
        return Measured(reason=reason, detail=detail)
    measured = _part(candidate, sound, limits)
    if measured.reason or not candidate.video:
        return measured
    return _with_pictures(candidate, measured, limits)


def _named_badly(candidate: Candidate) -> tuple[str, str] | None:
    """What a line of a manifest cannot hold."""
    names = [candidate.id, candidate.audio, candidate.video]
    texts = [candidate.text or "", *map(str, candidate.columns.values())]
    for reason, cells in ((BAD_NAME, names), (BAD_TEXT, texts)):
        if any(character in cell for cell in cells for character in "\t\r\n"):
            return (reason, "tab or line break")
        try:
            "".join(cells).encode("utf-8")
        except UnicodeEncodeError:
            return (reason, "not UTF-8")
    return None


def _part(candidate: Candidate, sound: Recording, limits: Limits) -> Measured:
    """The sound of the candidate's part of its recording."""
    offset, length, audio = 0, sound.samples, candidate.audio
    if candidate.start or candidate.seconds is not None:
        seconds = candidate.seconds
        if seconds is None:
            seconds = max(0.0, sound.samples / sound.rate - candidate.start)
        if not math.isfinite(candidate.start + seconds) or min(candidate.start, seconds) < 0:
            return Measured(reason=BAD_TIMES, detail=f"{candidate.start} {candidate.seconds}")
        offset = round(candidate.start * sound.rate)
        length = round(seconds * sound.rate)
        over = offset + length - sound.samples
        if over > TOLERANCE * sound.rate:
            ends, has = (offset + length) / sound.rate, sound.samples / sound.rate
            return Measured(reason=PAST_END, detail=f"ends at {ends:.2f} s of {has:.2f} s")
        length -= max(0, over)
        audio = f"{audio}:{offset}:{length}"
    seconds = length / sound.rate
    if seconds < limits.shortest:
        return Measured(reason=TOO_SHORT, detail=f"{seconds:.3f} s")
    longest = limits.longest
    if longest is None and candidate.text is not None:
        longest = limits.longest_text
    if longest is not None and seconds > longest:
        return Measured(reason=TOO_LONG, detail=f"{seconds:.2f} s")
    # As scipy's resample_poly rounds, with which clips are brought to 16 kHz.
    samples = -(-length * SAMPLE_RATE // sound.rate)
    return Measured(samples=samples, row={"audio": audio})


def _with_pictures(candidate: Candidate, measured: Measured, limits: Limits) -> Measured:
    pictures = inspect(candidate.video, limits.decode)
    if pictures.fault or not pictures.pictures:
        if candidate.video_optional:
            return measured
        reason, detail = pictures.fault or (NO_VIDEO, "")
        return Measured(reason=reason, detail=detail)
    video, count = candidate.video, pictures.pictures
    if candidate.start or candidate.seconds is not None:
        first = round(candidate.start * pictures.picture_rate)
        count = pictures.pictures - first
        if candidate.seconds is not None:
            count = min(round(candidate.seconds * pictures.picture_rate), count)
        if count < 1:
            return Measured(reason=PAST_END, detail=f"{pictures.pictures} pictures")
        video = f"{video}:{first}:{count}"
    row = {**measured.row, "video": video, "video_frames": count}
    return Measured(samples=measured.samples, row=row)


@lru_cache(maxsize=64)  # segments of one recording follow each other
def inspect(path: str, decode: bool = False) -> Recording:
    """What a file holds; ``fault`` tells what is wrong with it."""
    try:
        if os.path.getsize(path) == 0:
            return Recording(fault=(UNREADABLE, "zero bytes"))
    except OSError:
        return Recording(fault=(MISSING, ""))
    suffix = os.path.splitext(path)[1].lower()
    if suffix in PLAIN or suffix in COMPRESSED:
        return _soundfile(path, decode or suffix in COMPRESSED)
    return _container(path, decode)


def _soundfile(path: str, decode: bool) -> Recording:
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            frames = file.frames
            if decode:
                frames = sum(len(block) for block in file.blocks(BLOCK, dtype="int16"))
            elif frames:
                file.seek(frames - 1)
                frames = frames if len(file.read(1)) else 0
            if not frames:
                return Recording(fault=(UNREADABLE, "no samples"))
            return Recording(file.samplerate, frames)
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        return Recording(fault=(UNREADABLE, _sentence(error)))


def _sentence(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return " ".join(lines[0].split(": ", 1)[-1].split())


def _container(path: str, decode: bool) -> Recording:
    """Through FFmpeg: from the index where the format keeps one, else by decoding."""
    import av

    av.logging.set_level(av.logging.PANIC)  # what is wrong with a file is told in skipped.tsv
    try:
        with av.open(path) as container:
            sound = container.streams.audio[0] if container.streams.audio else None
            video = container.streams.video[0] if container.streams.video else None
            if sound is None and video is None:
                return Recording(fault=(NO_AUDIO, "neither sound nor pictures"))
            rate = sound.rate if sound else 0
            picture_rate = float(video.average_rate or 0) if video else 0.0
            indexed = None
            if container.format.name == INDEXED and not decode:
                indexed = _from_index(sound, video, os.path.getsize(path))
            samples, pictures = indexed or _by_decoding(container, sound, video)
    except Exception as error:  # PyAV raises many kinds over damaged files: all are this file's
        return Recording(fault=(UNREADABLE, _sentence(error)))
    if (sound and not samples) or (video and not pictures):
        return Recording(fault=(UNREADABLE, "no samples or no pictures in a track"))
    return Recording(rate, samples, pictures, picture_rate)


def _from_index(sound, video, size: int) -> tuple[int, int] | None:
    """Samples and pictures as the index tells them; None where it does not tell all.

    Raises:
        ValueError: the file ends before its last packet.
    """
    samples = 0
    for stream in (sound, video):
        entries = stream.index_entries if stream else ()
        if stream and not len(entries):
            return None
        if stream and entries[-1].pos + entries[-1].size > size:
            raise ValueError("the file ends before its last packet")
    if sound:
        packet, last = sound.codec_context.frame_size, sound.index_entries[-1]
        if not packet or sound.time_base.numerator * sound.rate != sound.time_base.denominator:
            return None
        # Timestamps count from the first sample that is heard (the encoder's delay is negative);
        # decoders hand out the last packet whole.
        samples = last.timestamp + packet - max(0, sound.start_time or 0)
    return samples, video.frames if video else 0


def _by_decoding(container, sound, video) -> tuple[int, int]:
    """Both tracks decoded in one go."""
    samples = pictures = 0
    for stream in (sound, video):
        if stream:
            stream.thread_type = "NONE"  # the workers are the parallelism
    for frame in container.decode([s for s in (sound, video) if s]):
        if hasattr(frame, "samples"):
            samples += frame.samples
        else:
            pictures += 1
    return samples, pictures
