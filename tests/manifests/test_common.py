"""Atomic files and parallel maps when processes are killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from manifests.common import atomic_path, parallel_stream, remove_stale
from manifests.errors import InputError


def test_only_partial_files_of_dead_processes_are_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    host = socket.gethostname().replace(".", "-")
    left = tmp_path / "deep" / f".clip.mp4.{host}.{dead.pid}.part"
    # A process with this id may be alive on another machine.
    others = tmp_path / "deep" / f".clip.mp4.elsewhere.{dead.pid}.part"
    left.parent.mkdir()
    left.touch()
    others.touch()
    with atomic_path(tmp_path / "deep" / "clip.mp4") as partial:
        partial.write_text("half")
        assert str(os.getpid()) in partial.name
        remove_stale(tmp_path)
        assert partial.exists()
        assert not left.exists()
        assert others.exists()
    assert (tmp_path / "deep" / "clip.mp4").read_text() == "half"


def test_a_pipe_or_a_device_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (
        pytest.raises(InputError, match="pipe is not a regular file"),
        atomic_path(tmp_path / "pipe") as partial,
    ):
        partial.touch()
    assert (tmp_path / "pipe").is_fifo()


def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\nfrom manifests.common import parallel_stream\n\n\n"
        "def work(item):\n    return os.getpid()\n\n\n"
        "if __name__ == '__main__':\n"
        "    items = (time.sleep(0.02) or i for i in range(10_000))\n"
        "    for _, worker in parallel_stream(work, items, 2, None):\n"
        "        print(worker, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        state = Path(f"/proc/{worker}/stat")
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("a worker waits for ever")


def die_at_seven(number):
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


@pytest.mark.parametrize("jobs", [1, 2])
def test_only_the_item_that_kills_its_process_is_lost(jobs):
    found = list(parallel_stream(die_at_seven, iter(range(9)), jobs, lambda number: None))
    assert found == [(n, None if n == 7 else n**2) for n in range(9)]


def test_results_do_not_accumulate():
    taken = []
    items = (taken.append(i) or i for i in range(60))
    for place, _ in parallel_stream(abs, items, 2, None):
        assert len(taken) <= place + 10
    assert len(taken) == 60
