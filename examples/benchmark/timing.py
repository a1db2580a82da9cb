"""Time two functions in alternation, so that load on the machine affects both alike."""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from tqdm import tqdm

from mmpt_fairseq.report.configs import processor

Clock = Callable[[], float]


@dataclass
class Paired:
    """Medians over the pairs.

    Attributes:
        first, second: seconds.
        ratio: median over the pairs of ``first`` / ``second``.
    """

    first: float
    second: float
    ratio: float


def paired(
    first: Callable[[], object],
    second: Callable[[], object],
    pairs: int,
    label: str,
    clock: Clock = time.perf_counter,
) -> Paired:
    """Run both alternately ``pairs`` times, after one untimed warm-up each."""
    times = []
    for pair in tqdm(range(pairs + 1), desc=label, leave=False):
        # The order alternates too: the one that runs second may find warm caches.
        order = (first, second) if pair % 2 else (second, first)
        elapsed = {function: seconds(function, clock) for function in order}
        if pair:
            times.append((elapsed[first], elapsed[second]))
    return Paired(
        median(a for a, _ in times), median(b for _, b in times), median(a / b for a, b in times)
    )


def seconds(function: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Time of one call by ``clock``, including the GPU work that it launched."""
    synchronise()
    start = clock()
    function()
    synchronise()
    return clock() - start


def add_clock(parser: argparse.ArgumentParser) -> None:
    """Add ``--cpu-time``, which excludes what other processes use."""
    parser.add_argument(
        "--cpu-time",
        dest="clock",
        action="store_const",
        const=time.process_time,
        default=time.perf_counter,
        help="measure CPU time of all threads instead of wall-clock time, for a shared machine",
    )


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Add ``--dtype``."""
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")


def synchronise() -> None:
    """Wait for the GPU to finish, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine() -> str:
    """CPU, GPU, threads, load and torch version, to print with every result."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{processor()}{gpu}, {torch.get_num_threads()} threads of {os.cpu_count()}, "
        f"load {os.getloadavg()[0]:.1f}, torch {torch.__version__}"
    )
