"""Run s3prl's ``run_downstream`` with a CPU build of torch, for which there is no torchaudio.

    python without_torchaudio.py -m train -p runs/ks -u mmpt_local -k CKPT -d speech_commands \\
        -c config.yaml --device cpu

Clips are read with soundfile. What s3prl imports for other upstreams and tasks is replaced by stub
modules in which every name is an empty class.
"""

import runpy
import sys
from pathlib import Path
from types import ModuleType

import soundfile
import torch
from torch import Tensor

STUBS = (
    "catalyst.data.sampler",
    "librosa",
    "torchaudio.compliance.kaldi",
    "torchaudio.functional",
    "torchaudio.transforms",
    "transformers",
)
NO_OPS = (["channels", "1"], ["rate", "16000"])  # effects that do not change 16 kHz mono


class Stub(ModuleType):
    """A module in which every name is an empty class."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (torch.nn.Module,), {})


def load(path: str | Path, *args, **kwargs) -> tuple[Tensor, int]:
    """``torchaudio.load``: ``(channels, samples)`` in [-1, 1], and the sample rate."""
    samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    return torch.from_numpy(samples.T.copy()), rate


def apply_effects_file(path: str | Path, effects: list[list[str]]) -> tuple[Tensor, int]:
    """``torchaudio.sox_effects.apply_effects_file``, for a gain in dB on 16 kHz mono only.

    Raises:
        ValueError: any other effect, or a clip that is not 16 kHz mono.
    """
    waveform, rate = load(path)
    if rate != 16000 or len(waveform) != 1:
        raise ValueError(f"{path} has {len(waveform)} channels at {rate} Hz; make it 16 kHz mono")
    decibels = 0.0
    for effect in effects:
        if effect[0] == "gain":
            decibels += float(effect[1])
        elif effect not in NO_OPS:
            raise ValueError(
                f"the effect {effect} needs sox; only gain on 16 kHz mono is supported"
            )
    return waveform * 10 ** (decibels / 20), rate


def install() -> None:
    """Register the replacements in ``sys.modules``."""
    for name in (*STUBS, "torchaudio.sox_effects"):
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            full_name = ".".join(parts[:end])
            module = sys.modules.setdefault(full_name, Stub(full_name))
            if end > 1:
                setattr(sys.modules[".".join(parts[: end - 1])], parts[end - 1], module)
    sys.modules["torchaudio"].load = load
    sys.modules["torchaudio"].__version__ = "2.5.1"
    sys.modules["torchaudio.sox_effects"].apply_effects_file = apply_effects_file


if __name__ == "__main__":
    install()
    runpy.run_module("s3prl.run_downstream", run_name="__main__", alter_sys=True)
