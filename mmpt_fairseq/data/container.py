"""Containers with sound, pictures or both (mp4, mkv, mpg ...), opened by FFmpeg through PyAV."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import AudioStream
    from av.container import InputContainer


def open_container(path: str) -> "InputContainer":
    """To be used in ``with``; ``path`` is that of a file, whatever it is called.

    FFmpeg takes what stands before a colon for a protocol: ``12:30.mp4``.
    """
    import av

    return av.open(f"file:{path}")


def beginning(container: "InputContainer") -> float:
    """The time, in seconds, that players show as zero: when the first of its streams begins."""
    import av

    return (container.start_time or 0) / av.time_base


def sound_begins(container: "InputContainer", sound: "AudioStream | None") -> float:
    """Seconds from :func:`beginning` to the first sound; pictures may come before it."""
    if not sound:
        return 0.0
    return max(0.0, float((sound.start_time or 0) * sound.time_base) - beginning(container))
