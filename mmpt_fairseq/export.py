"""The audio encoder of a checkpoint in files that need no fairseq: safetensors, JSON, ONNX.

python -m mmpt_fairseq.export CHECKPOINT OUT_DIR [--onnx]
"""

import argparse
import copy
import json
import logging
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from manifests.errors import InputError, command_line
from mmpt_fairseq.data.audio import (
    FRAME_LENGTH,
    FRAME_SHIFT,
    MIN_VARIANCE,
    NUM_MEL_BINS,
    ROUNDING_NOISE,
    SUBSAMPLING,
)
from mmpt_fairseq.data.waveform import SAMPLE_RATE
from mmpt_fairseq.extensions import add_user_dir, import_user_dir
from mmpt_fairseq.models.encoder_config import ConformerConfig, build_conformer
from mmpt_fairseq.modules.conformer import ConformerEncoder
from mmpt_fairseq.transcription import SpeechModel, load

WEIGHTS, CONFIG, GRAPH = "encoder.safetensors", "config.json", "encoder.onnx"
FORMAT = "mmpt_fairseq encoder 1"
# What decides how the weights were trained, not what they compute; and the config's own name.
TRAINING_ONLY = ("_name", "dropout", "checkpoint_activations")
OPSET = 17


class EncoderGraph(nn.Module):
    """The encoder with tensors alone for its inputs and outputs, as ONNX wants them."""

    def __init__(self, encoder: ConformerEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, T, F)`` and ``(B,)`` -> states ``(B, ceil(T / 4), D)`` and their ``(B,)``."""
        encoded = self.encoder(features, lengths)
        return encoded.states, encoded.lengths


def export(model: SpeechModel, folder: Path, onnx: bool = False) -> list[Path]:
    """Write the encoder of a model of any stage; returns the files.

    Args:
        folder: made where it is missing.
        onnx: write the graph too.

    Raises:
        InputError: a package of the extra ``export`` is missing, or the folder cannot be made.
    """
    safetensors = _safetensors()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None
    encoder = copy.deepcopy(model.encoder).float().cpu()
    weights = {name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}
    # Its own way to write files lets nobody else read them.
    (folder / WEIGHTS).write_bytes(safetensors.save(weights, metadata={"format": "pt"}))
    (folder / CONFIG).write_text(json.dumps(_config(model), indent=1) + "\n", encoding="utf-8")
    if onnx:
        _write_graph(encoder, folder / GRAPH)
    return [folder / name for name in (WEIGHTS, CONFIG, *([GRAPH] if onnx else []))]


def load_exported(folder: Path | str) -> ConformerEncoder:
    """The encoder that :func:`export` wrote, in evaluation mode.

    Raises:
        InputError: the files are not there, not ours, or do not fit together.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"there is no {folder / name}; write it with mmpt_fairseq.export")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if config["format"] != FORMAT:
            raise InputError(f"it is of the format {config['format']}, not {FORMAT}")
        encoder = build_conformer(ConformerConfig(**config["encoder"]))
    except InputError as error:
        raise InputError(f"{folder / CONFIG} is not of an exported encoder: {error}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{folder / CONFIG} is not of an exported encoder ({error!r})") from None
    safetensors = _safetensors()
    try:
        encoder.load_state_dict(safetensors.load_file(folder / WEIGHTS), strict=True)
    except Exception as error:  # safetensors has an exception of its own, torch RuntimeError
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{folder / WEIGHTS} does not hold the encoder of {CONFIG}: {reason}"
        ) from None
    return encoder.eval()


def _config(model: SpeechModel) -> dict:
    """The encoder's sizes, and how its input is made."""
    sizes = {
        name: model.cfg.get(name, default)
        for name, default in asdict(ConformerConfig()).items()
        if name not in TRAINING_ONLY
    }
    sizes["encoder_positions"] = str(sizes["encoder_positions"])
    return {
        "format": FORMAT,
        "encoder": sizes,
        "input": {
            "sample_rate": SAMPLE_RATE,
            "features": "natural logarithm of Kaldi's mel filterbank energies of samples in the "
            "range of 16 bits, no dither; what is lower counts as floor. Lengths are in samples",
            "mel_bins": NUM_MEL_BINS,
            "frame_length": FRAME_LENGTH,
            "frame_shift": FRAME_SHIFT,
            "floor": ROUNDING_NOISE,
            "normalisation": "each bin to zero mean and unit variance over the clip; a lower "
            "variance counts as least_variance",
            "least_variance": MIN_VARIANCE,
        },
        "frames_per_output": SUBSAMPLING,
    }


def _write_graph(encoder: ConformerEncoder, path: Path) -> None:
    """ONNX with batch and time left open.

    By the exporter that traces, which asks for ``onnx`` alone. The example has padding, or the
    trace would hold the branch of an encoder that needs no attention mask.
    """
    try:
        import onnx  # noqa: F401  (torch imports it later, with a message about pip of its own)
    except ImportError:
        raise InputError(
            "--onnx needs the package onnx; pip install mmpt_fairseq[export]"
        ) from None
    frames = 12 * SUBSAMPLING
    example = torch.zeros(2, frames, NUM_MEL_BINS), torch.tensor([frames, frames - 9])
    time, batch = {0: "batch", 1: "time"}, {0: "batch"}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            EncoderGraph(encoder).eval(),
            example,
            str(path),
            input_names=["features", "lengths"],
            output_names=["states", "state_lengths"],
            dynamic_axes={
                "features": {0: "batch", 1: "frames"},
                "lengths": batch,
                "states": time,
                "state_lengths": batch,
            },
            opset_version=OPSET,
            dynamo=False,
        )


def _safetensors():
    try:
        import safetensors.torch
    except ImportError:
        raise InputError(
            "this needs the package safetensors; pip install mmpt_fairseq[export]"
        ) from None
    return safetensors.torch


def main(arguments: list[str] | None = None) -> None:
    """The command line; prints what was written."""
    parser = argparse.ArgumentParser(
        prog="python -m mmpt_fairseq.export",
        description="Write a checkpoint's audio encoder as safetensors and JSON, and as ONNX.",
    )
    parser.add_argument("checkpoint", help="of any stage")
    parser.add_argument("folder", type=Path, metavar="OUT_DIR")
    parser.add_argument("--onnx", action="store_true", help=f"write {GRAPH} too")
    add_user_dir(parser)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR, force=True)
    with command_line():
        import_user_dir(args)
        for path in export(load(args.checkpoint, "cpu"), args.folder, args.onnx):
            print(path)


if __name__ == "__main__":
    main()
