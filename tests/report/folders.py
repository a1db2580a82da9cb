"""Trainings and decodes as folders hold them, written without training anything."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from mmpt_fairseq.data.manifest import write_manifest

WORDS = ["one", "two", "three", "four", "five", "six"]


def line(second: int, name: str, message: str) -> str:
    """A line of Hydra's log, ``second`` seconds after twelve."""
    clock = f"12:{second // 60:02d}:{second % 60:02d}"
    return f"[2026-01-02 {clock},123][{name}][INFO] - {message}\n"


def config(folder: Path, data: Path, max_update: int = 100, seed: int = 1, **model) -> dict:
    """What fairseq prints of a training of stage 2 or 3, in parts."""
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
    """The line with which an attempt begins."""
    return line(second, "fairseq_cli.train", repr(cfg))


def progress(second: int, update: int, loss: float, **more) -> str:
    """One of fairseq's lines in JSON."""
    entry = {"epoch": 1, "update": 0.1, "loss": str(loss), "num_updates": str(update)}
    return line(second, "train_inner", json.dumps(entry | {k: str(v) for k, v in more.items()}))


def validation(second: int, update: int, loss: float) -> str:
    """The same after a validation."""
    entry = {"epoch": 1, "valid_loss": str(loss), "valid_num_updates": str(update)}
    return line(second, "valid", json.dumps(entry))


def done(second: int) -> str:
    return line(second, "fairseq_cli.train", "done training in 60.0 seconds")


def write_log(folder: Path, *lines: str, name: str = "hydra_train.log", age: float = 0) -> Path:
    """A log that was last written ``age`` seconds ago."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("".join(lines), encoding="utf-8")
    os.utime(path, (time.time() - age,) * 2)
    return path


def write_training(folder: Path, data: Path, seed: int = 1, **model) -> Path:
    """A training that is done."""
    cfg = config(folder, data, seed=seed, **model)
    write_log(folder, start(0, cfg), progress(30, 50, 2.0), progress(60, 100, 1.0), done(61))
    return folder


def write_test_set(folder: Path, texts: Sequence[str], split: str = "test", **columns) -> Path:
    """A manifest whose clips do not exist."""
    rows = [
        {"id": f"u{i}", "audio": f"{i}.wav", "n_frames": 100, "tgt_text": text, **columns}
        for i, text in enumerate(texts)
    ]
    write_manifest(folder / f"{split}.tsv", rows)
    return folder


def write_decode(
    run: Path, data: Path, hypotheses: Sequence[str], decoding: str = "ctc", split: str = "test"
) -> Path:
    """A decode with the record that the task writes; longest rows first, as fairseq does."""
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


def misheard(texts: Sequence[str], every: int) -> list[str]:
    """The texts with a wrong word in every so many of them."""
    return [
        text if i % every else " ".join(["wrong", *text.split()[1:]])
        for i, text in enumerate(texts)
    ]


def sentences(count: int) -> list[str]:
    """Different texts of two to five words."""
    return [" ".join(WORDS[(i + k * k) % 6] for k in range(2 + i % 4)) for i in range(count)]
