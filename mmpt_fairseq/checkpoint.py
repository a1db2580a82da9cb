"""Checkpoints: what they say of their training, and taking encoder or decoder of one stage over to
the next, strictly."""

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

ENCODER = "audio_encoder."
DECODER = "decoder."
CTC_HEAD = "encoder.ctc_projection."


def load_checkpoint(path: str | Path) -> dict:
    """fairseq's checkpoint as a dict on the CPU, read without running any code in it.

    Raises:
        InputError: no such file, a folder, no checkpoint of fairseq, or one that holds code.
    """
    if Path(path).is_dir():
        raise InputError(f"{path} is a folder; name the checkpoint in it, as checkpoint_best.pt")
    if not Path(path).is_file():
        raise InputError(f"there is no checkpoint {path}")
    return load_checkpoint_to_cpu(str(path))


def settings_of(checkpoint: dict, part: str) -> dict:
    """What a training was told of its ``task``, ``model`` and so on; empty where it is not known,
    as in fairseq's checkpoints of old."""
    return (checkpoint.get("cfg") or {}).get(part) or {}


def updates_of(checkpoint: dict) -> int:
    """How many updates a training had made when it wrote this checkpoint."""
    return int(checkpoint["optimizer_history"][-1]["num_updates"])


def encoder_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The audio encoder's tensors of any stage's model, with names as inside the encoder."""
    return {
        name.split(ENCODER, 1)[1]: tensor for name, tensor in state.items() if _is_encoder(name)
    }


def load_encoder(encoder: ConformerEncoder, path: str | Path, fresh_layers: int = 0) -> None:
    """Take convolutional subsampling and Conformer over from an earlier stage, and nothing else.

    Args:
        fresh_layers: of the Conformer's last layers, how many stay as they are initialised. They
            are the ones that an earlier task has shaped most (arXiv 2006.05987).

    Raises:
        InputError: the checkpoint has no audio encoder, or one of another size; or there are
            fewer layers than are to stay fresh.
    """
    checkpoint = load_checkpoint(path)
    state = checkpoint["model"]
    taken = encoder_state(state)
    if not taken:
        raise InputError(f"{path} holds no audio encoder; give a checkpoint of stage 1 or 2")
    wanted = encoder.state_dict()
    _compare(wanted, taken, path)
    _compare_settings("encoder", _unseen_settings(encoder), settings_of(checkpoint, "model"), path)
    fresh = _last_layers(wanted, fresh_layers)
    encoder.load_state_dict({**taken, **fresh}, strict=True)
    taken = {name: tensor for name, tensor in taken.items() if name not in fresh}
    left = Counter(".".join(name.split(".")[:2]) for name in state if not _is_encoder(name))
    parameters = sum(t.numel() for t in taken.values())
    logger.info("took %d tensors (%d values) of the encoder from %s", len(taken), parameters, path)
    if fresh_layers:
        logger.info("the last %d layers of the encoder start fresh", fresh_layers)
    logger.info(
        "left behind: %s",
        ", ".join(f"{name} ({count})" for name, count in sorted(left.items())) or "nothing",
    )


def _unseen_settings(encoder: ConformerEncoder) -> dict[str, object]:
    """What it computes with and no tensor's shape shows, by the names of ``model``'s settings.

    Their values are part of :func:`encoder_digest`: one more would make all stored states others.
    """
    return {
        "encoder_attention_heads": encoder.layers[0].attention.heads,
        "encoder_positions": encoder.positions,
    }


def encoder_digest(encoder: ConformerEncoder) -> str:
    """A hash of what the encoder computes with: every weight to the bit, heads and positions."""
    return weights_digest(encoder, " ".join(map(str, _unseen_settings(encoder).values())))


def weights_digest(module: nn.Module, settings: str = "") -> str:
    """A hash of every weight to the bit, and of settings beside them."""
    digest = hashlib.sha256()
    digest.update(settings.encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def load_decoder(model: nn.Module, path: str | Path, task_state: dict) -> None:
    """Take the decoder over from stage 2 or 3, which must write the same vocabulary.

    The CTC head comes along where both have one. One that the checkpoint lacks starts fresh, and
    one that the model lacks is left behind: stage 2's recipes have none, stage 3's have one.

    Args:
        model: of stages 2 and 3.
        task_state: of the task that trains it, with its vocabulary.

    Raises:
        InputError: there is no such decoder, or one of another vocabulary or size.
    """
    checkpoint = load_checkpoint(path)
    saved = checkpoint.get("task_state") or {}
    if "vocabulary" not in saved:
        raise InputError(f"{path} holds no decoder; give model.init_decoder_from one of stage 2")
    if not same_vocabulary(task_state, saved):
        raise InputError(
            f"the decoder in {path} writes another vocabulary ({len(saved['vocabulary'])} entries) "
            f"than the data folder's ({len(task_state['vocabulary'])}); train on that vocabulary's "
            "dict.txt, spm.model and config.yaml, or leave model.init_decoder_from out"
        )
    states = model.state_dict(), checkpoint["model"]
    ours, theirs = (any(k.startswith(CTC_HEAD) for k in state) for state in states)
    parts = (DECODER, CTC_HEAD) if ours and theirs else (DECODER,)
    wanted, taken = ({k: v for k, v in s.items() if k.startswith(parts)} for s in states)
    differing = wanted.keys() ^ taken.keys()
    differing |= {k for k in wanted.keys() & taken.keys() if wanted[k].shape != taken[k].shape}
    if differing:
        raise InputError(
            f"the decoder in {path} is of another size ({len(differing)} tensors differ, the first "
            f"{min(differing)}); set model.decoder_layers and its other sizes alike"
        )
    if model.has_decoder:
        settings = {"decoder_attention_heads": model.decoder.layers[0].self_attn.num_heads}
        _compare_settings("decoder", settings, settings_of(checkpoint, "model"), path)
    model.load_state_dict({**states[0], **taken}, strict=True)
    head = {
        (True, True): "with its CTC head",
        (True, False): "which has no CTC head: that starts fresh",
        (False, True): "whose CTC head is left behind",
    }.get((ours, theirs), "which has no CTC head either")
    logger.info("took %d tensors of the decoder from %s, %s", len(taken), path, head)


def same_vocabulary(ours: dict, theirs: dict) -> bool:
    """Whether two states of stage 2's and 3's task spell texts alike."""
    # Byte tensors: compared as lists they take seconds.
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


def _compare(wanted: dict[str, Tensor], taken: dict[str, Tensor], path: str | Path) -> None:
    missing, surplus = sorted(wanted.keys() - taken.keys()), sorted(taken.keys() - wanted.keys())
    if missing or surplus:
        ours, theirs = _layers(wanted), _layers(taken)
        raise InputError(
            f"the encoder in {path} has {theirs} layers and this one {ours} "
            f"({len(missing)} tensors missing, {len(surplus)} too many, the first "
            f"{(missing + surplus)[0]}); set model.encoder_layers={theirs} and other sizes alike"
        )
    for name, tensor in taken.items():
        if tensor.shape != wanted[name].shape:
            raise InputError(
                f"the encoder in {path} is of another size: {name} is {tuple(tensor.shape)} there "
                f"and {tuple(wanted[name].shape)} here; set model.encoder_embed_dim, "
                "model.encoder_ffn_embed_dim and model.depthwise_conv_kernel_size to its sizes"
            )


def _compare_settings(
    part: str, ours: dict[str, object], saved: dict[str, object], path: str | Path
) -> None:
    """What no tensor's shape shows: another number of heads is another function."""
    for name, value in ours.items():
        if name in saved and str(saved[name]) != str(value):
            raise InputError(
                f"the {part} in {path} was trained with {name}={saved[name]} and this one has "
                f"{value}; set model.{name}={saved[name]}"
            )


def _layers(state: dict[str, Tensor]) -> int:
    return len({name.split(".")[1] for name in state if name.startswith("layers.")})
