"""Write one clip: noisy speech and a face as a byte-reproducible mp4, or only the audio as FLAC."""

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
from .speech import SAMPLE_RATE, Speaker, add_noise, speak

FPS = 25


@dataclass(frozen=True)
class Clip:
    """The text, speaker and output path of a clip."""

    id: str
    path: Path
    text: str
    speaker: Speaker
    seed: int
    size: int


@dataclass(frozen=True)
class ClipResult:
    """Decoded audio samples and video frames of a clip, and whether the file already existed."""

    samples: int
    frames: int
    reused: bool


def make_clip(clip: Clip) -> ClipResult:
    """Write the clip unless an intact file exists."""
    if clip.path.exists():
        try:
            return ClipResult(*probe(clip.path), reused=True)
        except (av.FFmpegError, InputError):
            clip.path.unlink()  # damaged; written again below
    key = zlib.crc32(clip.id.encode())
    audio_rng, video_rng = (np.random.default_rng((clip.seed, key, i)) for i in range(2))
    speech = add_noise(speak(clip.text, clip.speaker), audio_rng)
    if clip.path.suffix == ".flac":
        with atomic_path(clip.path) as partial:
            soundfile.write(partial, speech.samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        return ClipResult(*probe(clip.path), reused=False)
    frames = len(speech.samples) * FPS // SAMPLE_RATE
    mouth = mouth_path(speech.phonemes, frames, FPS, effort=video_rng.uniform(0.8, 1.1))
    video = draw_face(mouth, clip.size, FPS, video_rng)
    with atomic_path(clip.path) as partial:
        encode(partial, video, speech.samples)
    return ClipResult(*probe(clip.path), reused=False)


def encode(path: Path, video: NDArray[np.uint8], samples: NDArray[np.float32]) -> None:
    """Write an mp4 of video frames (T, S, S, 3) and samples (n_samples,) at 16 kHz."""
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        video_stream = _video_stream(container, video.shape[1])
        audio_stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono", bit_rate=48_000)
        audio_stream.options = {"aac_coder": "fast"}
        audio_stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for i, image in enumerate(video):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(video_stream.encode(frame))
        container.mux(video_stream.encode(None))
        block = audio_stream.codec_context.frame_size or 1024
        for start in range(0, len(samples), block):
            part = np.ascontiguousarray(samples[None, start : start + block])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, start
            frame.time_base = Fraction(1, SAMPLE_RATE)
            container.mux(audio_stream.encode(frame))
        container.mux(audio_stream.encode(None))


def _video_stream(container: av.container.OutputContainer, size: int) -> av.VideoStream:
    """Add an H.264 stream, or MPEG-4 Part 2 where PyAV was built without x264."""
    h264 = "libx264" in av.codecs_available
    stream = container.add_stream("libx264" if h264 else "mpeg4", rate=FPS)
    stream.width = stream.height = size
    stream.pix_fmt = "yuv420p"
    if h264:
        stream.options = {"preset": "veryfast", "crf": "20"}
    else:
        stream.bit_rate = 200_000
    # With more than one thread the bytes would depend on the machine.
    stream.codec_context.thread_count = 1
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    return stream


def probe(path: Path) -> tuple[int, int]:
    """Numbers of decoded audio samples and video frames of a file; 0 frames for a FLAC."""
    if path.suffix == ".flac":
        try:
            return len(soundfile.read(path)[0]), 0
        except soundfile.LibsndfileError as error:
            raise InputError(f"{path} cannot be read: {error}.") from None
    with av.open(str(path)) as container:
        if not container.streams.audio or not container.streams.video:
            raise InputError(f"{path} lacks an audio or a video track.")
        samples = sum(frame.samples for frame in container.decode(audio=0))
    with av.open(str(path)) as container:
        frames = sum(1 for packet in container.demux(video=0) if packet.size)
    return samples, frames
