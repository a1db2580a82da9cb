"""Read checkpoints, and load the encoder or decoder of one stage into the next, strictly."""

import hashlib
import logging
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor, nn

from manifests.errors import InputError
from mmpt_fairseq.compat import load_checkpoint_to_cpu
from mmpt_fairseq.modules.conformer import ConformerEncoder

logger = logging.getLogger(__name__)

OURS = "mmpt_"  # how the names of this project's models begin
ENCODER = "audio_encoder."
DECODER = "decoder."
CTC_HEAD = "encoder.ctc_projection."


def load_checkpoint(path: str | Path) -> dict:
    """Load a fairseq checkpoint as a dict on the CPU without running any code in it.

    Raises:
        InputError: there is no such file, or it is not a fairseq checkpoint or contains code.
    """
    if Path(path).is_dir():
        raise InputError(f"{path} is a folder; name a checkpoint in it, such as checkpoint_best.pt")
    if not Path(path).is_file():
        raise InputError(f"there is no checkpoint {path}")
    return load_checkpoint_to_cpu(str(path))


def settings_of(checkpoint: dict, part: str) -> dict:
    """The ``task``, ``model`` or other ``part`` of a checkpoint's training config.

    Empty if unknown, as in checkpoints of old fairseq versions.
    """
    return (checkpoint.get("cfg") or {}).get(part) or {}


def updates_of(checkpoint: dict) -> int:
    """Number of updates after which a checkpoint was saved."""
    return int(checkpoint["optimizer_history"][-1]["num_updates"])


def encoder_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Audio encoder tensors from a model of any stage, named as in the encoder's state dict."""
    return {
        name.split(ENCODER, 1)[1]: tensor for name, tensor in state.items() if _is_encoder(name)
    }


def load_encoder(encoder: ConformerEncoder, path: str | Path, fresh_layers: int = 0) -> None:
    """Load the audio encoder (convolutional subsampling and Conformer) of an earlier stage.

    Args:
        fresh_layers: number of last Conformer layers that keep their new initialisation. They are
            the ones most specific to the earlier task (arXiv 2006.05987).

    Raises:
        InputError: the checkpoint has no audio encoder or one of a different size, or there are
            fewer than ``fresh_layers`` layers.
    """
    checkpoint = load_checkpoint(path)
    state = checkpoint["model"]
    loaded = encoder_state(state)
    if not loaded:
        raise InputError(f"{path} has no audio encoder; give a checkpoint of stage 1 or 2")
    expected = encoder.state_dict()
    _compare(expected, loaded, path)
    _compare_settings(
        "encoder", _shapeless_settings(encoder), settings_of(checkpoint, "model"), path
    )
    kind = str(settings_of(checkpoint, "model").get("_name", ""))
    if not kind.startswith(OURS):
        logger.warning(
            "%s is of the model %s: if its encoder computes anything else than this one, the "
            "states are wrong, because only weights are loaded",
            path,
            kind or "unknown",
        )
    fresh = _last_layers(expected, fresh_layers)
    encoder.load_state_dict({**loaded, **fresh}, strict=True)
    loaded = {name: tensor for name, tensor in loaded.items() if name not in fresh}
    unused = Counter(".".join(name.split(".")[:2]) for name in state if not _is_encoder(name))
    values = sum(t.numel() for t in loaded.values())
    logger.info("loaded %d tensors (%d values) of the encoder from %s", len(loaded), values, path)
    if fresh_layers:
        logger.info("the last %d layers of the encoder are newly initialised", fresh_layers)
    logger.info(
        "not loaded: %s",
        ", ".join(f"{name} ({count})" for name, count in sorted(unused.items())) or "nothing",
    )


def _shapeless_settings(encoder: ConformerEncoder) -> dict[str, object]:
    """Encoder settings that affect its output but no tensor shape, by their ``model`` config key.

    Their values are part of :func:`encoder_digest`: adding one invalidates all stored states.
    """
    return {
        "encoder_attention_heads": encoder.layers[0].attention.heads,
        "encoder_positions": encoder.positions,
    }


def encoder_digest(encoder: ConformerEncoder) -> str:
    """Hash of all that determines the encoder's output: exact weights, heads and positions."""
    return weights_digest(encoder, " ".join(map(str, _shapeless_settings(encoder).values())))


