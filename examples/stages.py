"""Runs fairseq's commands for the examples: logged, with a progress bar, resumed, never repeated.

A step writes what it is about, its command and a fingerprint of the files that it reads, to
``started.json`` in its folder, and ``done.json`` when it ends. A finished step is not run again;
an interrupted training goes on from its last checkpoint; a step that would mix with the results of
another command or of other files is refused.
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
# Models this small gain nothing from a second OpenMP thread: on two idle cores the demo's updates
# took 1.0 (stage 1), 1.2 (stage 2) and 1.7 times as long with two (stage 3, batches of 10 s).
# Where a user asks for more, threads that spin while they wait starve the loader's workers:
# measured on two cores, updates took up to four times as long.
COMMAND_ENVIRONMENT = {
    "PYTHONWARNINGS": "ignore",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}

Result = TypeVar("Result")
_alive: set[subprocess.Popen] = set()  # commands that run now
_stopped = threading.Event()  # no further command starts
_local = threading.local()  # `start`: how this thread starts commands


@contextlib.contextmanager
def exit_in_a_sentence() -> Iterator[None]:
    """End an example with one sentence where its input is at fault or someone stops it.

    ``kill`` stops it as Ctrl-C does: what it started would else train on without it.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with command_line("interrupted; the same command goes on from here"):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def popen(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen:
    """A command of this environment's, its output to be read line by line."""
    return subprocess.Popen(
        [_program(command[0]), *command[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=dict(environment),
    )


def side_by_side(
    steps: Sequence[Callable[[], Result]],
    jobs: int,
    start: Callable[[Sequence[str], Mapping[str, str]], subprocess.Popen] = popen,
) -> list[Result]:
    """The results of independent steps, ``jobs`` of them at a time.

    ``start`` is how their commands are started. When one step fails the others are stopped; all go
    on from their checkpoints when run again.
    """
    jobs = max(1, min(jobs, len(steps)))
    failures: list[BaseException] = []

    def stop() -> None:
        _stopped.set()
        for process in list(_alive):
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
        _stopped.clear()  # only now that no step runs any more
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
    """``fairseq-hydra-train`` with one of our configs; returns the best checkpoint.

    ``interrupt_at`` kills the training once after that update and starts it again, to show that
    it goes on.
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
    """``fairseq-generate``, then its score against the manifest (every row or nothing)."""
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
    """The files of a data folder that decide what is trained."""
    return sorted(p for p in data.iterdir() if p.suffix in (".tsv", ".yaml", ".txt", ".model"))


def run_step(
    command: Sequence[str],
    folder: Path,
    inputs: Sequence[Path] = (),
    total: int | None = None,
    interrupt_at: int | None = None,
    recipe: Path | None = None,
) -> None:
    """Run one command in its folder unless that is done.

    Args:
        inputs: files that it reads.
        total: updates that it makes, for the bar.
        interrupt_at: kill it once after that update.
        recipe: the config that it reads.

    Raises:
        InputError: the command failed, or the folder belongs to another command or other files.
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
        # What an earlier version did not write down cannot differ.
        if any(before.get(part, now) != now for part, now in identity.items()):
            differs = _difference(before["command"], identity["command"])
            raise InputError(f"{folder} was made {differs}; move it away to make it anew")
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
            print(f"killed after update {killed}, going on", file=sys.stderr, flush=True)
        _run(command, folder, total)
    finally:
        seconds = earlier + time.monotonic() - begin
        _write(started, {"identity": identity, "seconds": seconds})
    _write(done, {"seconds": seconds})


def _difference(before: Sequence[str], now: Sequence[str]) -> str:
    """What tells two runs of a step apart, for a sentence."""
    if list(before) == list(now):
        return "from other files"
    then, here = _options(before), _options(now)
    gone, new = ([x for x in a if x not in b] for a, b in ((then, here), (here, then)))
    told = [f"{when} {' '.join(x)}" for when, x in (("then", gone), ("now", new)) if x]
    return f"by another command ({', '.join(told)})" if told else "by another command"


def _options(command: Sequence[str]) -> list[str]:
    """The parts of a command, ``--minutes 30`` one of them."""
    parts: list[str] = []
    for word in command:
        valueless = parts and parts[-1].startswith("--") and " " not in parts[-1]
        if valueless and not word.startswith("-"):
            parts[-1] += f" {shlex.quote(word)}"
        else:
            parts.append(shlex.quote(word))
    return parts


def seconds(folder: Path) -> float:
    """What the finished step in ``folder`` took, over all attempts."""
    return json.loads((folder / "done.json").read_text())["seconds"]


@dataclass(frozen=True)
class Effort:
    """What a finished training spent: updates, and seconds as fairseq itself counts them.

    Those are seconds of training, validating and saving, over all attempts, without the start of
    the process and without what was lost when one was killed: what ``stop_time_hours`` compares.
    """

    updates: int
    seconds: float
    parameters: int


def effort(folder: Path) -> Effort:
    """Of the training in ``folder``, from its last checkpoint and its log."""
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
    """Run to the end, or kill after an update beyond ``interrupt_at``; returns the last update."""
    recent: deque[str] = deque(maxlen=15)
    unit = "update" if total else "line"
    with (
        (folder / "log.txt").open("a", encoding="utf-8") as log,
        tqdm(total=total, desc=folder.name, unit=unit, file=sys.stderr) as bar,
    ):
        process = getattr(_local, "start", popen)(command, _environment())
        _alive.add(process)
        if _stopped.is_set():  # since this step was started
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
            _alive.discard(process)
        updates = bar.n
    if interrupt_at:
        raise InputError(f"the command above ended before update {interrupt_at} could be seen")
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
    """Move the bar to the update that fairseq's JSON log speaks of."""
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
