"""Containers with sound, pictures or both (mp4, mkv, mpg ...), opened by FFmpeg through PyAV."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import AudioStream, VideoFrame
    from av.container import InputContainer


def open_container(path: str) -> "InputContainer":
    """To be used in ``with``; ``path`` is that of a file, whatever it is called.

    FFmpeg takes what stands before a colon for a protocol: ``12:30.mp4``.
    """
    import av

    return av.open(f"file:{path}")


def picture_converter() -> "Callable[..., VideoFrame]":
    """For the pictures of one film: ``VideoFrame.reformat`` with the picture before the options.

    From PyAV 17 on each picture would set up a conversion for itself, on as many threads as there
    are cores, and small ones would take several times as long (PyAV #2200).
    """
    from av.video.reformatter import VideoReformatter

    return partial(VideoReformatter().reformat, threads=1)


def beginning(container: "InputContainer") -> float:
    """The time, in seconds, that players show as zero: when the first of its streams begins."""
    import av

    return (container.start_time or 0) / av.time_base


def sound_begins(container: "InputContainer", sound: "AudioStream | None") -> float:
    """Seconds from :func:`beginning` to the first sound; pictures may come before it."""
    if not sound:
        return 0.0
    return max(0.0, float((sound.start_time or 0) * sound.time_base) - beginning(container))
