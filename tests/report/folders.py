"""Fake folders of trainings and decodes, written without training anything."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from mmpt_fairseq.data.manifest import write_manifest

WORDS = ["one", "two", "three", "four", "five", "six"]


def line(second: int, name: str, message: str) -> str:
    """A line of Hydra's log, ``second`` seconds after 12:00."""
    clock = f"12:{second // 60:02d}:{second % 60:02d}"
    return f"[2026-01-02 {clock},123][{name}][INFO] - {message}\n"


def config(folder: Path, data: Path, max_update: int = 100, seed: int = 1, **model) -> dict:
    """The relevant parts of the config that fairseq prints for a training of stage 2 or 3."""
    return {
        "_name": None,
        "common": {"_name": None, "seed": seed, "log_format": "json"},
        "task": {"_name": "mmpt_speech_to_text", "data": str(data), "seed": "${common.seed}"},
        "model": {"_name": "mmpt_speech_to_text", "init_encoder_from": None, **model},
        "dataset": {"_name": None, "train_subset": "train", "valid_subset": "valid"},
        "optimization": {"_name": None, "max_update": max_update, "lr": [0.003]},
        "checkpoint": {"_name": None, "save_dir": str(folder)},
    }


def start(second: int, cfg: dict) -> str:
    """The first line of an attempt."""
    return line(second, "fairseq_cli.train", repr(cfg))


def progress(second: int, update: int, loss: float, **more) -> str:
    """One of fairseq's JSON progress lines."""
    entry = {"epoch": 1, "update": 0.1, "loss": str(loss), "num_updates": str(update)}
    return line(second, "train_inner", json.dumps(entry | {k: str(v) for k, v in more.items()}))


def validation(second: int, update: int, loss: float) -> str:
    """A JSON line that fairseq logs after validation."""
    entry = {"epoch": 1, "valid_loss": str(loss), "valid_num_updates": str(update)}
    return line(second, "valid", json.dumps(entry))


def done(second: int) -> str:
    return line(second, "fairseq_cli.train", "done training in 60.0 seconds")


def write_log(folder: Path, *lines: str, name: str = "hydra_train.log", age: float = 0) -> Path:
    """Write a log last modified ``age`` seconds ago."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("".join(lines), encoding="utf-8")
    os.utime(path, (time.time() - age,) * 2)
    return path


def write_training(folder: Path, data: Path, seed: int = 1, **model) -> Path:
    """Write the folder of a finished training."""
    cfg = config(folder, data, seed=seed, **model)
    write_log(folder, start(0, cfg), progress(30, 50, 2.0), progress(60, 100, 1.0), done(61))
    return folder


def write_test_set(folder: Path, texts: Sequence[str], split: str = "test", **columns) -> Path:
    """Write a manifest whose clips do not exist."""
    rows = [
        {"id": f"u{i}", "audio": f"{i}.wav", "n_frames": 100, "tgt_text": text, **columns}
        for i, text in enumerate(texts)
    ]
    write_manifest(folder / f"{split}.tsv", rows)
    return folder


def write_decode(
    run: Path, data: Path, hypotheses: Sequence[str], decoding: str = "ctc", split: str = "test"
) -> Path:
    """Write a decode with the task's JSON record; in fairseq's order, longest rows first."""
    results = run / "decoded"
    results.mkdir(parents=True, exist_ok=True)
    manifest = (data / f"{split}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    lines = []
    for i, text in reversed(list(enumerate(hypotheses))):
        reference = manifest[i].split("\t")[3] if i < len(manifest) else ""
        lines += [f"T-{i}\t{reference}", f"H-{i}\t-1.0\t{text}", f"D-{i}\t-1.0\t{text}"]
    (results / f"generate-{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    record = {
        "task": {"data": str(data), "decoding": decoding},
        "common_eval": {
            "path": str(run / "checkpoint_best.pt"),
            "results_path": str(results),
        },
        "generation": {"beam": 5, "lenpen": 1},
    }
    (results / f"generate-{split}.json").write_text(json.dumps(record))
    return results


def with_errors(texts: Sequence[str], every: int) -> list[str]:
    """The texts, with a wrong first word in one out of ``every``."""
    return [
        text if i % every else " ".join(["wrong", *text.split()[1:]])
        for i, text in enumerate(texts)
    ]


def sentences(count: int) -> list[str]:
    """Distinct texts of two to five words."""
    return [" ".join(WORDS[(i + k * k) % 6] for k in range(2 + i % 4)) for i in range(count)]
