"""s3prl's ``run_downstream`` beside a CPU build of torch, for which there is no torchaudio.

    python without_torchaudio.py -m train -p runs/ks -u mmpt_local -k CKPT -d speech_commands \\
        -c config.yaml --device cpu

Clips are read by soundfile. What s3prl imports for other upstreams and tasks becomes modules in
which every name is an empty class.
"""

import runpy
import sys
from pathlib import Path
from types import ModuleType

import soundfile
import torch
from torch import Tensor

NAMES_ALONE = (
    "catalyst.data.sampler",
    "librosa",
    "torchaudio.compliance.kaldi",
    "torchaudio.functional",
    "torchaudio.transforms",
    "transformers",
)
NO_CHANGE = (["channels", "1"], ["rate", "16000"])  # of 16 kHz mono


class Names(ModuleType):
    """A module that has every name."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (torch.nn.Module,), {})


def load(path: str | Path, *args, **kwargs) -> tuple[Tensor, int]:
    """``torchaudio.load``: ``(channels, samples)`` in [-1, 1] and the rate."""
    samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    return torch.from_numpy(samples.T.copy()), rate


def apply_effects_file(path: str | Path, effects: list[list[str]]) -> tuple[Tensor, int]:
    """``torchaudio.sox_effects.apply_effects_file``: a gain in dB, on 16 kHz mono.

    Raises:
        ValueError: another effect, or a clip that would have to be converted.
    """
    waveform, rate = load(path)
    if rate != 16000 or len(waveform) != 1:
        raise ValueError(f"{path} has {len(waveform)} channels at {rate} Hz; make it 16 kHz mono")
    decibels = 0.0
    for effect in effects:
        if effect[0] == "gain":
            decibels += float(effect[1])
        elif effect not in NO_CHANGE:
            raise ValueError(f"the effect {effect} needs sox; this reads 16 kHz mono and has gain")
    return waveform * 10 ** (decibels / 20), rate


def install() -> None:
    """Put the stand-ins where ``import`` finds them."""
    for name in (*NAMES_ALONE, "torchaudio.sox_effects"):
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            whole = ".".join(parts[:end])
            module = sys.modules.setdefault(whole, Names(whole))
            if end > 1:
                setattr(sys.modules[".".join(parts[: end - 1])], parts[end - 1], module)
    sys.modules["torchaudio"].load = load
    sys.modules["torchaudio"].__version__ = "2.5.1"
    sys.modules["torchaudio.sox_effects"].apply_effects_file = apply_effects_file


if __name__ == "__main__":
    install()
    runpy.run_module("s3prl.run_downstream", run_name="__main__", alter_sys=True)
