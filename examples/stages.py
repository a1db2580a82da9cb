"""Run fairseq's commands for the examples: logged, with a progress bar, resumable, never repeated.

A step writes its identity, the command and a fingerprint of the files that it reads, to
``started.json`` in its folder, and ``done.json`` when it finishes. A finished step is not run
again; an interrupted training resumes from its last checkpoint; a folder with results of a
different command or of different files is rejected.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from manifests.common import atomic_path
from manifests.errors import InputError, command_line
from mmpt_fairseq.fingerprint import fingerprint
from mmpt_fairseq.report.scores import score

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


def popen(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen:
    """Start a command of this Python environment with its output piped as text."""
    return subprocess.Popen(
        [_program(command[0]), *command[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=dict(environment),
    )


def run_parallel(
    steps: Sequence[Callable[[], Result]],
    jobs: int,
    start: Callable[[Sequence[str], Mapping[str, str]], subprocess.Popen] = popen,
) -> list[Result]:
    """Run independent steps, ``jobs`` at a time, and return their results.

    ``start`` starts their commands. When a step fails, the others are stopped; all resume from
    their checkpoints when run again.
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


def train(
    config: Path,
    name: str,
    data: Path,
    save_dir: Path,
    overrides: Sequence[str] = (),
    interrupt_at: int | None = None,
) -> Path:
    """Run ``fairseq-hydra-train`` with one of our configs; return the best checkpoint.

    ``interrupt_at`` kills the training once after that update and restarts it, to show that it
    resumes.
    """
    command = [
        "fairseq-hydra-train",
        *("--config-dir", str(config), "--config-name", name),
        f"task.data={data}",
        f"checkpoint.save_dir={save_dir}",
        "common.log_format=json",
        "common.log_interval=5",
        *overrides,
    ]
    total = _override(overrides, "optimization.max_update")
    recipe = config / f"{name}.yaml"
    run_step(command, save_dir, [*data_files(data)], total, interrupt_at, recipe)
    return save_dir / "checkpoint_best.pt"


def decode(
    checkpoint: Path, data: Path, split: str, results: Path, metric: str, options: Sequence[str]
) -> dict:
    """Run ``fairseq-generate`` and score its output, which must cover every row of the manifest."""
    command = [
        "fairseq-generate",
        str(data),
        *("--user-dir", "mmpt_fairseq", "--task", "mmpt_speech_to_text"),
        *("--path", str(checkpoint), "--gen-subset", split),
        *("--scoring", "sacrebleu" if metric == "bleu" else "wer"),
        *("--results-path", str(results)),
        *options,
    ]
    run_step(command, results, [checkpoint, data / f"{split}.tsv"])
    return score(data / f"{split}.tsv", results / f"generate-{split}.txt", metric)


def data_files(data: Path) -> list[Path]:
    """The files of a data folder that affect training."""
    return sorted(p for p in data.iterdir() if p.suffix in (".tsv", ".yaml", ".txt", ".model"))


