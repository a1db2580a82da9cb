"""Data loading speed: seconds of clip per second of one core, for audio and for video frames.

    python -m examples.benchmark.pipeline data/pretrain/train.tsv

Every clip is read once beforehand, so that disk speed is not measured.
"""

import argparse
from collections.abc import Callable
from statistics import median

import numpy as np
from tqdm import tqdm

from examples.benchmark.timing import add_clock, machine, seconds
from manifests.errors import InputError, command_line
from mmpt_fairseq.data.audio import read_filterbank
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.video import read_frames, sample_frame_indices, transform_clip


def audio_reader(manifest: Manifest, row: int) -> Callable[[], object]:
    """Function that decodes one clip's audio and computes filterbanks."""
    return lambda: read_filterbank(manifest.resolve("audio", row))


def video_reader(
    manifest: Manifest, row: int, count: int, stride: int, size: int
) -> Callable[[], object]:
    """Function that decodes, crops and resizes a window of one clip, sampled anew at each call."""
    rng = np.random.default_rng(row)
    available = int(manifest.video_frames[row])

    def read() -> None:
        indices = sample_frame_indices(available, count, stride, rng)
        transform_clip(read_frames(manifest.resolve("video", row), indices), size, rng)

    return read


def read_times(
    manifest: Manifest, rows: list[int], args: argparse.Namespace
) -> dict[str, list[float]]:
    """Modality -> seconds for each clip that has it."""
    elapsed: dict[str, list[float]] = {"audio": [], "video": []}
    for row in tqdm(rows, desc="clips", leave=False):
        readers = {"audio": audio_reader(manifest, row)} if manifest.column("audio")[row] else {}
        if manifest.column("video")[row]:
            readers["video"] = video_reader(
                manifest, row, args.video_num_frames, args.video_stride, args.video_size
            )
        for name, read in readers.items():
            read()
            elapsed[name].append(median(seconds(read, args.clock) for _ in range(args.repeats)))
    return elapsed


def main() -> None:
    """Print the time per clip and the speed relative to real time."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.benchmark.pipeline", description=__doc__.splitlines()[0]
    )
    parser.add_argument("manifest")
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--video-num-frames", type=int, default=16)
    parser.add_argument("--video-stride", type=int, default=4)
    parser.add_argument("--video-size", type=int, default=224)
    add_clock(parser)
    args = parser.parse_args()
    with command_line():
        if args.clips < 1:
            raise InputError(f"--clips {args.clips} must be at least 1")
        manifest = Manifest(args.manifest, allow_video_only=True)
        rows = np.linspace(0, len(manifest) - 1, min(args.clips, len(manifest))).round()
        rows = sorted({int(row) for row in rows})
        elapsed = read_times(manifest, rows, args)
    length = 0.01 * float(np.mean(manifest.n_frames[rows]))
    print(f"{machine()}; {len(rows)} clips of {length:.1f} s on average")
    for name, times in elapsed.items():
        if times:
            print(
                f"{name}: {1000 * np.mean(times):.0f} ms per clip (median of {args.repeats} reads "
                f"each), {length / np.mean(times):.0f} times real time on one core"
            )


if __name__ == "__main__":
    main()
