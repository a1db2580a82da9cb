"""From candidates to the cells of their rows, without fairseq: what the workers of every corpus do.

Lengths, and what is wrong with files, come from :mod:`manifests.recording`.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from manifests.candidate import (
    BAD_NAME,
    BAD_TEXT,
    BAD_TIMES,
    EMPTY_TEXT,
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
from manifests.common import SAMPLE_RATE
from manifests.container import TOLERANCE
from manifests.recording import Recording, inspect

# A cue's time is in milliseconds, a picture's is finer: one that is about to appear is there.
CLOCK = 0.001  # seconds


def measure_all(candidates: Sequence[Candidate], limits: Limits) -> list[Measured]:
    """Look at each candidate's files; nothing is raised for a bad one."""
    # Stamped before: what changes while it is read is read again by the next run.
    return [
        replace(measure(candidate, limits), stamp=stamp)
        for candidate, stamp in ((c, stamp_of(c)) for c in candidates)
    ]


def stamp_of(candidate: Candidate) -> str:
    """Sizes and times of change of a candidate's files: another stamp, other content."""
    stamps = []
    for path in dict.fromkeys((candidate.audio, candidate.audio_else, candidate.video)):
        try:
            status = os.stat(path) if path else None
        except (OSError, ValueError):
            status = None
        stamps.append(f"{status.st_size}:{status.st_mtime_ns}" if status else "")
    return " ".join(stamps)


def measure(candidate: Candidate, limits: Limits) -> Measured:
    """One candidate's lengths, or why it cannot be used."""
    fault = candidate.fault or _named_badly(candidate)
    if fault is None and candidate.text is not None and not candidate.text.strip():
        fault = (EMPTY_TEXT, "")
    if fault is not None:
        return Measured(reason=fault[0], detail=fault[1])
    candidate, track = _heard(candidate, limits)
    if not track.fault and not track.rate and candidate.audio_optional and candidate.video:
        candidate, track = _pictures_alone(candidate, limits)
    if track.fault or not track.rate:
        reason, detail = track.fault or (NO_AUDIO, "")
        return Measured(reason=reason, detail=detail)
    if track.cut_off and candidate.seconds is None:
        return Measured(reason=UNREADABLE, detail=track.cut_off)
    if candidate.cut:
        return _in_pieces(candidate, track, limits)
    return _clip(candidate, track, limits)


def _heard(candidate: Candidate, limits: Limits) -> tuple[Candidate, Recording]:
    """The candidate with that of its files of sound which can be used, and what it holds."""
    sound = inspect(candidate.audio, limits.decode, _is_part(candidate))
    if candidate.audio_else and (sound.fault or sound.cut_off or not sound.rate):
        found = inspect(candidate.audio_else, limits.decode, _is_part(candidate))
        if found.rate and not found.cut_off:
            return replace(candidate, audio=candidate.audio_else), found
    return candidate, sound


def _pictures_alone(candidate: Candidate, limits: Limits) -> tuple[Candidate, Recording]:
    """The candidate without its sound, and a track that lasts as long as its pictures are seen.

    It has the rate of sound, so that the clip is cut, checked and counted as others are. A video
    that cannot be used gives a track without one.
    """
    pictures = inspect(candidate.video, limits.decode, timed=True)
    if pictures.fault or not pictures.pictures:
        return candidate, Recording(fault=pictures.fault)
    begins, ends = pictures.times[0], pictures.times[-1]
    track = Recording(SAMPLE_RATE, round((ends - begins) * SAMPLE_RATE), sound_from=begins)
    return replace(candidate, audio="", video_optional=False), track


def _is_part(candidate: Candidate) -> bool:
    return bool(candidate.start or candidate.cut) or candidate.seconds is not None


def _in_pieces(candidate: Candidate, track: Recording, limits: Limits) -> Measured:
    """Equal pieces of about ``candidate.cut`` seconds; a short recording as a whole."""
    whole = track.samples / track.rate
    count = max(1, math.floor(whole / candidate.cut + 0.5))
    if count == 1:
        return _clip(replace(candidate, cut=None), track, limits)
    pieces = [
        replace(
            candidate,
            start=track.sound_from + i * whole / count,
            seconds=whole / count,
            cut=None,
        )
        for i in range(count)
    ]
    return Measured(pieces=tuple(_clip(piece, track, limits) for piece in pieces))


def _clip(candidate: Candidate, track: Recording, limits: Limits) -> Measured:
    """The candidate as one clip of its track, with its pictures."""
    measured = _part(candidate, track, limits)
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


def _part(candidate: Candidate, track: Recording, limits: Limits) -> Measured:
    """The sound of the candidate's part of its recording, or of one without sound the length."""
    length, audio = track.samples, candidate.audio
    if _is_part(candidate):
        ends = candidate.start + (candidate.seconds or 0.0)
        if not math.isfinite(ends) or not 0 <= candidate.start <= ends:
            return Measured(
                reason=BAD_TIMES, detail=f"from {candidate.start} s on, {candidate.seconds} s"
            )
        offset = round(max(0.0, candidate.start - track.sound_from) * track.rate)
        length = track.samples - offset
        if candidate.seconds is not None:
            length = round((ends - track.sound_from) * track.rate) - offset
        over = offset + length - track.samples
        if over > TOLERANCE * track.rate or offset > track.samples:
            has = track.sound_from + track.samples / track.rate
            return Measured(reason=PAST_END, detail=f"ends at {ends:.2f} s of {has:.2f} s")
        length = max(0, length - max(0, over))
        audio = audio and f"{audio}:{offset}:{length}"
    seconds = length / track.rate
    if seconds < limits.shortest:
        return Measured(reason=TOO_SHORT, detail=f"{seconds:.3f} s")
    longest = limits.longest
    if longest is None and candidate.text is not None:
        longest = limits.longest_text
    if longest is not None and seconds > longest:
        return Measured(reason=TOO_LONG, detail=f"{seconds:.2f} s")
    # As scipy's resample_poly rounds, with which clips are brought to 16 kHz.
    samples = -(-length * SAMPLE_RATE // track.rate)
    return Measured(samples=samples, row={"audio": audio})


def _with_pictures(candidate: Candidate, measured: Measured, limits: Limits) -> Measured:
    pictures = inspect(candidate.video, limits.decode, _is_part(candidate))
    if pictures.fault or not pictures.pictures:
        if candidate.video_optional:
            return measured
        reason, detail = pictures.fault or (NO_VIDEO, "")
        return Measured(reason=reason, detail=detail)
    video, count = candidate.video, pictures.pictures
    if _is_part(candidate):
        first = _on_display(pictures, candidate.start)
        if first == count and candidate.video_optional:
            return measured
        if first == count:
            detail = f"its pictures end at {pictures.times[-1]:.2f} s"
            return Measured(reason=PAST_END, detail=detail)
        if candidate.seconds is not None:
            count = _on_display(pictures, candidate.start + candidate.seconds)
        count = max(1, count - first)
        video = f"{video}:{first}:{count}"
    row = {**measured.row, "video": video, "video_frames": count}
    return Measured(samples=measured.samples, row=row)


def _on_display(recording: Recording, seconds: float) -> int:
    """The number of the picture that is seen at a time, by the pictures' own times.

    That of all pictures together once the last is gone.
    """
    return max(0, bisect_right(recording.times, seconds + CLOCK) - 1)
