"""Helpers that run fairseq's real commands at test size, shared by the subprocess tests."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path

import torch
from tensorboardX.proto.event_pb2 import Event

from examples.forked import ROOT, Forked
from manifests.vocabulary import build_vocabulary
from mmpt_fairseq.checkpoint import load_checkpoint

BIN = Path(sys.executable).parent
CONFIG = ROOT / "examples" / "demo" / "config"
USER_DIR = ROOT / "mmpt_fairseq"
# Some of these are read when Python and torch start.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    # Programs test this checkout, wherever the installed package is.
    "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
}
FORKED = ("fairseq-hydra-train", "fairseq-generate")  # run in a fork, without a new fairseq import
TIMEOUT = 300  # seconds

ENCODER = [
    "model.encoder_embed_dim=16",
    "model.encoder_layers=2",
    "model.encoder_ffn_embed_dim=32",
    "model.depthwise_conv_kernel_size=7",
    "+model.dropout=0.0",
]
SIZES = {
    "pretraining": [
        *ENCODER,
        "task.video_num_frames=4",
        "task.video_size=16",
        "+model.video_patch_size=4",
        "model.video_embed_dim=16",
        "model.video_layers=1",
        "model.decoder_embed_dim=16",
        "model.decoder_layers=1",
    ],
    "midtraining": [
        *ENCODER,
        "model.decoder_embed_dim=16",
        "model.decoder_layers=1",
        "model.decoder_ffn_embed_dim=32",
    ],
}
SIZES["finetuning"] = SIZES["midtraining"]
TINY = [
    f"common.user_dir={USER_DIR}",
    "common.log_interval=1",
    "common.log_format=json",
    "dataset.num_workers=0",
    "dataset.max_tokens=600",
    "optimization.max_update=2",
]


def two_languages(corpora: Path, data: Path) -> list[str]:
    """Write stage 2's corpus with two target languages, Italian the smaller; return overrides.

    Languages are sampled with a temperature; validation is on both together.
    """
    shutil.copytree(corpora / "st", data)
    lines = (data / "train.tsv").read_text().splitlines()
    for language, rows in (("de", lines), ("it", lines[:4])):
        text = "\n".join(rows).replace("\tde\t", f"\t{language}\t")
        (data / f"train_{language}.tsv").write_text(text + "\n")
        (data / f"valid_{language}.tsv").write_text(text + "\n")
    (data / "valid.tsv").unlink()
    build_vocabulary(data, "char", splits=["train_de", "train_it"])
    with (data / "config.yaml").open("a") as config:
        config.write("sampling_alpha: 0.5\n")
    return ["dataset.train_subset='train_de,train_it'", "dataset.combine_valid_subsets=true"]


def run(
    command: list,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    fresh: bool = False,
) -> subprocess.CompletedProcess:
    """Run a command to completion; ``stdout`` of the result has stdout and stderr combined.

    Args:
        fresh: start a new interpreter, even if a fork that has imported fairseq would do.
    """
    command = [str(part) for part in command]
    environment = {**os.environ, **ENVIRONMENT, **(env or {})}
    if not fresh and env is None and command[0] in [str(BIN / name) for name in FORKED]:
        return _forked(command, environment, cwd or ROOT)
    return subprocess.run(
        command,
        cwd=cwd or ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=TIMEOUT,
        check=False,  # tests check for success or failure
    )


def _forked(
    command: list[str], environment: dict[str, str], cwd: Path
) -> subprocess.CompletedProcess:
    process = Forked(command, environment, cwd)
    alarm = threading.Timer(TIMEOUT, process.kill)
    alarm.start()
    try:
        with process.stdout:
            output = process.stdout.read()
        return subprocess.CompletedProcess(command, process.wait(), output)
    finally:
        alarm.cancel()


def train_command(name: str, data: Path, save_dir: Path, *overrides: str) -> list:
    """``fairseq-hydra-train`` with the demo's config at test size."""
    return [
        BIN / "fairseq-hydra-train",
        *("--config-dir", CONFIG),
        *("--config-name", name),
        f"task.data={data}",
        f"checkpoint.save_dir={save_dir}",
        *TINY,
        *SIZES[name],
        *overrides,
    ]


def train(
    name: str, data: Path, save_dir: Path, *overrides: str, processes: int = 1, **kwargs
) -> subprocess.CompletedProcess:
    """Train at test size, with gloo if ``processes`` is more than one."""
    command = train_command(name, data, save_dir, *overrides)
    if processes > 1:
        launcher = [BIN / "torchrun", "--nproc_per_node", processes, "--standalone"]
        command = [*launcher, *command, "+distributed=torchrun"]
    return run(command, **kwargs)


def succeeded(result: subprocess.CompletedProcess) -> str:
    """Check that a command succeeded; return its output."""
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


def refused(result: subprocess.CompletedProcess) -> str:
    """Check that a command failed with a message of ours and no traceback; return the message."""
    assert result.returncode not in (0, None), result.stdout[-3000:]
    messages = [x for x in result.stdout.splitlines() if x.startswith("mmpt_fairseq: ")]
    assert messages, result.stdout[-3000:]
    assert "Traceback" not in result.stdout, result.stdout[-3000:]
    return messages[-1]


def generate(checkpoint: Path, data: Path, split: str, *options, **kwargs):
    """Run ``fairseq-generate`` on one split, without ``--quiet``, so that it prints hypotheses."""
    return run(
        [
            BIN / "fairseq-generate",
            data,
            *("--user-dir", USER_DIR),
            *("--task", "mmpt_speech_to_text"),
            *("--path", checkpoint),
            *("--gen-subset", split),
            *options,
        ],
        **kwargs,
    )


def losses(output: str, key: str = "valid_loss") -> list[str]:
    """The values of ``key`` in fairseq's JSON log, in order."""
    entries = [json.loads(x) for x in re.findall(r'\{"epoch".*?\}', output)]
    return [entry[key] for entry in entries if key in entry]


def weights(folder: Path, name: str = "checkpoint_last.pt") -> dict[str, torch.Tensor]:
    """Model weights of the last checkpoint in a folder, or of the one that matches ``name``."""
    [path] = folder.glob(name)
    return load_checkpoint(path)["model"]


def largest_difference(a: dict, b: dict) -> float:
    """Largest absolute difference between the weights of two models."""
    assert a.keys() == b.keys()
    return max((a[k].float() - b[k].float()).abs().max().item() for k in a)


def scalars(folder: Path) -> dict[str, list[float]]:
    """Scalars of the TensorBoard files in a folder, read record by record."""
    found: dict[str, list[float]] = {}
    for path in folder.glob("events.out.tfevents.*"):
        content, offset = path.read_bytes(), 0
        while offset < len(content):
            (length,) = struct.unpack_from("<Q", content, offset)  # followed by a 4-byte checksum
            event = Event.FromString(content[offset + 12 : offset + 12 + length])
            offset += 12 + length + 4
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, []).append(value.simple_value)
    return found
