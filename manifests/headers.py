"""Headers of audio files, parsed here where libsndfile does not report enough.

libsndfile silently reads what is left of a truncated file, stops at the end of the first of several
concatenated mp3s or Ogg streams, and guesses the length of an mp3 that does not state it.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from functools import lru_cache
from stat import S_ISREG

from manifests.errors import UnreadableClip

LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000  # Hz
COMPRESSED_SUFFIXES = {".flac", ".ogg", ".oga", ".opus", ".mp3"}
SOUNDFILE_SUFFIXES = {".wav", ".aif", ".aiff"} | COMPRESSED_SUFFIXES
# A WAV's stated size if it was written to a pipe (FFmpeg, SoX) or is too large for the field is at
# least this.
UNKNOWN_SIZE = 0x7FFF0000
NO_LENGTH = 1 << 62  # frames: libsndfile reports more for a FLAC that was written to a pipe
MP3_PADDING = 0.5  # seconds that encoders add around the audio
MP3_TAGS = 4096  # bytes at the end that may hold tags instead of audio
MP3_LENGTH = re.compile(rb"(?:Xing|Info)...[\x01\x03\x05\x07\x09\x0b\x0d\x0f]|VBRI", re.DOTALL)


def is_soundfile(path: str) -> bool:
    """Whether libsndfile, which is fast and seeks exactly, reads the whole file; else use FFmpeg.

    It does not read an mp3 that continues past the length in its first frame, such as concatenated
    ones, or one of variable bit rate without that length; nor a FLAC without a length; nor the
    streams of a chained Ogg after the first.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in COMPRESSED_SUFFIXES:
        return suffix in SOUNDFILE_SUFFIXES
    try:
        status = os.stat(path)
        return not S_ISREG(status.st_mode) or _reads_all(path, status.st_mtime_ns)
    except (OSError, ValueError):
        return True  # errors are reported where the file is read


@lru_cache(maxsize=1 << 16)
def _reads_all(path: str, changed: int) -> bool:
    import av
    import soundfile

    try:
        info = soundfile.info(path)
        if info.format == "FLAC":
            return info.frames < NO_LENGTH
        if info.format == "OGG":
            return not is_chained(path)
        if info.format not in ("MP3", "MPEG"):
            return True
        start, head = _mp3_head(path)
        if os.path.getsize(path) - start - _mp3_bytes(head) <= MP3_TAGS:
            return True
        with av.open(f"file:{path}") as container:
            [audio] = container.streams.audio
            seconds = sum(packet.duration or 0 for packet in container.demux(audio))
            return seconds * audio.time_base <= info.frames / info.samplerate + MP3_PADDING
    except (soundfile.LibsndfileError, RuntimeError, ValueError, OSError, av.error.FFmpegError):
        return True


def check_rate(rate: int, name: str) -> None:
    """Raise UnreadableClip for a sample rate that only a corrupt header states.

    The filter that converts it to 16 kHz could take gigabytes.
    """
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise UnreadableClip(
            f"{name} cannot be read as audio: a sample rate of {rate} Hz is not between "
            f"{LOWEST_RATE} and {HIGHEST_RATE}"
        )


def data_promised(path: str) -> float:
    """Length of audio in the header of a WAV or AIFF, as a multiple of the length in the file.

    libsndfile silently reads what is left of a truncated file.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        order = {b"RIFF": "<", b"FORM": ">"}.get(file.read(12)[:4])
        while order and len(head := file.read(8)) == 8:
            name, length = struct.unpack(f"{order}4sI", head)
            if name in (b"data", b"SSND"):
                there = size - file.tell()
                return length / there if 0 < there < length < UNKNOWN_SIZE else 1.0
            file.seek(length + length % 2, os.SEEK_CUR)
    return 1.0


def mp3_states_length(path: str) -> bool:
    """Whether an mp3 states its number of frames; else its length is estimated from its size."""
    return bool(MP3_LENGTH.search(_mp3_head(path)[1]))


def _mp3_head(path: str) -> tuple[int, bytes]:
    """Offset of an mp3's audio, past its ID3 tag, and the bytes at its start."""
    with open(path, "rb") as file:
        head, start = file.read(10), 0
        if head[:3] == b"ID3" and len(head) == 10:  # its size has seven bits per byte
            high, mid, low, lowest = struct.unpack("4B", head[6:])
            start = 10 + (high << 21 | mid << 14 | low << 7 | lowest)
        file.seek(start)
        return start, file.read(4096)


def _mp3_bytes(head: bytes) -> int:
    """Length in bytes that an mp3 states; 0 if it does not."""
    if found := re.search(rb"(?:Xing|Info)...(.)", head, re.DOTALL):
        flags = found[1][0]  # bit 0: has a frame count, bit 1: has a byte count
        place = found.end() + 4 * (flags & 1)
        return int.from_bytes(head[place : place + 4]) if flags & 2 else 0
    place = head.find(b"VBRI")
    return int.from_bytes(head[place + 10 : place + 14]) if place >= 0 else 0


def is_chained(path: str) -> bool:
    """Whether an Ogg file holds several streams one after the other."""
    begun = False
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        page = data.find(b"OggS")
        while 0 <= page < len(data) - 5:
            first = data[page + 5] & 2
            if first and begun:
                return True
            begun = begun or not first
            page = data.find(b"OggS", page + 27)
    return False
