"""What every corpus recipe needs: files that are whole or absent, and a parallel map with a bar."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


class CorpusError(RuntimeError):
    """A corpus cannot be prepared; the message is one sentence for the user."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A worker outlives its killed parent by a clip: the next run must not write the same file.
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def remove_stale(folder: Path) -> None:
    """Remove what processes of this machine that are dead left half-written under `folder`."""
    for partial in folder.rglob(".*.part"):
        process = partial.name.split(".")[-2]
        if process.isdigit() and not Path(f"/proc/{process}").exists():
            partial.unlink(missing_ok=True)


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int, desc: str
) -> list[Result]:
    """`[function(item) for item in items]`, in `jobs` processes, with a bar on stderr."""
    return list(parallel_imap(function, items, jobs, desc))


def parallel_imap(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int, desc: str
) -> Iterator[Result]:
    """The results of :func:`parallel_map` one by one, in order, as they come.

    Workers are spawned, so that they inherit no thread or library of the calling process.

    Raises:
        CorpusError: a worker was killed, as happens where memory runs out.
    """
    if not items:
        return
    bar = {"total": len(items), "desc": desc, "unit": "clip", "smoothing": 0.05}
    with _pool(min(jobs, len(items)), desc) as pool:
        yield from tqdm(pool.map(function, items, chunksize=4), **bar)


def parallel_stream(
    function: Callable[[Item], Result], items: Iterable[Item], jobs: int, desc: str
) -> Iterator[tuple[Item, Result]]:
    """``(item, function(item))`` in order, of which a few are under way at any time.

    Unlike :func:`parallel_imap` it neither knows how many items there are nor keeps them: memory
    does not grow with their number. One job stays in this process.

    Raises:
        CorpusError: a worker was killed.
    """
    if jobs == 1:
        yield from ((item, function(item)) for item in items)
        return
    with _pool(jobs, desc) as pool:
        under_way: deque = deque()
        for item in items:
            under_way.append((item, pool.submit(function, item)))
            if len(under_way) > 4 * jobs:
                item, future = under_way.popleft()
                yield item, future.result()
        for item, future in under_way:
            yield item, future.result()


@contextmanager
def _pool(jobs: int, desc: str) -> Iterator[ProcessPoolExecutor]:
    """Spawned workers that Ctrl-C does not reach: it is for this process, which ends them."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, signal.signal, (signal.SIGINT, signal.SIG_IGN))
    try:
        yield pool
    except BrokenProcessPool:
        raise CorpusError(
            f"A process of {desc!r} was killed, perhaps for lack of memory; start again with fewer "
            "jobs, what is done stays done."
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
