"""What every corpus recipe needs: files that are whole or absent, and a parallel map with a bar."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from manifests.errors import InputError

# Workers are forked from a server that has read these and nothing of the calling process, so that
# they start in milliseconds and inherit no thread of it.
_WORKERS = multiprocessing.get_context("forkserver")
_READY = ["manifests.prepare", "soundfile", "av"]
_HOST = socket.gethostname().replace(".", "-")

SAMPLE_RATE = 16_000  # of what the models hear
Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A worker outlives its killed parent by a clip: the next run must not write the same file, nor
    # must another machine that shares the folder.
    partial = path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.part")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def remove_stale(folder: Path, deep: bool = True) -> None:
    """Remove what processes of this machine that are dead left half-written under `folder`."""
    for partial in folder.glob(f"{'**/' if deep else ''}.*.{_HOST}.*.part"):
        process = partial.name.split(".")[-2]
        if process.isdigit() and not Path(f"/proc/{process}").exists():
            partial.unlink(missing_ok=True)


def preload(module: str) -> None:
    """Let workers start with a module that is slow to import; before the first of them starts."""
    _READY.append(module)


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int, desc: str
) -> list[Result]:
    """`[function(item) for item in items]`, in `jobs` processes, with a bar on stderr.

    Raises:
        InputError: a worker was killed, as happens where memory runs out.
    """
    if not items:
        return []
    bar = {"total": len(items), "desc": desc, "unit": "clip", "smoothing": 0.05}
    try:
        with _pool(min(jobs, len(items))) as pool:
            return list(tqdm(pool.map(function, items, chunksize=4), **bar))
    except BrokenProcessPool:
        raise InputError(
            f"A process of {desc!r} was killed, perhaps for lack of memory; start again with fewer "
            "jobs, what is done stays done."
        ) from None


def parallel_stream(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    jobs: int,
    lost: Callable[[Item], Result],
) -> Iterator[tuple[Item, Result]]:
    """``(item, function(item))`` in order, of which a few are under way at any time.

    Unlike :func:`parallel_map` it neither knows how many items there are nor keeps them: memory
    does not grow with their number. One job has a process of its own too, which may die.

    Args:
        lost: the result for an item that kills its process even where it is alone, as a damaged
            file does that a decoder stumbles over.
    """
    feed, under_way = iter(items), deque()
    while True:
        with _pool(jobs) as pool, suppress(BrokenProcessPool):
            yield from _stream(function, feed, under_way, pool, 4 * jobs)
            return
        # One of those under way killed its process: each gets a process of its own.
        while under_way:
            item, _ = under_way.popleft()
            yield item, run_alone(function, item, lost)


def _stream(
    function: Callable[[Item], Result],
    feed: Iterator[Item],
    under_way: deque,
    pool: ProcessPoolExecutor,
    most: int,
) -> Iterator[tuple[Item, Result]]:
    """What the pool yields; ``under_way`` holds, at any moment, the items that it still owes."""
    for item in feed:
        under_way.append((item, None))
        under_way[-1] = (item, pool.submit(function, item))
        if len(under_way) > most:
            yield _first(under_way)
    while under_way:
        yield _first(under_way)


def _first(under_way: deque) -> tuple:
    """The first item and its result; it stays under way until it has one."""
    item, future = under_way[0]
    result = future.result()
    under_way.popleft()
    return item, result


def run_alone(
    function: Callable[[Item], Result], item: Item, lost: Callable[[Item], Result]
) -> Result:
    """``function(item)`` in a process of its own, or ``lost(item)`` where that process dies."""
    with _pool(1) as pool:
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            return lost(item)


def _start_worker() -> None:
    """In a worker: Ctrl-C is for the parent, and a parent that was killed takes its workers along.

    Workers of a killed parent would wait for work for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Workers that end with this process, however it ends."""
    _WORKERS.set_forkserver_preload(_READY)
    pool = ProcessPoolExecutor(jobs, _WORKERS, _start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
