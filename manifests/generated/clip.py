"""One clip: speech, noise and face in an mp4 that is the same byte for byte in every run.

Or speech and noise alone, where the file asked for is a FLAC.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from ..common import atomic_path
from ..errors import InputError
from .face import draw_face
from .mouth import mouth_path
from .speech import SAMPLE_RATE, Speaker, in_noise, speak

FPS = 25


@dataclass(frozen=True)
class Clip:
    """What is said, by whom, and where the file goes."""

    id: str
    path: Path
    text: str
    speaker: Speaker
    seed: int
    size: int


@dataclass(frozen=True)
class Made:
    """What decoding a finished clip gives, and whether it was there before."""

    samples: int
    frames: int
    reused: bool


def make_clip(clip: Clip) -> Made:
    """Write the clip, unless its file is there and whole."""
    if clip.path.exists():
        try:
            return Made(*probe(clip.path), reused=True)
        except (av.FFmpegError, InputError):
            clip.path.unlink()  # damaged: made again below
    key = zlib.crc32(clip.id.encode())
    sound, picture = (np.random.default_rng((clip.seed, key, i)) for i in range(2))
    speech = in_noise(speak(clip.text, clip.speaker), sound)
    if clip.path.suffix == ".flac":
        with atomic_path(clip.path) as partial:
            soundfile.write(partial, speech.samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        return Made(*probe(clip.path), reused=False)
    frames = len(speech.samples) * FPS // SAMPLE_RATE
    mouth = mouth_path(speech.phonemes, frames, FPS, effort=picture.uniform(0.8, 1.1))
    video = draw_face(mouth, clip.size, FPS, picture)
    with atomic_path(clip.path) as partial:
        encode(partial, video, speech.samples)
    return Made(*probe(clip.path), reused=False)


def encode(path: Path, video: NDArray[np.uint8], samples: NDArray[np.float32]) -> None:
    """An mp4 of frames (T, S, S, 3) and samples (n_samples,) at 16 kHz."""
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        picture = _video_stream(container, video.shape[1])
        sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono", bit_rate=48_000)
        sound.options = {"aac_coder": "fast"}
        sound.codec_context.flags |= av.codec.context.Flags.bitexact
        for i, image in enumerate(video):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        block = sound.codec_context.frame_size or 1024
        for start in range(0, len(samples), block):
            part = np.ascontiguousarray(samples[None, start : start + block])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, start
            frame.time_base = Fraction(1, SAMPLE_RATE)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def _video_stream(container: av.container.OutputContainer, size: int) -> av.VideoStream:
    """H.264, or MPEG-4 part 2 where PyAV was built without x264."""
    h264 = "libx264" in av.codecs_available
    stream = container.add_stream("libx264" if h264 else "mpeg4", rate=FPS)
    stream.width = stream.height = size
    stream.pix_fmt = "yuv420p"
    if h264:
        stream.options = {"preset": "veryfast", "crf": "20"}
    else:
        stream.bit_rate = 200_000
    # More than one thread, and the bytes would depend on the machine.
    stream.codec_context.thread_count = 1
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    return stream


def probe(path: Path) -> tuple[int, int]:
    """Decoded audio samples and video frames of a file; a FLAC has none of the latter."""
    if path.suffix == ".flac":
        try:
            return len(soundfile.read(path)[0]), 0
        except soundfile.LibsndfileError as error:
            raise InputError(f"{path} cannot be read: {error}.") from None
    with av.open(str(path)) as container:
        if not container.streams.audio or not container.streams.video:
            raise InputError(f"{path} lacks a track.")
        samples = sum(frame.samples for frame in container.decode(audio=0))
    with av.open(str(path)) as container:
        frames = sum(1 for packet in container.demux(video=0) if packet.size)
    return samples, frames
