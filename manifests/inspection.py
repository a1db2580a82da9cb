"""From candidates to the cells of their rows, without fairseq: the work of every corpus's workers.

Lengths and faults of files come from :mod:`manifests.recording`.
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

# Cues have times in ms, frames finer ones: a frame about to appear counts as displayed.
CLOCK = 0.001  # seconds


def measure_all(candidates: Sequence[Candidate], limits: Limits) -> list[Measured]:
    """Inspect each candidate's files; bad files raise nothing."""
    # The stamp is taken first: a file that changes while it is read is read again by the next run.
    return [
        replace(measure(candidate, limits), stamp=stamp)
        for candidate, stamp in ((c, stamp_of(c)) for c in candidates)
    ]


def stamp_of(candidate: Candidate) -> str:
    """Sizes and modification times of a candidate's files, which reveal changed content."""
    stamps = []
    for path in dict.fromkeys((candidate.audio, candidate.audio_else, candidate.video)):
        try:
            status = os.stat(path) if path else None
        except (OSError, ValueError):
            status = None
        stamps.append(f"{status.st_size}:{status.st_mtime_ns}" if status else "")
    return " ".join(stamps)


def measure(candidate: Candidate, limits: Limits) -> Measured:
    """Measure a candidate, or find why it cannot be used."""
    fault = candidate.fault or _unwritable(candidate)
    if fault is None and candidate.text is not None and not candidate.text.strip():
        fault = (EMPTY_TEXT, "")
    if fault is not None:
        return Measured(reason=fault[0], detail=fault[1])
    candidate, track = _usable_audio(candidate, limits)
    if not track.fault and not track.rate and candidate.audio_optional and candidate.video:
        candidate, track = _video_alone(candidate, limits)
    if track.fault or not track.rate:
        reason, detail = track.fault or (NO_AUDIO, "")
        return Measured(reason=reason, detail=detail)
    if track.cut_off and candidate.seconds is None:
        return Measured(reason=UNREADABLE, detail=track.cut_off)
    if candidate.cut:
        return _in_pieces(candidate, track, limits)
    return _clip(candidate, track, limits)


def _usable_audio(candidate: Candidate, limits: Limits) -> tuple[Candidate, Recording]:
    """The candidate with the first of its audio files that can be used, and that file's content."""
    audio = inspect(candidate.audio, limits.decode, _is_part(candidate))
    if candidate.audio_else and (audio.fault or audio.cut_off or not audio.rate):
        found = inspect(candidate.audio_else, limits.decode, _is_part(candidate))
        if found.rate and not found.cut_off:
            return replace(candidate, audio=candidate.audio_else), found
    return candidate, audio


def _video_alone(candidate: Candidate, limits: Limits) -> tuple[Candidate, Recording]:
    """The candidate without its audio, and a track as long as its video.

    The track has an audio sample rate, so that the clip is cut, checked and counted like others. It
    has none if the video cannot be used.
    """
    found = inspect(candidate.video, limits.decode, timed=True)
    if found.fault or not found.video_frames:
        return candidate, Recording(fault=found.fault)
    begins, ends = found.times[0], found.times[-1]
    track = Recording(SAMPLE_RATE, round((ends - begins) * SAMPLE_RATE), audio_start=begins)
    return replace(candidate, audio="", video_optional=False), track


def _is_part(candidate: Candidate) -> bool:
    return bool(candidate.start or candidate.cut) or candidate.seconds is not None


def _in_pieces(candidate: Candidate, track: Recording, limits: Limits) -> Measured:
    """Cut into equal pieces of about ``candidate.cut`` seconds; a short recording stays whole."""
    whole = track.samples / track.rate
    count = max(1, math.floor(whole / candidate.cut + 0.5))
    if count == 1:
        return _clip(replace(candidate, cut=None), track, limits)
    pieces = [
        replace(
            candidate,
            start=track.audio_start + i * whole / count,
            seconds=whole / count,
            cut=None,
        )
        for i in range(count)
    ]
    return Measured(pieces=tuple(_clip(piece, track, limits) for piece in pieces))


def _clip(candidate: Candidate, track: Recording, limits: Limits) -> Measured:
    """The candidate as one clip of its track, with its video."""
    measured = _part(candidate, track, limits)
    if measured.reason or not candidate.video:
        return measured
    return _with_video(candidate, measured, limits)


def _unwritable(candidate: Candidate) -> tuple[str, str] | None:
    """What makes a candidate impossible to write as a line of a manifest."""
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
    """The candidate's part of the audio, or the length of its part if it has no audio."""
    length, audio = track.samples, candidate.audio
    if _is_part(candidate):
        ends = candidate.start + (candidate.seconds or 0.0)
        if not math.isfinite(ends) or not 0 <= candidate.start <= ends:
            detail = f"starts at {candidate.start} s, ends at {ends} s"
            return Measured(reason=BAD_TIMES, detail=detail)
        offset = round(max(0.0, candidate.start - track.audio_start) * track.rate)
        length = track.samples - offset
        if candidate.seconds is not None:
            length = round((ends - track.audio_start) * track.rate) - offset
        over = offset + length - track.samples
        if over > TOLERANCE * track.rate or offset > track.samples:
            has = track.audio_start + track.samples / track.rate
            return Measured(
                reason=PAST_END, detail=f"ends at {ends:.2f} s, the recording at {has:.2f} s"
            )
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
    # Rounded as by scipy's resample_poly, which resamples clips to 16 kHz.
    samples = -(-length * SAMPLE_RATE // track.rate)
    return Measured(samples=samples, row={"audio": audio})


def _with_video(candidate: Candidate, measured: Measured, limits: Limits) -> Measured:
    found = inspect(candidate.video, limits.decode, _is_part(candidate))
    if found.fault or not found.video_frames:
        if candidate.video_optional:
            return measured
        reason, detail = found.fault or (NO_VIDEO, "")
        return Measured(reason=reason, detail=detail)
    video, count = candidate.video, found.video_frames
    if _is_part(candidate):
        first = _frame_at(found, candidate.start)
        if first == count and candidate.video_optional:
            return measured
        if first == count:
            detail = f"its video ends at {found.times[-1]:.2f} s"
            return Measured(reason=PAST_END, detail=detail)
        if candidate.seconds is not None:
            count = _frame_at(found, candidate.start + candidate.seconds)
        count = max(1, count - first)
        video = f"{video}:{first}:{count}"
    row = {**measured.row, "video": video, "video_frames": count}
    return Measured(samples=measured.samples, row=row)


def _frame_at(recording: Recording, seconds: float) -> int:
    """Index of the frame displayed at a time, by the frames' timestamps.

    After the end of the last frame, the number of all frames.
    """
    return max(0, bisect_right(recording.times, seconds + CLOCK) - 1)
