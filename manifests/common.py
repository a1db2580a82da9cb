"""Helpers shared by all corpus recipes: atomic file writes and parallel maps with progress bars."""

from __future__ import annotations

import fcntl
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
from typing import IO, TypeVar

from tqdm import tqdm

from manifests.errors import InputError

# Workers are forked from a server that has imported these modules and holds nothing of the calling
# process: they start in milliseconds and inherit none of its threads.
_WORKERS = multiprocessing.get_context("forkserver")
_PRELOADED = ["manifests.prepare", "soundfile", "av"]
_HOST = socket.gethostname().replace(".", "-")

SAMPLE_RATE = 16_000  # Hz, of the models' input
Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to `path` unless the block raises an error.

    Raises:
        InputError: `path` is a device or a pipe, which renaming would replace.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is not a regular file; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    # A worker outlives its killed parent by one clip: neither the next run nor another machine that
    # shares the folder may write the same file.
    partial = path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.part")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def remove_stale(folder: Path, deep: bool = True) -> None:
    """Remove partial files left under `folder` by dead processes of this machine."""
    for partial in folder.glob(f"{'**/' if deep else ''}.*.{_HOST}.*.part"):
        process = partial.name.split(".")[-2]
        if process.isdigit() and not Path(f"/proc/{process}").exists():
            partial.unlink(missing_ok=True)


def lock(file: IO, path: Path) -> None:
    """Lock an open file until it is closed; some network file systems do not support locks.

    Raises:
        InputError: another process has locked it; the message names ``path``.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"another process is writing {path}; wait for it, or end it") from None
    except OSError:
        pass


def preload(module: str) -> None:
    """Preload a slow-to-import module in the workers; call it before the first worker starts."""
    _PRELOADED.append(module)


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int, desc: str
) -> list[Result]:
    """`[function(item) for item in items]` in `jobs` processes, with a progress bar on stderr.

    Raises:
        InputError: a worker was killed, for example because memory ran out.
    """
    if not items:
        return []
    bar = {"total": len(items), "desc": desc, "unit": "clip", "smoothing": 0.05}
    try:
        with _pool(min(jobs, len(items))) as pool:
            return list(tqdm(pool.map(function, items, chunksize=4), **bar))
    except BrokenProcessPool:
        raise InputError(
            f"A worker of {desc!r} was killed, possibly for lack of memory; run again with fewer "
            "jobs, finished work is kept."
        ) from None


def parallel_stream(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    jobs: int,
    lost: Callable[[Item], Result],
) -> Iterator[tuple[Item, Result]]:
    """Yield ``(item, function(item))`` in order, with only a few items in flight at any time.

    Unlike :func:`parallel_map`, it neither knows nor stores all items: memory does not grow with
    their number. Even with one job the work runs in a separate process, which may crash.

    Args:
        lost: result for an item that kills its process even when run alone, such as a damaged file
            that crashes a decoder.
    """
    feed, in_flight = iter(items), deque()
    while True:
        with _pool(jobs) as pool, suppress(BrokenProcessPool):
            yield from _stream(function, feed, in_flight, pool, 4 * jobs)
            return
        # One of the items in flight killed its process: run each in a separate process.
        while in_flight:
            item, _ = in_flight.popleft()
            yield item, run_alone(function, item, lost)


def _stream(
    function: Callable[[Item], Result],
    feed: Iterator[Item],
    in_flight: deque,
    pool: ProcessPoolExecutor,
    limit: int,
) -> Iterator[tuple[Item, Result]]:
    """Yield the pool's results; ``in_flight`` always holds the items without a result yet."""
    for item in feed:
        in_flight.append((item, None))
        in_flight[-1] = (item, pool.submit(function, item))
        if len(in_flight) > limit:
            yield _pop_first(in_flight)
    while in_flight:
        yield _pop_first(in_flight)


def _pop_first(in_flight: deque) -> tuple:
    """The first item and its result; it stays in ``in_flight`` until the result is there."""
    item, future = in_flight[0]
    result = future.result()
    in_flight.popleft()
    return item, result


def run_alone(
    function: Callable[[Item], Result], item: Item, lost: Callable[[Item], Result]
) -> Result:
    """``function(item)`` in a separate process, or ``lost(item)`` if that process dies."""
    with _pool(1) as pool:
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            return lost(item)


def _start_worker() -> None:
    """Set up a worker: ignore Ctrl-C, which is for the parent, and exit when the parent dies.

    Otherwise the workers of a killed parent would wait for work forever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of workers that end with this process, however it ends."""
    _WORKERS.set_forkserver_preload(_PRELOADED)
    pool = ProcessPoolExecutor(jobs, _WORKERS, _start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
