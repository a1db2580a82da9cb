"""Run commands for the examples: in parallel, logged, with a progress bar, stopped together."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from manifests.errors import InputError, command_line

BIN = Path(sys.executable).parent
# One thread per training, as parallel trainings share the cores; small batches gain nothing from a
# second one (examples/demo/EXPERIMENTS.md, Speed). If a user sets more, spinning OpenMP threads
# starve the data loader's workers: with two cores, updates took up to four times as long.
COMMAND_ENVIRONMENT = {
    "PYTHONWARNINGS": "ignore",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}

Result = TypeVar("Result")
_running: set[subprocess.Popen] = set()
_stopped = threading.Event()  # when set, no further command starts
_local = threading.local()  # `start`: how this thread starts commands


@contextlib.contextmanager
def exit_with_one_line() -> Iterator[None]:
    """End an example with a one-line message on bad input, Ctrl-C or SIGTERM.

    SIGTERM is handled like Ctrl-C; otherwise the commands that were started would keep running.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with command_line("interrupted; run the same command again to resume"):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def popen(
    command: Sequence[str], environment: Mapping[str, str], inherited: Sequence[int] = ()
) -> subprocess.Popen:
    """Start a command of this Python environment with its output piped as text.

    Args:
        inherited: file descriptors that it inherits.
    """
    return subprocess.Popen(
        [_program(command[0]), *command[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=dict(environment),
        pass_fds=inherited,
    )


def run_parallel(
    steps: Sequence[Callable[[], Result]],
    jobs: int,
    start: Callable[..., subprocess.Popen] | None = None,
) -> list[Result]:
    """Run independent steps, ``jobs`` at a time, and return their results.

    ``start`` starts their commands, with the arguments of :func:`popen`. When a step fails, the
    others are stopped; all resume from their checkpoints when run again.
    """
    jobs = max(1, min(jobs, len(steps)))
    failures: list[BaseException] = []

    def stop() -> None:
        _stopped.set()
        for process in list(_running):
            process.terminate()

    def run(step: Callable[[], Result]) -> Result | None:
        _local.start = start
        try:
            return step()
        except BaseException as error:
            failures.append(error)
            stop()
            return None

    try:
        with ThreadPoolExecutor(jobs) as pool:
            try:
                results = list(pool.map(run, steps))
            except BaseException:  # Ctrl-C
                stop()
                raise
    finally:
        _stopped.clear()  # no step is running any more
    if failures:
        raise failures[0]
    return results


def raise_if_stopped() -> None:
    """Raise InputError if another step of :func:`run_parallel` has failed."""
    if _stopped.is_set():
        raise InputError("not started, because another step failed")


def run_logged(
    command: Sequence[str],
    folder: Path,
    total: int | None,
    interrupt_at: int | None = None,
    inherited: Sequence[int] = (),
) -> int:
    """Run to the end, or kill after an update beyond ``interrupt_at``; return the last update.

    The output is appended to ``log.txt`` in ``folder``.

    Args:
        total: number of updates, for the progress bar.
        inherited: file descriptors that the command inherits.

    Raises:
        InputError: the command failed.
    """
    recent: deque[str] = deque(maxlen=15)
    unit = "update" if total else "line"
    with (
        (folder / "log.txt").open("a", encoding="utf-8") as log,
        tqdm(total=total, desc=folder.name, unit=unit, file=sys.stderr) as bar,
    ):
        start = getattr(_local, "start", None) or popen
        process = start(command, _environment(), inherited=inherited)
        _running.add(process)
        if _stopped.is_set():  # after this step was started
            process.terminate()
        try:
            for line in process.stdout:
                log.write(line)
                recent.append(line)
                _advance(bar, line, total)
                if interrupt_at and bar.n > interrupt_at:
                    process.kill()
                    process.wait()
                    return bar.n
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            process.stdout.close()
            _running.discard(process)
        updates = bar.n
    if interrupt_at:
        raise InputError(f"the command above ended before update {interrupt_at} was reached")
    if code:
        sys.stderr.write("".join(recent))
        log = folder / "log.txt"
        raise InputError(f"the command above failed with exit code {code}; its output is in {log}")
    return updates


def _environment() -> dict[str, str]:
    return {**COMMAND_ENVIRONMENT, **os.environ}


def _program(name: str) -> str:
    return sys.executable if name == "python" else str(BIN / name)


def _advance(bar: tqdm, line: str, total: int | None) -> None:
    """Advance the bar to the update given in a line of fairseq's JSON log."""
    start = line.find('{"epoch"')
    if total is None or start < 0:
        return
    try:
        entry = json.loads(line[start:])
    except json.JSONDecodeError:
        return
    updates = int(entry.get("num_updates") or entry.get("train_num_updates") or 0)
    if updates > bar.n:
        bar.update(updates - bar.n)
        bar.set_postfix_str(f"loss {entry.get('loss') or entry.get('train_loss')}", refresh=False)
