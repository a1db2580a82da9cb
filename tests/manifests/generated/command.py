"""Arguments of the generator at test size, and digests of its output."""

import hashlib
from pathlib import Path

COUNTS = {
    "pretrain": 6,
    "pretrain-valid": 1,
    "translated": 4,
    "translated-valid": 1,
    "translated-test": 2,
    "transcribed": 2,
    "transcribed-valid": 1,
    "test": 2,
}
NAMES = [name.replace("-", "_") for name in COUNTS]  # fields of Settings


def arguments(out: Path, *more: str, **counts: int) -> list[str]:
    flags = [f"--{name}={n}" for name, n in (COUNTS | counts).items()]
    return [str(out), "--speakers=8", "--seed=3", *flags, *more]


def digests(out: Path) -> dict[str, str]:
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }
