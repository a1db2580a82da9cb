"""Runs fairseq's commands for the examples: logged, with a progress bar, resumed, never repeated.

A finished step leaves ``done.json`` in its folder with the command and the seconds it took; a
step whose command is the same is not run again, and an interrupted training goes on from its
last checkpoint.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from mmpt_fairseq.errors import InputError
from mmpt_fairseq.report.scores import score

BIN = Path(sys.executable).parent
# OpenMP threads that spin while they wait starve the loader's workers on a machine of few cores:
# measured on two, updates took up to four times as long.
QUIET_AND_PATIENT = {"PYTHONWARNINGS": "ignore", "OMP_WAIT_POLICY": "PASSIVE"}


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
        str(BIN / "fairseq-hydra-train"),
        "--config-dir",
        str(config),
        "--config-name",
        name,
        f"task.data={data}",
        f"checkpoint.save_dir={save_dir}",
        "common.log_format=json",
        "common.log_interval=5",
        *overrides,
    ]
    total = _override(overrides, "optimization.max_update")
    run_step(command, save_dir, total, interrupt_at)
    return save_dir / "checkpoint_best.pt"


def decode(
    checkpoint: Path, data: Path, split: str, results: Path, metric: str, options: Sequence[str]
) -> dict:
    """``fairseq-generate``, then its score against the manifest (every row or nothing)."""
    command = [
        str(BIN / "fairseq-generate"),
        str(data),
        "--user-dir",
        "mmpt_fairseq",
        "--task",
        "mmpt_speech_to_text",
        "--path",
        str(checkpoint),
        "--gen-subset",
        split,
        "--scoring",
        "sacrebleu" if metric == "bleu" else "wer",
        "--required-batch-size-multiple",
        "1",
        "--results-path",
        str(results),
        *options,
    ]
    run_step(command, results)
    return score(data / f"{split}.tsv", results / f"generate-{split}.txt", metric)


def run_step(
    command: Sequence[str],
    folder: Path,
    total: int | None = None,
    interrupt_at: int | None = None,
) -> float:
    """Run one command unless it is done; returns the seconds it took, over all attempts."""
    done, attempts = folder / "done.json", folder / "seconds.json"
    if done.is_file():
        record = json.loads(done.read_text())
        if record["command"] == list(command):
            return record["seconds"]
        raise InputError(
            f"{folder} holds the result of another command; move it away, or give another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    earlier = json.loads(attempts.read_text()) if attempts.is_file() else 0.0
    started = time.monotonic()
    print(f"$ {shlex.join(command)}", file=sys.stderr, flush=True)
    try:
        if interrupt_at and not list(folder.glob("checkpoint*.pt")):
            _run(command, folder, total, interrupt_at)
            print(f"killed after {interrupt_at} updates; going on", file=sys.stderr, flush=True)
        _run(command, folder, total)
    finally:
        seconds = earlier + time.monotonic() - started
        write_atomically(attempts, json.dumps(seconds))
    write_atomically(done, json.dumps({"command": list(command), "seconds": seconds}))
    attempts.unlink()
    return seconds


def seconds(folder: Path) -> float:
    """What the finished step in ``folder`` took."""
    return json.loads((folder / "done.json").read_text())["seconds"]


def write_atomically(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _run(
    command: Sequence[str], folder: Path, total: int | None, interrupt_at: int | None = None
) -> None:
    """Run to the end, or kill after an update beyond ``interrupt_at`` has been logged."""
    recent: deque[str] = deque(maxlen=15)
    bar = tqdm(total=total, desc=folder.name, unit="update" if total else "line", file=sys.stderr)
    with (folder / "log.txt").open("a", encoding="utf-8") as log, bar:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**QUIET_AND_PATIENT, **os.environ},
        )
        try:
            for line in process.stdout:
                log.write(line)
                recent.append(line)
                _advance(bar, line, total)
                if interrupt_at and bar.n > interrupt_at:
                    process.kill()
                    process.wait()
                    return
            code = process.wait()
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
    if code:
        sys.stderr.write("".join(recent))
        raise InputError(
            f"the command above failed with exit code {code}; see {folder / 'log.txt'}"
        )


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
        loss = entry.get("loss") or entry.get("train_loss")
        bar.set_postfix_str(f"loss {loss}", refresh=False)


def _override(overrides: Sequence[str], key: str) -> int | None:
    values = [o.split("=", 1)[1] for o in overrides if o.startswith(f"{key}=")]
    return int(values[-1]) if values else None
