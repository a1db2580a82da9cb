"""Speed and peak memory of ``mmpt-transcribe`` on long recordings.

    python -m examples.benchmark.transcription CHECKPOINT CLIP... [--minutes 1 10 60]

Concatenates the clips repeatedly into recordings of these lengths and transcribes each in a process
of its own. Real-time factor: wall time, start-up included, per second of audio.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from manifests.errors import InputError, command_line
from mmpt_fairseq.data.waveform import SAMPLE_RATE, read_waveform

PAUSE = SAMPLE_RATE // 2  # samples of near-silence between clips


@dataclass
class Measurement:
    """One run: seconds of audio, wall and CPU time, peak GB (1e9 bytes), words in the output."""

    audio: float
    wall: float
    cpu: float
    peak_gb: float
    words: int


def write_recording(path: Path, clips: list[Path], seconds: float) -> None:
    """Join clips with pauses to a recording of ``seconds``, block by block: it may last hours.

    Raises:
        UnreadableClip: a clip cannot be read.
    """
    pause = 1e-4 * np.random.default_rng(0).standard_normal(PAUSE)
    remaining = round(seconds * SAMPLE_RATE)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, channels=1, subtype="PCM_16") as file:
        while remaining > 0:
            for clip in clips:
                block = np.concatenate([read_waveform(str(clip)), pause])[:remaining]
                file.write(block)
                remaining -= len(block)


def measure(checkpoint: Path, recording: Path, options: list[str]) -> Measurement:
    """Run the command on one file and read the kernel's resource usage for it.

    Raises:
        InputError: the command failed; its last line says why.
    """
    command = [sys.executable, "-m", "mmpt_fairseq.transcription", checkpoint, recording, *options]
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen([str(part) for part in command], stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        out.seek(0)
        err.seek(0)
        if status:
            lines = err.read().decode().strip().splitlines()
            raise InputError(f"mmpt-transcribe failed: {lines[-1] if lines else status}")
        words = len(out.read().split())
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB on Linux
    return Measurement(
        audio=soundfile.info(recording).duration,
        wall=wall,
        cpu=usage.ru_utime + usage.ru_stime,
        peak_gb=usage.ru_maxrss * unit / 1e9,
        words=words,
    )


def main(arguments: list[str] | None = None) -> None:
    """Command-line entry point; prints a Markdown table."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.benchmark.transcription",
        description=__doc__.splitlines()[0],
        epilog="Other options, such as --decoding attention, are passed to mmpt-transcribe.",
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("clips", type=Path, nargs="+", metavar="CLIP")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60])
    args, options = parser.parse_known_args(arguments)
    print("| audio s | wall s | CPU s | real-time factor | peak GB | words |")
    print("|---|---|---|---|---|---|")
    with command_line(), tempfile.TemporaryDirectory() as folder:
        for minutes in args.minutes:
            recording = Path(folder) / "recording.wav"
            write_recording(recording, args.clips, 60 * minutes)
            m = measure(args.checkpoint, recording, options)
            print(
                f"| {m.audio:.0f} | {m.wall:.1f} | {m.cpu:.1f} | {m.wall / m.audio:.4f} "
                f"| {m.peak_gb:.2f} | {m.words} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
