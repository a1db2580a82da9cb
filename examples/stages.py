"""Run fairseq's commands for the examples: logged, with a progress bar, resumable, never repeated.

A step writes its identity, the command and a fingerprint of the files that it reads, to
``started.json`` in its folder, and ``done.json`` when it finishes. A finished step is not run
again; an interrupted training resumes from its last checkpoint; a folder with results of a
different command or of different files is rejected.
"""

import contextlib
import json
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from examples.processes import raise_if_stopped, run_logged
from manifests.common import atomic_path, lock
from manifests.errors import InputError
from mmpt_fairseq.fingerprint import fingerprint
from mmpt_fairseq.report.scores import score

START_KEYS = ("model.init_encoder_from", "+model.init_decoder_from")


def train(
    config: Path,
    name: str,
    data: Path,
    save_dir: Path,
    overrides: Sequence[str] = (),
    interrupt_at: int | None = None,
    inputs: Sequence[Path] = (),
) -> Path:
    """Run ``fairseq-hydra-train`` with one of our configs; return the best checkpoint.

    Args:
        overrides: of the config; those with paths are written by :func:`path_override`.
        interrupt_at: kill the training once after that update and restart it, to show that it
            resumes.
        inputs: files that it reads beside the data and the checkpoints that it starts from.
    """
    command = [
        "fairseq-hydra-train",
        *("--config-dir", str(config), "--config-name", name),
        path_override("task.data", data),
        path_override("checkpoint.save_dir", save_dir),
        "common.log_format=json",
        "common.log_interval=5",
        *overrides,
    ]
    updates = _values(overrides, "optimization.max_update")
    total = updates[-1] if updates else None
    starts = (Path(v) for key in START_KEYS for v in _values(command, key) if v is not None)
    files = [*data_files(data), *dict.fromkeys(starts)]
    others = {"config": config_files(config, name), "others": inputs}
    run_step(command, save_dir, files, total, interrupt_at, others)
    return save_dir / "checkpoint_best.pt"


def path_override(key: str, path: str | Path) -> str:
    """``key=path`` for Hydra, quoted if its grammar gives a character of the path a meaning."""
    plain = f"{key}={path}"
    with contextlib.suppress(HydraException):
        if OverridesParser.create().parse_override(plain).value() in (str(path), None):
            return plain
    # Backslashes are literal, but for those before a quote.
    escaped = re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + (m[2] and "\\'"), str(path))
    return f"{key}='{escaped}'"


def config_files(folder: Path, name: str) -> list[Path]:
    """The YAML files that a config is composed of, by its defaults lists."""
    path = folder / f"{name}.yaml"
    found = [path]
    for entry in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("defaults", []):
        groups = entry.items() if isinstance(entry, dict) else [("", entry)]
        for group, option in groups:
            if (path.parent / group / f"{option}.yaml").is_file():
                found += config_files(path.parent / group, option)
    return found


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
    others: Mapping[str, Sequence[Path]] | None = None,
) -> None:
    """Run one command in its folder unless it has already finished there.

    Args:
        inputs: files that the command reads.
        total: number of updates, for the progress bar.
        interrupt_at: kill the command once after that update, then run it again.
        others: further files that it reads, by names under which they are recorded.

    Raises:
        InputError: the command failed; the folder is of a different command or different files, or
            another process is running it.
    """
    raise_if_stopped()
    identity = {"command": list(command), "inputs": fingerprint(inputs)}
    for name, files in (others or {}).items():
        identity |= {name: fingerprint(files)} if files else {}
    if not _is_finished(folder, identity):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("a") as file:
            lock(file, folder)
            # The command inherits the lock, and keeps it if this process is killed.
            _run(command, folder, identity, total, interrupt_at, file.fileno())


def _is_finished(folder: Path, identity: dict) -> bool:
    """Whether a step has finished; raise InputError if a different one began in its folder."""
    started, done = folder / "started.json", folder / "done.json"
    if started.is_file():
        before = json.loads(started.read_text())["identity"]
        # Parts that an earlier version did not record count as equal.
        if any(before.get(part, now) != now for part, now in identity.items()):
            difference = _difference(before["command"], identity["command"])
            raise InputError(f"{folder} was created {difference}; move it away to run it again")
    return started.is_file() and done.is_file()


def _run(
    command: Sequence[str],
    folder: Path,
    identity: dict,
    total: int | None,
    interrupt_at: int | None,
    lock_file: int,
) -> None:
    """Run a step's command, timed over all attempts; it inherits ``lock_file``."""
    started, done = folder / "started.json", folder / "done.json"
    earlier = json.loads(started.read_text())["seconds"] if started.is_file() else 0.0
    _write(started, {"identity": identity, "seconds": earlier})
    begin = time.monotonic()
    print(f"$ {shlex.join(command)}", file=sys.stderr, flush=True)
    try:
        if interrupt_at and not list(folder.glob("checkpoint*.pt")):
            killed = run_logged(command, folder, total, interrupt_at, inherited=[lock_file])
            print(f"killed after update {killed}, resuming", file=sys.stderr, flush=True)
        run_logged(command, folder, total, inherited=[lock_file])
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


def _values(overrides: Sequence[str], key: str) -> list:
    """The values of all overrides of a key, as Hydra reads them."""
    parser = OverridesParser.create()
    chosen = (word for word in overrides if word.startswith(f"{key}="))
    return [parser.parse_override(word).value() for word in chosen]
