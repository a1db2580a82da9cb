"""Two things timed against each other: in alternation, so that both meet the same machine."""

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
        ratio: of ``first`` to ``second``, the median of the pairs' own ratios.
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
    """Run both ``pairs`` times, in turn, after one run each that is not counted."""
    times = []
    for pair in tqdm(range(pairs + 1), desc=label, leave=False):
        # Which comes first changes too: the second may find the caches warm.
        order = (first, second) if pair % 2 else (second, first)
        taken = {function: seconds(function, clock) for function in order}
        if pair:
            times.append((taken[first], taken[second]))
    return Paired(
        median(a for a, _ in times), median(b for _, b in times), median(a / b for a, b in times)
    )


def seconds(function: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Time of one call by ``clock``, on a GPU to its very end."""
    synchronise()
    start = clock()
    function()
    synchronise()
    return clock() - start


def add_clock(parser: argparse.ArgumentParser) -> None:
    """The option to count what others on the machine take no part in."""
    parser.add_argument(
        "--cpu-time",
        dest="clock",
        action="store_const",
        const=time.process_time,
        default=time.perf_counter,
        help="time of all threads on the processor, not by the wall clock: for a shared machine",
    )


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """The option to choose a precision."""
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")


def synchronise() -> None:
    """Wait for what a GPU was told to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine() -> str:
    """Processor, threads, load and versions, to stand beside every figure."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{processor()}{gpu}, {torch.get_num_threads()} threads of {os.cpu_count()}, "
        f"load {os.getloadavg()[0]:.1f}, torch {torch.__version__}"
    )
