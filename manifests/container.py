"""Containers with sound, pictures or both (mp4, mkv, mpg ...), opened by FFmpeg through PyAV.

What manifests count and what training decodes must be the same, so both ask here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, VideoFrame, VideoStream
    from av.container import InputContainer

# FFmpeg's names of formats.
MP4, MATROSKA, MPEG_TS = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts"
# Two decoders may count a compressed recording's last frames differently, and a segment may end
# this much after its recording (rounded times).
TOLERANCE = 0.1  # seconds
# Sound that a container's clock has and its packets have not, as of recorders that drop out, is
# silence where it lasts longer than this; a longer step than the other is a fault of the clock.
GAP, LONGEST_GAP = 0.1, 3600  # seconds


def open_container(path: str) -> InputContainer:
    """To be used in ``with``; ``path`` is that of a file, whatever it is called.

    FFmpeg takes what stands before a colon for a protocol: ``12:30.mp4``.
    """
    import av

    return av.open(f"file:{path}")


def video_stream(container: InputContainer) -> VideoStream | None:
    """The pictures of a container; a cover image of a piece of music does not count."""
    import av

    cover = av.stream.Disposition.attached_pic
    return next((s for s in container.streams.video if not s.disposition & cover), None)


def picture_converter() -> Callable[..., VideoFrame]:
    """For the pictures of one film: ``VideoFrame.reformat`` with the picture before the options.

    From PyAV 17 on each picture would set up a conversion for itself, on as many threads as there
    are cores, and small ones would take several times as long (PyAV #2200).
    """
    from av.video.reformatter import VideoReformatter

    return partial(VideoReformatter().reformat, threads=1)


def beginning(container: InputContainer) -> float:
    """The time, in seconds, that players show as zero: when the first of its streams begins."""
    import av

    return (container.start_time or 0) / av.time_base


def sound_begins(container: InputContainer, sound: AudioStream | None) -> float:
    """Seconds from :func:`beginning` to the first sound; pictures may come before it."""
    if not sound:
        return 0.0
    return max(0.0, float((sound.start_time or 0) * sound.time_base) - beginning(container))


class SoundClock:
    """Counts the samples of a track as its frames come, silence where packets are missing included.

    Args:
        rate: of the samples that are counted; frames of a file that was joined may have others.
    """

    def __init__(self, rate: int) -> None:
        self.rate, self.samples = rate, 0
        self._first: int | None = None  # timestamp

    def silence_before(self, frame: AudioFrame) -> int:
        """Samples of silence between the frames before and this one, which are counted too."""
        silence = 0
        if frame.pts is not None:
            self._first = frame.pts if self._first is None else self._first
            gap = round((frame.pts - self._first) * frame.time_base * self.rate) - self.samples
            if gap > LONGEST_GAP * self.rate:
                self._first += round(gap / self.rate / frame.time_base)
            elif gap > GAP * self.rate:
                silence = gap
        self.samples += silence + frame.samples * self.rate // frame.sample_rate
        return silence