def run_step(
    command: Sequence[str],
    folder: Path,
    inputs: Sequence[Path] = (),
    total: int | None = None,
    interrupt_at: int | None = None,
    recipe: Path | None = None,
) -> None:
    """Run one command in its folder unless it has already finished there.

    Args:
        inputs: files that the command reads.
        total: number of updates, for the progress bar.
        interrupt_at: kill the command once after that update, then run it again.
        recipe: the config that the command reads.

    Raises:
        InputError: the command failed, or the folder is of a different command or different files.
    """
    if _stopped.is_set():
        raise InputError("not started, because another step failed")
    inputs = [
        *inputs,
        *(Path(v) for v in _values(command, "model.init_encoder_from") if v != "null"),
    ]
    identity = {"command": list(command), "inputs": fingerprint(inputs)}
    if recipe is not None:
        identity["recipe"] = fingerprint([recipe])
    started, done = folder / "started.json", folder / "done.json"
    if started.is_file():
        before = json.loads(started.read_text())["identity"]
        # Parts that an earlier version did not record count as equal.
        if any(before.get(part, now) != now for part, now in identity.items()):
            difference = _difference(before["command"], identity["command"])
            raise InputError(f"{folder} was created {difference}; move it away to run it again")
        if done.is_file():
            return
    folder.mkdir(parents=True, exist_ok=True)
    earlier = json.loads(started.read_text())["seconds"] if started.is_file() else 0.0
    _write(started, {"identity": identity, "seconds": earlier})
    begin = time.monotonic()
    print(f"$ {shlex.join(command)}", file=sys.stderr, flush=True)
    try:
        if interrupt_at and not list(folder.glob("checkpoint*.pt")):
            killed = _run(command, folder, total, interrupt_at)
            print(f"killed after update {killed}, resuming", file=sys.stderr, flush=True)
        _run(command, folder, total)
    finally:
        seconds = earlier + time.monotonic() - begin
        _write(started, {"identity": identity, "seconds": seconds})
    _write(done, {"seconds": seconds})


def _difference(before: Sequence[str], now: Sequence[str]) -> str:
    """Describe how two runs of a step differ, for use in a message."""
    if list(before) == list(now):
        return "from different files"
    then, here = _options(before), _options(now)
    removed, added = ([x for x in a if x not in b] for a, b in ((then, here), (here, then)))
    changes = [f"{when} {' '.join(x)}" for when, x in (("then", removed), ("now", added)) if x]
    return f"by a different command ({', '.join(changes)})" if changes else "by a different command"


def _options(command: Sequence[str]) -> list[str]:
    """Split a command into words, keeping an option with its value together (``--minutes 30``)."""
    parts: list[str] = []
    for word in command:
        valueless = parts and parts[-1].startswith("--") and " " not in parts[-1]
        if valueless and not word.startswith("-"):
            parts[-1] += f" {shlex.quote(word)}"
        else:
            parts.append(shlex.quote(word))
    return parts


def seconds(folder: Path) -> float:
    """Duration of the finished step in ``folder``, summed over all attempts."""
    return json.loads((folder / "done.json").read_text())["seconds"]


@dataclass(frozen=True)
class Effort:
    """Cost of a finished training: updates, seconds as counted by fairseq, and model parameters.

    The seconds are those that ``stop_time_hours`` compares: training, validation and saving over
    all attempts, without process startup and without progress lost when a process was killed.
    """

    updates: int
    seconds: float
    parameters: int


def effort(folder: Path) -> Effort:
    """Read the cost of the training in ``folder`` from its last checkpoint and its log."""
    from mmpt_fairseq.checkpoint import load_checkpoint, updates_of

    state = load_checkpoint(folder / "checkpoint_last.pt")
    log = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    parameters = re.findall(r"num\. shared model params: ([\d,]+)", log)
    return Effort(
        updates=updates_of(state),
        seconds=float(state["extra_state"]["previous_training_time"]),
        parameters=int(parameters[-1].replace(",", "")),
    )


def _write(path: Path, content: object) -> None:
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _run(
    command: Sequence[str], folder: Path, total: int | None, interrupt_at: int | None = None
) -> int:
    """Run to the end, or kill after an update beyond ``interrupt_at``; return the last update."""
    recent: deque[str] = deque(maxlen=15)
    unit = "update" if total else "line"
    with (
        (folder / "log.txt").open("a", encoding="utf-8") as log,
        tqdm(total=total, desc=folder.name, unit=unit, file=sys.stderr) as bar,
    ):
        process = getattr(_local, "start", popen)(command, _environment())
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


def _values(command: Sequence[str], key: str) -> list[str]:
    return [part.split("=", 1)[1] for part in command if part.startswith(f"{key}=")]


def _override(overrides: Sequence[str], key: str) -> int | None:
    values = _values(overrides, key)
    return int(values[-1]) if values else None
