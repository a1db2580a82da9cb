"""Speed of writing and reading manifests.

    python -m examples.benchmark.manifests [--files DIR] [--rows 1000000] [--clips 20000]

Measures, on one core: files inspected per second (by type, as `python -m manifests.folder` does it;
videos also as when their subtitle cues become segments); the overhead per clip, beyond its file, in
the one process that distributes the work and writes manifests; and, for a manifest of ``--rows``
rows, the seconds to open it, its memory in a process, the bytes sent to a spawned loader worker
and the time per row there. Times are CPU time, so that other load does not distort them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import pickle
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from manifests.candidate import Candidate
from manifests.recording import inspect
from manifests.tree import AUDIO_SUFFIXES, VIDEO_SUFFIXES

MAX_FILES = 400  # of each type


def inspection(folder: Path) -> dict[str, dict[str, float]]:
    """Suffix -> files per second and speed relative to real time, of readable files."""
    by_suffix: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if (
            path.suffix in AUDIO_SUFFIXES | VIDEO_SUFFIXES
            and len(by_suffix[path.suffix]) < MAX_FILES
        ):
            by_suffix[path.suffix].append(path)
    figures = {}
    for suffix, paths in by_suffix.items():
        figures[suffix] = _inspection_speed(paths, timed=False)
        if suffix in VIDEO_SUFFIXES:
            figures[f"{suffix}, in segments"] = _inspection_speed(paths, timed=True)
    return figures


def _inspection_speed(paths: list[Path], timed: bool) -> dict[str, float]:
    inspect(str(paths[0]))  # warm-up: triggers the lazy imports
    inspect.cache_clear()
    start, seconds, readable = time.process_time(), 0.0, 0
    for path in paths:
        found = inspect(str(path), timed=timed)
        if found.rate:
            seconds, readable = seconds + found.samples / found.rate, readable + 1
    elapsed = time.process_time() - start
    return {
        "files": readable,
        "files per second": round(readable / elapsed, 1),
        "times real time": round(seconds / elapsed),
    }


def dispatch_cost(folder: Path, clips: int) -> dict[str, float]:
    """Microseconds per clip in this process, not counting the workers."""
    from manifests.prepare import prepare
    from manifests.recipe import Recipe, parse

    for name in "ab":
        soundfile.write(folder / f"{name}.wav", np.zeros(8000), 16_000)

    def candidates(args: argparse.Namespace) -> Iterator[Candidate]:
        for i in range(args.offered):
            name, path = f"id{i % 6000:05d}/abcdefghijk/{i:07d}", str(folder / f"{'ab'[i % 2]}.wav")
            yield Candidate(name, "train", path, source=name, columns={"speaker": name[:7]})

    def add_options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--offered", type=int)

    recipe, costs = Recipe("test", "made up", candidates, add_options), {}
    for offered in (10, clips, clips):  # first: imports; second: inspects the files; third: resumes
        out = folder / f"out{offered}"
        args = [str(folder), str(out), "--jobs", "1", "--offered", str(offered)]
        start = time.process_time()
        prepare(recipe, parse(recipe, args))
        label = "resumed" if "first" in costs else "first"
        if offered > 10:
            costs[label] = round(1e6 * (time.process_time() - start) / offered, 1)
    return {f"microseconds per clip, {label} run": cost for label, cost in costs.items()}


def write_rows(path: Path, rows: int) -> None:
    """Write a manifest with rows like VoxCeleb2's."""
    from mmpt_fairseq.data.manifest import write_manifest

    def row(i: int) -> dict:
        clip = f"/data/VoxCeleb2/dev/mp4/id{i % 6000:05d}/abcdefghijk/{i:07d}.mp4"
        return {
            "id": f"id{i % 6000:05d}/abcdefghijk/{i:07d}",
            "audio": clip,
            "n_frames": 400 + i % 600,
            "speaker": f"id{i % 6000:05d}",
            "video": clip,
            "video_frames": 100 + i % 150,
        }

    write_manifest(path, (row(i) for i in range(rows)))


def reading_cost(path: Path) -> dict[str, float]:
    """Time and memory of a manifest in this process and in a worker."""
    from mmpt_fairseq.data.manifest import Manifest

    before, start = private_bytes(), time.process_time()
    manifest = Manifest(path)
    opened, after = time.process_time() - start, private_bytes()
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=read_rows, args=(manifest, sender))
    worker.start()
    answer = receiver.recv()
    worker.join()
    return {
        "rows": len(manifest),
        "file, bytes": path.stat().st_size,
        "CPU seconds to open": round(opened, 2),
        "private bytes of the process": after - before,
        "bytes sent to a worker": len(pickle.dumps(manifest)),
        "worker, bytes it takes": answer["bytes"],
        "worker, microseconds per row": answer["microseconds"],
    }


def read_rows(manifest, sender) -> None:
    """Run in the worker: read evenly spaced rows and send their cost."""
    rows = range(0, len(manifest), max(1, len(manifest) // 2000))
    start = time.process_time()
    for row in rows:
        manifest.resolve("audio", row)
    elapsed = time.process_time() - start
    arrays = (value for value in vars(manifest).values() if hasattr(value, "nbytes"))
    sender.send(
        {
            "bytes": sum(array.nbytes for array in arrays),
            "microseconds": round(1e6 * elapsed / len(rows), 1),
        }
    )


def private_bytes() -> int:
    """Private dirty memory of this process in bytes."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(x.split()[1]) for x in lines if x.startswith("Private_Dirty"))


def main() -> None:
    """Command-line entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.benchmark.manifests", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--files", type=Path, help="folder of recordings to inspect")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--clips", type=int, default=20_000, help="clips to pass to a worker")
    args = parser.parse_args()
    figures = {}
    if args.files:
        figures["inspection"] = inspection(args.files)
    with tempfile.TemporaryDirectory() as folder:
        figures["dispatching"] = dispatch_cost(Path(folder), args.clips)
        path = Path(folder, "train.tsv")
        write_rows(path, args.rows)
        figures["reading"] = reading_cost(path)
    json.dump(figures, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
