"""What the headers of sound files say, byte by byte, where libsndfile does not tell.

It takes what is left of a file that was cut off, stops where the first of joined mp3s or Ogg
streams ends, and guesses the length of an mp3 that tells none.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from functools import lru_cache
from stat import S_ISREG

SOUNDFILE_SUFFIXES = {".wav", ".aif", ".aiff", ".flac", ".ogg", ".oga", ".opus", ".mp3"}
# What a WAV's header says of its size where it was written to a pipe (FFmpeg, SoX) or is longer
# than the field can tell.
UNKNOWN_SIZE = 0x7FFF0000
NO_LENGTH = 1 << 62  # frames: libsndfile's count of a FLAC that was written to a pipe is more
MP3_PADDING = 0.5  # seconds that encoders put around the sound
MP3_TAGS = 4096  # bytes at the end that need be no sound
MP3_LENGTH = re.compile(rb"(?:Xing|Info)...[\x01\x03\x05\x07\x09\x0b\x0d\x0f]|VBRI", re.DOTALL)


def is_soundfile(path: str) -> bool:
    """Whether libsndfile, which seeks exactly and is fast, reads all of a file; else FFmpeg does.

    It does not read an mp3 that goes on behind what its first frame tells, as several that were
    joined do, or one of varying bit rate that tells nothing; nor FLAC that tells no length.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in (".mp3", ".flac"):
        return suffix in SOUNDFILE_SUFFIXES
    try:
        status = os.stat(path)
        return not S_ISREG(status.st_mode) or _reads_all(path, status.st_mtime_ns)
    except (OSError, ValueError):
        return True  # what is wrong with it is told where it is read


@lru_cache(maxsize=1 << 16)
def _reads_all(path: str, changed: int) -> bool:
    import av
    import soundfile

    try:
        told = soundfile.info(path)
        if told.format == "FLAC":
            return told.frames < NO_LENGTH
        if told.format not in ("MP3", "MPEG"):
            return True
        begins, head = _mp3_head(path)
        if os.path.getsize(path) - begins - _mp3_bytes(head) <= MP3_TAGS:
            return True
        with av.open(f"file:{path}") as container:
            [sound] = container.streams.audio
            seconds = sum(packet.duration or 0 for packet in container.demux(sound))
            return seconds * sound.time_base <= told.frames / told.samplerate + MP3_PADDING
    except (soundfile.LibsndfileError, RuntimeError, ValueError, OSError, av.error.FFmpegError):
        return True


def data_promised(path: str) -> float:
    """How much sound the header of a WAV or AIFF speaks of, as a multiple of what is there.

    libsndfile takes what is left of a file that was cut off without a word.
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


def mp3_tells_length(path: str) -> bool:
    """Whether an mp3 says how many frames it has; else its length is estimated from its size."""
    return bool(MP3_LENGTH.search(_mp3_head(path)[1]))


def _mp3_head(path: str) -> tuple[int, bytes]:
    """Where an mp3 begins behind its ID3 tag, and what it begins with."""
    with open(path, "rb") as file:
        head, begins = file.read(10), 0
        if head[:3] == b"ID3" and len(head) == 10:  # its size has seven bits in each byte
            high, mid, low, lowest = struct.unpack("4B", head[6:])
            begins = 10 + (high << 21 | mid << 14 | low << 7 | lowest)
        file.seek(begins)
        return begins, file.read(4096)


def _mp3_bytes(head: bytes) -> int:
    """How long an mp3 says that it is, in bytes; 0 where it does not."""
    if found := re.search(rb"(?:Xing|Info)...(.)", head, re.DOTALL):
        flags = found[1][0]  # 1: its frames are counted, 2: its bytes are
        place = found.end() + 4 * (flags & 1)
        return int.from_bytes(head[place : place + 4]) if flags & 2 else 0
    place = head.find(b"VBRI")
    return int.from_bytes(head[place + 10 : place + 14]) if place >= 0 else 0


def is_chained(path: str) -> bool:
    """Whether a stream begins in an Ogg file after another one has."""
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
