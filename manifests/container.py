"""Audio and video containers (mp4, mkv, mpg ...), opened by FFmpeg through PyAV.

Shared by manifests and training: what manifests count must be what training decodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from manifests.headers import MP3_LENGTH

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, VideoFrame, VideoStream
    from av.container import InputContainer
    from av.frame import Frame
    from av.stream import Stream

# FFmpeg's format names.
MP4, MATROSKA, MPEG_TS = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts"
# Decoders may differ in the last frames of a compressed recording, and rounded times may put the
# end of a segment this much past the end of its recording.
TOLERANCE = 0.1  # seconds
# A gap in a container's audio timestamps, such as dropped packets of a recorder, is filled with
# silence if it is longer than GAP; one longer than LONGEST_GAP is a timestamp error.
GAP, LONGEST_GAP = 0.1, 3600  # seconds


def open_container(path: str) -> InputContainer:
    """Open a file for a ``with`` block, whatever its name.

    Without ``file:``, FFmpeg takes what precedes a colon for a protocol: ``12:30.mp4``.
    """
    import av

    return av.open(f"file:{path}")


def video_stream(container: InputContainer) -> VideoStream | None:
    """The video stream of a container; the cover image of an audio file does not count."""
    import av

    cover = av.stream.Disposition.attached_pic
    return next((s for s in container.streams.video if not s.disposition & cover), None)


def frame_converter() -> Callable[..., VideoFrame]:
    """A converter for the frames of one video: ``VideoFrame.reformat`` with the frame first.

    Since PyAV 17, each frame would otherwise set up its own conversion, with as many threads as
    there are cores, and small frames would take several times as long (PyAV #2200).
    """
    from av.video.reformatter import VideoReformatter

    return partial(VideoReformatter().reformat, threads=1)


def beginning(container: InputContainer) -> float:
    """The time, in seconds, that players show as zero: the start of the earliest stream."""
    import av

    return (container.start_time or 0) / av.time_base


def find_audio_start(container: InputContainer, audio: AudioStream | None) -> float:
    """Seconds from :func:`beginning` to the first audio; video may start before it."""
    if not audio:
        return 0.0
    return max(0.0, float((audio.start_time or 0) * audio.time_base) - beginning(container))


def decoded_frames(
    container: InputContainer, streams: list[Stream], damaged: list[int] | None = None
) -> Iterator[Frame]:
    """Decode streams to their frames, across the seams of concatenated mp3s.

    Args:
        damaged: receives the timestamps of undecodable packets, which otherwise end the decoding.
    """
    import av

    for packet in container.demux(streams):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            # FFmpeg's decoder refuses the tags and the length that an appended mp3 begins with.
            if packet.stream.name.startswith("mp3") and MP3_LENGTH.search(bytes(packet)):
                continue
            if damaged is None:
                raise
            damaged.append(packet.pts)


class AudioClock:
    """Counts the samples of an audio track frame by frame, with silence for missing packets.

    Args:
        rate: rate of the counted samples; frames of a concatenated file may have others.
    """

    def __init__(self, rate: int) -> None:
        self.rate, self.samples = rate, 0
        self._first: int | None = None  # timestamp

    def silence_before(self, frame: AudioFrame) -> int:
        """Samples of silence to insert before this frame; they are counted too."""
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
