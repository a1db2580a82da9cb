"""Export a checkpoint's audio encoder for use without fairseq: safetensors, JSON, ONNX.

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
# Settings that affect training only, and the config's own name.
TRAINING_ONLY = ("_name", "dropout", "checkpoint_activations")
OPSET = 17


class EncoderGraph(nn.Module):
    """Wrapper of the encoder with tensors only as inputs and outputs, as ONNX requires."""

    def __init__(self, encoder: ConformerEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, T, F)`` and lengths ``(B,)`` -> states ``(B, ceil(T / 4), D)`` and lengths."""
        encoded = self.encoder(features, lengths)
        return encoded.states, encoded.lengths


def export(model: SpeechModel, folder: Path, onnx: bool = False) -> list[Path]:
    """Export the encoder of a model of any stage; return the paths of the files.

    Args:
        folder: created if missing.
        onnx: also write the ONNX graph.

    Raises:
        InputError: a package of the extra ``export`` is missing, the folder cannot be created, or
            the encoder is an extension's, which the config cannot describe.
    """
    safetensors = _safetensors()
    encoder, config = copy.deepcopy(model.encoder).float().cpu().eval(), _config(model)
    _check_description(encoder, config["encoder"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder}: {error.strerror}") from None
    weights = {name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}
    # safetensors.save_file would create the file readable by its owner only.
    (folder / WEIGHTS).write_bytes(safetensors.save(weights, metadata={"format": "pt"}))
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    if onnx:
        _write_graph(encoder, folder / GRAPH)
    return [folder / name for name in (WEIGHTS, CONFIG, *([GRAPH] if onnx else []))]


def load_exported(folder: Path | str) -> ConformerEncoder:
    """Load an encoder written by :func:`export`, in evaluation mode.

    Raises:
        InputError: the files are missing, were not written by it, or do not match.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"there is no {folder / name}; create it with mmpt_fairseq.export")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if config["format"] != FORMAT:
            raise InputError(f"its format is {config['format']}, not {FORMAT}")
        encoder = build_conformer(ConformerConfig(**config["encoder"]))
    except InputError as error:
        raise InputError(
            f"{folder / CONFIG} does not describe an exported encoder: {error}"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / CONFIG} does not describe an exported encoder ({error!r})"
        ) from None
    safetensors = _safetensors()
    try:
        encoder.load_state_dict(safetensors.load_file(folder / WEIGHTS), strict=True)
    except Exception as error:  # SafetensorError, or RuntimeError of torch
        reason = " ".join(str(error).split())
        raise InputError(
            f"{folder / WEIGHTS} does not match the encoder in {CONFIG}: {reason}"
        ) from None
    return encoder.eval()


def _check_description(encoder: ConformerEncoder, sizes: dict) -> None:
    """Check that an encoder built from its description computes the same.

    Raises:
        InputError: it does not.
    """
    described = build_conformer(ConformerConfig(**sizes)).eval()
    clip = torch.randn(1, 64, NUM_MEL_BINS), torch.tensor([64])
    try:
        described.load_state_dict(encoder.state_dict(), strict=True)
        with torch.no_grad():
            same = torch.allclose(encoder(*clip).states, described(*clip).states, atol=1e-4)
    except RuntimeError:
        same = False
    if not same:
        raise InputError(
            "the encoder is not the Conformer that model.encoder_* describe but an extension's, "
            "which cannot be rebuilt from an export; save its states instead (extract_features)"
        )


def _config(model: SpeechModel) -> dict:
    """The encoder's sizes, and how its input features are computed."""
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
            "16-bit range, no dither; lower values are raised to floor. Lengths are in samples",
            "mel_bins": NUM_MEL_BINS,
            "frame_length": FRAME_LENGTH,
            "frame_shift": FRAME_SHIFT,
            "floor": ROUNDING_NOISE,
            "normalisation": "each bin to zero mean and unit variance over the clip; lower "
            "variances are raised to least_variance",
            "least_variance": MIN_VARIANCE,
        },
        "frames_per_output": SUBSAMPLING,
    }


def _write_graph(encoder: ConformerEncoder, path: Path) -> None:
    """Write the ONNX graph with dynamic batch and time axes.

    Uses the tracing exporter, which requires ``onnx`` only. The example input is padded; otherwise
    the encoder's branch without an attention mask would be traced.
    """
    try:
        import onnx  # noqa: F401  (torch imports it later, with its own message about pip)
    except ImportError:
        raise InputError(
            "--onnx needs the package onnx; pip install mmpt_fairseq[export]"
        ) from None
    frames = 12 * SUBSAMPLING
    example = torch.zeros(2, frames, NUM_MEL_BINS), torch.tensor([frames, frames - 9])
    batch_time, batch = {0: "batch", 1: "time"}, {0: "batch"}
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
                "states": batch_time,
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
    """Run the command; print the paths of the files written."""
    parser = argparse.ArgumentParser(
        prog="python -m mmpt_fairseq.export",
        description="Write a checkpoint's audio encoder as safetensors and JSON, and as ONNX.",
    )
    parser.add_argument("checkpoint", help="of any stage")
    parser.add_argument("folder", type=Path, metavar="OUT_DIR")
    parser.add_argument("--onnx", action="store_true", help=f"write {GRAPH} as well")
    add_user_dir(parser)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR, force=True)
    with command_line():
        import_user_dir(args)
        for path in export(load(args.checkpoint, "cpu"), args.folder, args.onnx):
            print(path)


if __name__ == "__main__":
    main()
