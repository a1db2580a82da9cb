"""The column ``segments``: who speaks when, ``anna:0.31-2.5;ben:2.1-4.02`` in seconds."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from manifests.errors import InputError
from mmpt_fairseq.data.audio import FRAMES_PER_SECOND

SpeakerTurn = tuple[str, float, float]  # speaker, start, end


def parse_segments(cell: str, where: str) -> Iterator[SpeakerTurn]:
    """Yield the segments of a cell in order; an empty cell has none.

    Raises:
        InputError: a segment is malformed or ends before it starts.
    """
    for segment in filter(None, cell.split(";")):
        speaker, _, times = segment.rpartition(":")
        start, _, end = times.partition("-")
        try:
            begin, finish = float(start), float(end)
        except ValueError:
            begin, finish = 0.0, -1.0
        if not speaker.strip() or not 0 <= begin < finish < float("inf"):
            raise InputError(
                f"{where}: {segment!r} in the column segments is not speaker:start-end in seconds"
            )
        yield speaker.strip(), begin, finish


def speaker_activity(cell: str, frames: int, where: str) -> NDArray[np.bool_]:
    """Speech activity ``(T, speakers)`` bool, the speakers sorted by name.

    Raises:
        InputError: as :func:`parse_segments`, or a segment begins after the end of the clip.
    """
    segments = list(parse_segments(cell, where))
    names = sorted({speaker for speaker, _, _ in segments})
    active = np.zeros((frames, len(names)), dtype=bool)
    for speaker, start, end in segments:
        # Only complete 25 ms windows count: frames end up to 25 ms before the clip.
        if start * FRAMES_PER_SECOND >= frames + 3:
            raise InputError(
                f"{where}: {speaker}:{start}-{end} in the column segments begins after the clip's "
                f"{frames} frames of 10 ms; is it in seconds?"
            )
        first, last = round(start * FRAMES_PER_SECOND), round(end * FRAMES_PER_SECOND)
        active[first:last, names.index(speaker)] = True
    return active


def format_segments(segments: Sequence[SpeakerTurn]) -> str:
    """Format segments as :func:`parse_segments` reads them, rounded to 10 ms."""
    return ";".join(f"{speaker}:{start:.2f}-{end:.2f}" for speaker, start, end in segments)
