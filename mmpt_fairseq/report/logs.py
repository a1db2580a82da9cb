"""A training's log as curves: what ``fairseq-hydra-train`` leaves in its folder, of any attempt.

Hydra's ``hydra_train.log`` and the ``log.txt`` of our examples are read, with fairseq's progress
lines in JSON (``common.log_format=json``) or in its simple format. A training that was resumed has
several attempts in one log; where two speak of the same update, the later one is right.
"""

import ast
import json
import math
import re
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

NAMES = ("hydra_train.log", "log.txt")
TAIL = 12  # last lines kept
# [2026-11-23 06:17:33,514][train_inner][INFO] - message      (Hydra)
# 2026-11-23 06:17:33 | INFO | train_inner | message            (fairseq)
_STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
_HYDRA = re.compile(rf"\[({_STAMP})(?:,\d+)?\]\[([^\]]+)\]\[[A-Z]+\] - (.*)$")
_FAIRSEQ = re.compile(rf"({_STAMP}) \| [A-Z]+ \| ([^|]+) \| (.*)$")
_OURS, _ERROR = re.compile("mmpt_fairseq: "), re.compile(r"[\w.]*(Error|Exception)\b")
_FAULT = re.compile(r"Traceback \(most recent call last\)|Error executing job|mmpt_fairseq: ")
TRAIN = ("train_inner", "train")

Curve = dict[int, float]  # update -> value


