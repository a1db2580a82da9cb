"""Miniature corpora in their released layouts, with real codecs and containers, and helpers."""

import csv
import struct
from importlib import import_module
from pathlib import Path

import av

from manifests.candidate import Candidate
from manifests.prepare import prepare
from manifests.recipe import Recipe, parse
from mmpt_fairseq.data.audio import num_frames
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.waveform import read_waveform, split_slice
from tests.helpers import noise, write_audio, write_video


def run(name: str, corpus: Path, out: Path, *options: str) -> dict:
    """Prepare a corpus in this process; returns the summary."""
    recipe = import_module(f"manifests.{name}").RECIPE
    return prepare(recipe, parse(recipe, [str(corpus), str(out), "--jobs", "1", *options]))


def candidates(*ids: str, split: str = "train", **kwargs) -> list[Candidate]:
    """Clips that differ only in their ids."""
    return [Candidate(id=name, split=split, **kwargs) for name in ids]


def run_candidates(clips: list[Candidate], folder: Path, *options: str, **kwargs) -> dict:
    """Prepare these clips into ``folder/out``, by a recipe with ``kwargs``."""
    recipe = Recipe("test", "made up", lambda args: iter(clips), **kwargs)
    arguments = [str(folder), str(folder / "out"), "--jobs", "1", *options]
    return prepare(recipe, parse(recipe, arguments))


def rows(path: Path) -> list[dict[str, str]]:
    """A manifest's rows, read as plain TSV after a check by :class:`Manifest`."""
    Manifest(path, allow_video_only=True)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def skipped(out: Path) -> dict[str, str]:
    """id -> reason, from ``skipped.tsv``."""
    with (out / "skipped.tsv").open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["id"]: row["reason"] for row in table}


def check_lengths(path: Path) -> None:
    """Check ``n_frames`` and ``video_frames`` against decoding."""
    manifest = Manifest(path, allow_video_only=True)
    for row in range(len(manifest)):
        audio = manifest.resolve("audio", row)
        if audio:
            samples = len(read_waveform(audio))
            assert manifest.n_frames[row] == num_frames(samples), manifest.where(row)
        video = manifest.resolve("video", row)
        if video:
            path, first, count = split_slice(video)
            with av.open(path) as container:
                decoded = sum(1 for _ in container.decode(video=0))
            assert first + max(0, count) <= decoded
            assert manifest.video_frames[row] == (decoded if count < 0 else count)


def make_audio(path: Path, seconds: float, seed: int = 0, **kwargs) -> Path:
    """Write noise in the audio format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_audio(path, noise(seconds, seed), **kwargs)


def make_video(path: Path, seconds: float = 1.0, silent: bool = False, seed: int = 0) -> Path:
    """Write an mp4 with H.264 and, unless ``silent``, AAC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = None if silent else noise(seconds, seed)
    return write_video(path, round(25 * seconds), audio=audio)


def m4a(path: Path, seconds: float) -> Path:
    """Write AAC alone, as in VoxCeleb2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(noise(seconds)[None], format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def truncated(path: Path, fraction: float = 0.5) -> Path:
    """Remove the file's end."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    return path


def empty(path: Path) -> Path:
    """Write a file of zero bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def text(path: Path, *lines: str, end: str = "\n") -> Path:
    """Write a text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def hidden(path: Path, seconds: float) -> Path:
    """A copy without the first seconds, as made by ``ffmpeg -ss SECONDS -c copy``.

    Packets from the preceding key frame on are kept, and an edit list hides them.
    """
    target = path.with_name(f"cut_{path.name}")
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        streams = {s.index: container.add_stream_from_template(s) for s in source.streams}
        source.seek(int(seconds * av.time_base))
        for packet in source.demux():
            if packet.dts is not None:
                start = round(seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts - start, packet.dts - start
                packet.stream = streams[packet.stream.index]
                container.mux(packet)
    return target


def turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """A copy with another matrix in its track header (ISO/IEC 14496-12, 8.3.2)."""
    data = path.read_bytes()
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    place = data.index(upright, data.index(b"tkhd"))
    a, b, c, d = (value << 16 for value in matrix)
    other = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target = path.with_name("turned.mp4")
    target.write_bytes(data[:place] + other + data[place + 36 :])
    return target