def weights_digest(module: nn.Module, settings: str = "") -> str:
    """Hash of the exact weights of a module and of additional settings."""
    digest = hashlib.sha256()
    digest.update(settings.encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def load_decoder(model: nn.Module, path: str | Path, task_state: dict) -> None:
    """Load the decoder from a checkpoint of stage 2 or 3 with the same vocabulary.

    The CTC head is loaded too if both have one; otherwise the model's is newly initialised, or the
    checkpoint's is not used. Stage 2's recipes have none, stage 3's have one.

    Args:
        model: a model of stage 2 or 3.
        task_state: state of its training task, with the vocabulary.

    Raises:
        InputError: there is no decoder, or one with a different vocabulary or size.
    """
    checkpoint = load_checkpoint(path)
    saved = checkpoint.get("task_state") or {}
    if "vocabulary" not in saved:
        raise InputError(
            f"{path} has no decoder; set model.init_decoder_from to a checkpoint of stage 2 or 3"
        )
    if not same_vocabulary(task_state, saved):
        raise InputError(
            f"the decoder in {path} has another vocabulary ({len(saved['vocabulary'])} entries) "
            f"than the data folder ({len(task_state['vocabulary'])}); train with the decoder's "
            "dict.txt, spm.model and config.yaml, or leave out model.init_decoder_from"
        )
    states = model.state_dict(), checkpoint["model"]
    ours, theirs = (any(k.startswith(CTC_HEAD) for k in state) for state in states)
    parts = (DECODER, CTC_HEAD) if ours and theirs else (DECODER,)
    expected, loaded = ({k: v for k, v in s.items() if k.startswith(parts)} for s in states)
    differing = expected.keys() ^ loaded.keys()
    differing |= {
        k for k in expected.keys() & loaded.keys() if expected[k].shape != loaded[k].shape
    }
    if differing:
        raise InputError(
            f"the decoder in {path} has another size ({len(differing)} tensors differ, first "
            f"{min(differing)}); set model.decoder_layers and the other sizes to match it"
        )
    if model.has_decoder:
        settings = {"decoder_attention_heads": model.decoder.layers[0].self_attn.num_heads}
        _compare_settings("decoder", settings, settings_of(checkpoint, "model"), path)
    model.load_state_dict({**states[0], **loaded}, strict=True)
    head = {
        (True, True): "with its CTC head",
        (True, False): "which has no CTC head: a new one is initialised",
        (False, True): "whose CTC head is not loaded",
    }.get((ours, theirs), "which has no CTC head either")
    logger.info("loaded %d tensors of the decoder from %s, %s", len(loaded), path, head)


def same_vocabulary(ours: dict, theirs: dict) -> bool:
    """Whether two task states of stages 2 and 3 tokenise texts in the same way."""
    # Byte tensors: comparing them as lists would take seconds.
    return list(ours["vocabulary"]) == list(theirs["vocabulary"]) and torch.equal(
        ours["sentencepiece"], theirs["sentencepiece"]
    )


def _last_layers(state: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """The tensors of the last ``count`` Conformer layers."""
    layers = _layers(state)
    if not 0 <= count <= layers:
        raise InputError(
            f"model.fresh_encoder_layers={count} is not between 0 and the encoder's {layers} layers"
        )
    names = tuple(f"layers.{i}." for i in range(layers - count, layers))
    return {name: tensor for name, tensor in state.items() if name.startswith(names)}


def _is_encoder(name: str) -> bool:
    return name.startswith((ENCODER, "encoder." + ENCODER))


def _compare(expected: dict[str, Tensor], loaded: dict[str, Tensor], path: str | Path) -> None:
    missing, surplus = (
        sorted(expected.keys() - loaded.keys()),
        sorted(loaded.keys() - expected.keys()),
    )
    if missing or surplus:
        ours, theirs = _layers(expected), _layers(loaded)
        remedy = f"set model.encoder_layers={theirs} and other sizes to match"
        if ours == theirs:
            remedy = "it is made of other modules: set model._name to a model with the same encoder"
        raise InputError(
            f"the encoder in {path} has {theirs} layers and this one has {ours} "
            f"({len(missing)} tensors missing, {len(surplus)} unexpected, first "
            f"{(missing + surplus)[0]}); {remedy}"
        )
    for name, tensor in loaded.items():
        if tensor.shape != expected[name].shape:
            raise InputError(
                f"the encoder in {path} has another size: {name} is {tuple(tensor.shape)} there "
                f"and {tuple(expected[name].shape)} here; set model.encoder_embed_dim, "
                "model.encoder_ffn_embed_dim and model.depthwise_conv_kernel_size to match it"
            )


def _compare_settings(
    part: str, ours: dict[str, object], saved: dict[str, object], path: str | Path
) -> None:
    """Compare settings that tensor shapes do not show, such as the number of heads."""
    for name, value in ours.items():
        if name in saved and str(saved[name]) != str(value):
            raise InputError(
                f"the {part} in {path} was trained with {name}={saved[name]} and this one has "
                f"{value}; set model.{name}={saved[name]}"
            )


def _layers(state: dict[str, Tensor]) -> int:
    return len({name.split(".")[1] for name in state if name.startswith("layers.")})
