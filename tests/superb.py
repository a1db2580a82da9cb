"""A corpus for tests of the SUPERB tasks, with tones in place of words and voices."""

from pathlib import Path

import numpy as np

from mmpt_fairseq.data.manifest import write_manifest
from tests.helpers import RATE, write_audio

TONES = {"a": 300.0, "b": 900.0, "c": 2500.0}


def tones(*names: str, seconds: float = 0.3) -> np.ndarray:
    """Consecutive tones, ``-`` for silence, with a little noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    parts = [np.sin(2 * np.pi * TONES[n] * time) if n != "-" else 0 * time for n in names]
    noise = np.random.default_rng(0).standard_normal(len(time) * len(names))
    return (0.3 * np.concatenate(parts) + 0.001 * noise).astype(np.float32)


def write_corpus(root: Path) -> None:
    """Write ``ks``, ``ic``, ``pr`` and ``sd``: six clips of a long and a short tone in each split.

    A mean over time does not show which tone is first, but which is longer.
    """
    tables: dict[str, list[dict]] = {task: [] for task in ("ks", "ic", "pr", "sd")}
    for first in TONES:
        for second in TONES:
            if first == second:
                continue
            path = write_audio(root / f"{first}{second}.wav", tones(first, first, "-", second))
            row = {"id": f"{first}{second}", "audio": f"../{path.name}", "n_frames": 118}
            tables["ks"].append({**row, "tgt_text": f"x{first}"})
            tables["ic"].append({**row, "tgt_text": f"x{first} y{second}"})
            tables["pr"].append({**row, "tgt_text": f"{first} {second}"})
            segments = f"{first}:0-0.6;{second}:0.9-1.2"
            tables["sd"].append({**row, "segments": segments})
    for task, rows in tables.items():
        for split in ("train", "valid", "test"):
            write_manifest(root / task / f"{split}.tsv", rows)