@dataclass
class TrainingLog:
    """One training over all its attempts.

    Attributes:
        path: the file it was read from.
        cfg: the config of the last attempt as fairseq printed it, or None.
        command: what was typed to start the last attempt, or None.
        attempts: how often it was started.
        curves: tag (``train_inner``: means since the last line, ``train``: over an epoch, or the
            name of a validation split), then metric, to values by update.
        updates: the last update that the log speaks of.
        finished: whether the last attempt ended by itself.
        fault: whether it ended with a traceback or a sentence of ours.
        began: whether any attempt got as far as training.
        refused: what a last attempt said that did not, after one that did; config, command and end
            are then those of the one before. None where there was no such attempt.
        seconds: from first to last line, summed over attempts.
        ended: the time of the last line.
        tail: the last lines, without a torn one.
    """

    path: Path
    cfg: dict | None = None
    command: str | None = None
    attempts: int = 0
    curves: dict[str, dict[str, Curve]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    updates: int = 0
    finished: bool = False
    fault: bool = False
    began: bool = False
    refused: str | None = None
    seconds: float = 0.0
    ended: datetime | None = None
    tail: list[str] = field(default_factory=list)

    @property
    def said(self) -> str:
        """Our sentence or the error among the last lines, else the last of them."""
        lines = [line.strip() for line in self.tail[::-1]]
        for kind in (_OURS, _ERROR):
            for line in filter(kind.match, lines):
                return line.removeprefix("mmpt_fairseq: ")
        return lines[0] if lines else ""

    def curve(self, metric: str) -> Curve:
        """A training metric between progress lines, or per epoch where those are too few."""
        inner, epochs = (self.curves[tag][metric] for tag in TRAIN)
        return inner if len(inner) >= min(5, len(epochs)) else epochs

    def validation(self) -> dict[str, dict[str, Curve]]:
        """Metrics of every validation split."""
        return {tag: dict(by) for tag, by in self.curves.items() if tag not in TRAIN and by}

    def metrics(self) -> list[str]:
        """Names of everything that was logged in training."""
        names = {name: None for tag in TRAIN for name in self.curves[tag]}
        return [name for name in names if self.curve(name)]


def read_log(folder: Path) -> TrainingLog | None:
    """The log of the training in ``folder``, None where there is none.

    Both files may be there, one of them from attempts that were launched otherwise: the one that
    reaches further is taken, and ``log.txt`` among equals, for it has the tracebacks.
    """
    logs = [parse(folder / name) for name in NAMES if (folder / name).is_file()]
    logs = [log for log in logs if log.attempts or log.updates]
    return max(logs, key=lambda log: (log.ended, log.path.name == "log.txt"), default=None)


def parse(path: Path) -> TrainingLog:
    """Read a log, whatever it holds."""
    reader = _Reader(TrainingLog(path))
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.split("\n")
    lines.pop()  # empty, or torn: what is behind the last end of line
    for line in lines:
        reader.read(line)
    reader.end()
    return reader.log


class _Reader:
    """Reads a log line by line; remembers where the present attempt stands."""

    # What an attempt says of the whole training.
    OUTCOME = ("cfg", "command", "finished")

    def __init__(self, log: TrainingLog) -> None:
        self.log = log
        self.outcome: dict = {}  # of the attempts before, if any got as far as training
        self.training = False  # whether the present attempt did
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.resuming = False
        self.begin: datetime | None = None

    def read(self, line: str) -> None:
        if line.strip():
            self.tail.append(line[:500])
        if _FAULT.match(line):
            self.log.fault = True
        parts = _split(line)
        if parts is None:
            return
        time, name, message = parts
        if name == "fairseq_cli.train" and message.startswith("{'_name'"):
            self.start(message, time)
        self.begin = self.begin or time
        self.log.ended = time
        if name.startswith("mmpt_fairseq") and message.startswith("command: "):
            self.log.command = message.removeprefix("command: ")
        if message.startswith("begin training epoch"):
            self.training = self.log.began = True
        if message.startswith("done training"):
            self.log.finished = True
        entry = progress(name, message)
        if entry:
            self.add(name, entry)

    def start(self, message: str, time: datetime) -> None:
        self.end()
        outcome = {name: getattr(self.log, name) for name in self.OUTCOME}
        self.outcome = outcome if self.log.began else {}
        self.training = False
        self.begin = time
        self.log.attempts += 1
        self.log.cfg = parse_config(message) or self.log.cfg
        self.log.finished = self.log.fault = False
        self.log.refused = None
        self.resuming = True

    def end(self) -> None:
        if self.begin and self.log.ended:
            self.log.seconds += (self.log.ended - self.begin).total_seconds()
        self.begin = None
        self.log.tail = list(self.tail)
        if self.outcome and self.log.fault and not self.training:
            self.log.refused = self.log.said
            vars(self.log).update(self.outcome)
            self.log.fault = not self.log.finished  # it does not go on either

    def add(self, tag: str, entry: dict[str, float]) -> None:
        update = int(entry.pop("num_updates", -1))
        if update < 0:
            return
        self.training = self.log.began = True
        if self.resuming:
            self.forget_from(update)
        self.resuming = False
        for name, value in entry.items():
            if math.isfinite(value) and name not in ("epoch", "update"):
                self.log.curves[tag][name][update] = value
        self.log.updates = max(self.log.updates, update)

    def forget_from(self, update: int) -> None:
        """Drop what earlier attempts said of updates that the present one has done again."""
        for metrics in self.log.curves.values():
            for name, curve in metrics.items():
                metrics[name] = {u: value for u, value in curve.items() if u < update}
        self.log.updates = min(self.log.updates, update)


def _split(line: str) -> tuple[datetime, str, str] | None:
    """Time, logger and message. A line may follow the torso of one that a kill cut off."""
    found = list(re.finditer(rf"\[{_STAMP},\d+\]\[(?=\S+\]\[[A-Z]+\] - )", line))
    match = _HYDRA.match(line[found[-1].start() :]) if found else _FAIRSEQ.match(line)
    if match is None:
        return None
    return datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S"), match[2].strip(), match[3]


def progress(tag: str, message: str) -> dict[str, float] | None:
    """Metrics in one of fairseq's progress lines, None for any other line or a torn one."""
    if message.startswith('{"epoch"'):
        try:
            pairs = json.loads(message).items()
        except json.JSONDecodeError:
            return None
        return _numbers((key.removeprefix(f"{tag}_"), value) for key, value in pairs)
    inner = re.match(r"epoch \d+:\s+\d+ / \d+ (.*)", message)
    if inner:
        return _numbers(part.partition("=")[::2] for part in inner[1].split(", "))
    epoch = re.match(r"epoch \d+ \| (?:valid on '[^']*' subset \| )?(.*)", message)
    if epoch:
        return _numbers(part.partition(" ")[::2] for part in epoch[1].split(" | "))
    return None


def _numbers(pairs) -> dict[str, float]:
    numbers = {}
    for key, value in pairs:
        try:
            numbers[key.strip()] = float(value)
        except (TypeError, ValueError):
            continue
    return numbers


def parse_config(message: str) -> dict | None:
    """The config that fairseq prints as Python's repr of a dict, None where it is cut off.

    Members of enumerations stand in it as bare words, which become strings.
    """
    try:
        tree = _WordsToStrings().visit(ast.parse(message, mode="eval"))
        config = ast.literal_eval(tree)
    except (SyntaxError, ValueError):
        return None
    return config if isinstance(config, dict) else None


class _WordsToStrings(ast.NodeTransformer):
    NUMBERS = {"inf": math.inf, "nan": math.nan}

    def visit_Name(self, node: ast.Name) -> ast.Constant:
        return ast.copy_location(ast.Constant(self.NUMBERS.get(node.id, node.id)), node)
