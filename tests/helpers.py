"""Clips, pictures and manifests that tests write, and small models that they share."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from fairseq.data import Dictionary

from mmpt_fairseq.data.audio import num_frames
from mmpt_fairseq.data.manifest import Manifest, write_manifest

RATE = 16_000
BITS = 16  # of the number that a picture shows, on a grid of 4 x 4 cells


def noise(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Noise whose loudness changes, ``(samples,)`` float32."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * rate)
    envelope = 0.05 + 0.1 * np.sin(np.linspace(0, 20, samples)) ** 2
    return (envelope * rng.standard_normal(samples)).clip(-1, 1).astype(np.float32)


def write_audio(path: Path, waveform: np.ndarray, rate: int = RATE, **kwargs) -> Path:
    """Write a file in the format that its suffix names."""
    soundfile.write(path, waveform, rate, **kwargs)
    return path


def numbered_picture(number: int, size: int = 64) -> np.ndarray:
    """``(size, size, 3)``: black and white cells are the bits of ``number``."""
    bits = (number >> np.arange(BITS)) & 1
    cells = bits.reshape(4, 4).repeat(size // 4, 0).repeat(size // 4, 1)
    return np.repeat(255 * cells[..., None], 3, axis=2).astype(np.uint8)


def picture_number(picture: np.ndarray) -> int:
    """What :func:`numbered_picture` wrote, after lossy coding too."""
    cell = len(picture) // 4
    means = picture.reshape(4, cell, 4, cell, 3).mean((1, 3, 4)).ravel()
    return int(((means > 127).astype(int) << np.arange(BITS)).sum())


def write_video(
    path: Path,
    count: int,
    codec: str = "libx264",
    gop: int = 250,
    rate: int = 25,
    times: np.ndarray | None = None,
    audio: np.ndarray | None = None,
) -> Path:
    """``count`` numbered pictures, at ``times`` in milliseconds if given; and 16 kHz sound."""
    options = {"sc_threshold": "0"} if codec == "libx264" else {}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.gop_size, stream.bit_rate = "yuv420p", gop, 800_000
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        sound = None if audio is None else container.add_stream("aac", rate=RATE, layout="mono")
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(numbered_picture(i), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = int(times[i]), stream.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            frame = av.AudioFrame.from_ndarray(audio[None], format="fltp", layout="mono")
            frame.sample_rate = RATE
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


def write_clips(folder: Path, seconds: list[float], video: bool = False, **columns) -> Path:
    """A manifest of WAV clips, with a numbered video each if asked; ``columns`` are lists."""
    rows = []
    for i, duration in enumerate(seconds):
        waveform = noise(duration, seed=i)
        write_audio(folder / f"{i}.wav", waveform)
        row = {"id": f"clip{i}", "audio": f"{i}.wav", "n_frames": num_frames(len(waveform))}
        if video:
            write_video(folder / f"{i}.mp4", 30)
            row |= {"video": f"{i}.mp4", "video_frames": 30}
        rows.append(row | {name: values[i] for name, values in columns.items()})
    write_manifest(folder / "train.tsv", rows)
    return folder / "train.tsv"


def clips(folder: Path, seconds: list[float], **kwargs) -> Manifest:
    """:func:`write_clips`, read back."""
    return Manifest(write_clips(folder, seconds, **kwargs))


def words(*symbols: str) -> Dictionary:
    """fairseq's dictionary of these symbols."""
    dictionary = Dictionary()
    for symbol in symbols:
        dictionary.add_symbol(symbol)
    return dictionary
