"""Parse the training log that ``fairseq-hydra-train`` leaves in its folder into curves.

Hydra's ``hydra_train.log`` and the example scripts' ``log.txt`` are read, with fairseq's progress
lines in JSON (``common.log_format=json``) or in its simple format. A resumed training has several
attempts in one log; where two report the same update, the later one counts.
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
TAIL = 12  # number of last lines kept
# [2026-11-23 06:17:33,514][train_inner][INFO] - message      (Hydra)
# 2026-11-23 06:17:33 | INFO | train_inner | message            (fairseq)
_TIMESTAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
_HYDRA = re.compile(rf"\[({_TIMESTAMP})(?:,\d+)?\]\[([^\]]+)\]\[[A-Z]+\] - (.*)$")
_FAIRSEQ = re.compile(rf"({_TIMESTAMP}) \| [A-Z]+ \| ([^|]+) \| (.*)$")
_OWN_MESSAGE, _ERROR = re.compile("mmpt_fairseq: "), re.compile(r"[\w.]*(Error|Exception)\b")
_FAILURE = re.compile(r"Traceback \(most recent call last\)|Error executing job|mmpt_fairseq: ")
TRAIN = ("train_inner", "train")
CHECKS_CONFIG = "mmpt_fairseq.compat.configs"  # logs before fairseq prints the config

Curve = dict[int, float]  # update -> value


@dataclass
class TrainingLog:
    """The log of one training, over all its attempts.

    Attributes:
        path: the log file.
        cfg: config of the last attempt as printed by fairseq, or None.
        command: command line of the last attempt, or None.
        attempts: number of starts.
        curves: values by update, by tag (``train_inner``: means since the previous line;
            ``train``: means over an epoch; or the name of a validation split) and metric.
        updates: the last update in the log.
        diverged: the first update whose loss was infinite or not a number, or None.
        finished: whether the last attempt ran to completion.
        failed: whether it ended with a traceback or an error message of mmpt_fairseq.
        began_training: whether any attempt started training.
        failed_restart: last message of an attempt that failed before training, if an earlier
            attempt did train; ``cfg``, ``command`` and ``finished`` are then those of the earlier
            one. Otherwise None.
        seconds: from first to last line, summed over attempts.
        ended: time of the last line.
        tail: the last lines, without a truncated one.
    """

    path: Path
    cfg: dict | None = None
    command: str | None = None
    attempts: int = 0
    curves: dict[str, dict[str, Curve]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    updates: int = 0
    diverged: int | None = None
    finished: bool = False
    failed: bool = False
    began_training: bool = False
    failed_restart: str | None = None
    seconds: float = 0.0
    ended: datetime | None = None
    tail: list[str] = field(default_factory=list)

    @property
    def last_message(self) -> str:
        """The last mmpt_fairseq message or else exception in ``tail``, else its last line."""
        lines = [line.strip() for line in self.tail[::-1]]
        for kind in (_OWN_MESSAGE, _ERROR):
            for line in filter(kind.match, lines):
                return line.removeprefix("mmpt_fairseq: ")
        return lines[0] if lines else ""

    def curve(self, metric: str) -> Curve:
        """A training metric by progress line, or by epoch if there are too few of those."""
        inner, epochs = (self.curves[tag][metric] for tag in TRAIN)
        return inner if len(inner) >= min(5, len(epochs)) else epochs

    def validation(self) -> dict[str, dict[str, Curve]]:
        """Curves of every validation split, by metric."""
        return {tag: dict(by) for tag, by in self.curves.items() if tag not in TRAIN and by}

    def metrics(self) -> list[str]:
        """Names of the metrics logged in training."""
        names = {name: None for tag in TRAIN for name in self.curves[tag]}
        return [name for name in names if self.curve(name)]


def read_log(folder: Path) -> TrainingLog | None:
    """Read the log of the training in ``folder``; None if there is none.

    If both files exist (attempts may have been launched differently), the one with the later end is
    used, or ``log.txt`` if they are equal, because it has the tracebacks.
    """
    logs = [parse(folder / name) for name in NAMES if (folder / name).is_file()]
    logs = [log for log in logs if log.attempts or log.updates]
    return max(logs, key=lambda log: (log.ended, log.path.name == "log.txt"), default=None)


def parse(path: Path) -> TrainingLog:
    """Parse a log file; unknown lines are ignored."""
    reader = _Reader(TrainingLog(path))
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.split("\n")
    lines.pop()  # what follows the last line end: empty, or a truncated line
    for line in lines:
        reader.read(line)
    reader.end()
    return reader.log


class _Reader:
    """Line-by-line log parser that keeps the state of the current attempt."""

    # Fields of the log that a failed restart must not change.
    OUTCOME = ("cfg", "command", "finished")

    def __init__(self, log: TrainingLog) -> None:
        self.log = log
        self.outcome: dict = {}  # of earlier attempts, if any of them trained
        self.began_training = False  # in the current attempt
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.resuming = False
        self.begin: datetime | None = None
        self.early: datetime | None = None  # time of lines before the config of an attempt

    def read(self, line: str) -> None:
        if line.strip():
            self.tail.append(line[:500])
        if _FAILURE.match(line):
            self.log.failed = True
        parts = _split(line)
        if parts is None:
            return
        time, name, message = parts
        if name == CHECKS_CONFIG:  # of the attempt that starts next
            self.early = self.early or time
            return
        if name == "fairseq_cli.train" and message.startswith("{'_name'"):
            self.start(message, self.early or time)
        self.early = None
        self.begin = self.begin or time
        self.log.ended = time
        if name.startswith("mmpt_fairseq") and message.startswith("command: "):
            self.log.command = message.removeprefix("command: ")
        if message.startswith("begin training epoch"):
            self.began_training = self.log.began_training = True
        if message.startswith("done training"):
            self.log.finished = True
        entry = progress(name, message)
        if entry:
            self.add(name, entry)

    def start(self, message: str, time: datetime) -> None:
        self.end()
        outcome = {name: getattr(self.log, name) for name in self.OUTCOME}
        self.outcome = outcome if self.log.began_training else {}
        self.began_training = False
        self.begin = time
        self.log.attempts += 1
        self.log.cfg = parse_config(message) or self.log.cfg
        self.log.finished = self.log.failed = False
        self.log.failed_restart = None
        self.resuming = True

    def end(self) -> None:
        if self.begin and self.log.ended:
            self.log.seconds += (self.log.ended - self.begin).total_seconds()
        self.begin = None
        self.log.tail = list(self.tail)
        if self.outcome and self.log.failed and not self.began_training:
            self.log.failed_restart = self.log.last_message
            vars(self.log).update(self.outcome)
            self.log.failed = not self.log.finished  # the earlier attempt is not running either

    def add(self, tag: str, entry: dict[str, float]) -> None:
        update = int(entry.pop("num_updates", -1))
        if update < 0:
            return
        self.began_training = self.log.began_training = True
        self.log.failed = False  # a traceback did not end it, such as that of a loader worker
        if self.resuming:
            self.forget_from(update)
        self.resuming = False
        if not math.isfinite(entry.get("loss", 0.0)) and self.log.diverged is None:
            self.log.diverged = update
        for name, value in entry.items():
            if math.isfinite(value) and name not in ("epoch", "update"):
                self.log.curves[tag][name][update] = value
        self.log.updates = max(self.log.updates, update)

    def forget_from(self, update: int) -> None:
        """Drop values of earlier attempts for updates that the current one has repeated."""
        for metrics in self.log.curves.values():
            for name, curve in metrics.items():
                metrics[name] = {u: value for u, value in curve.items() if u < update}
        self.log.updates = min(self.log.updates, update)
        if self.log.diverged is not None and self.log.diverged >= update:
            self.log.diverged = None


def _split(line: str) -> tuple[datetime, str, str] | None:
    """Time, logger and message of a line, which may follow a line truncated by a kill."""
    found = list(re.finditer(rf"\[{_TIMESTAMP},\d+\]\[(?=\S+\]\[[A-Z]+\] - )", line))
    match = _HYDRA.match(line[found[-1].start() :]) if found else _FAIRSEQ.match(line)
    if match is None:
        return None
    return datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S"), match[2].strip(), match[3]


def progress(tag: str, message: str) -> dict[str, float] | None:
    """Metrics in one of fairseq's progress lines; None for other or truncated lines."""
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
    """Parse the config that fairseq prints as the repr of a dict; None if it is truncated.

    Enum members, printed as bare names, become strings.
    """
    try:
        tree = _NamesToStrings().visit(ast.parse(message, mode="eval"))
        config = ast.literal_eval(tree)
    except (SyntaxError, ValueError):
        return None
    return config if isinstance(config, dict) else None


class _NamesToStrings(ast.NodeTransformer):
    NUMBERS = {"inf": math.inf, "nan": math.nan}

    def visit_Name(self, node: ast.Name) -> ast.Constant:
        return ast.copy_location(ast.Constant(self.NUMBERS.get(node.id, node.id)), node)
