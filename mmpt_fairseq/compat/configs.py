"""Configs that fairseq checks before a training starts, and what two of them differ in."""

import argparse
import difflib
import logging
import zipfile
from collections.abc import Iterable

import omegaconf
import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass import utils as dataclass_utils
from fairseq.models import ARCH_MODEL_NAME_REGISTRY, MODEL_REGISTRY
from fairseq.registry import REGISTRIES
from fairseq.tasks import TASK_REGISTRY

from manifests.errors import exit_with_message

# What a training can be another by.
PARTS = "task", "model", "criterion", "optimizer", "lr_scheduler", "optimization", "dataset"
SAVED = *PARTS, "checkpoint"
# Keys of these that change nothing of what is learnt, or nothing of a training that goes on.
NO_MATTER = (
    *("num_workers", "num_workers_valid", "data_buffer_size", "tensorboard_logdir", "save_dir"),
    *("init_encoder_from", "init_decoder_from", "best_checkpoint_metric", "disable_validation"),
)

logger = logging.getLogger(__name__)

_fairseq_merge = dataclass_utils.merge_with_parent


def _merge_or_exit(dc: FairseqDataclass, cfg: omegaconf.DictConfig, *args, **kwargs):
    """fairseq's checking of a part's config against its dataclass, which ends in a traceback."""
    try:
        merged = _fairseq_merge(dc, cfg, *args, **kwargs)
    except omegaconf.errors.OmegaConfBaseException as error:
        part, key = cfg.get("_name"), error.full_key
        remedy = f" ({str(error.msg).splitlines()[0]}); correct it"
        if isinstance(error, omegaconf.errors.ConfigKeyError):
            near = difflib.get_close_matches(str(key), dc.__dataclass_fields__, n=1)
            remedy = f"; did you mean {near[0]}?" if near else "; leave it out"
            exit_with_message(f"{part} has no key {key}{remedy}")
        exit_with_message(f"{part} cannot take its {key}{remedy}")
    _check_cosine(merged)
    return merged


def _check_cosine(cfg: omegaconf.DictConfig) -> None:
    """The schedule divides by the updates that are left after its warm-up."""
    cosine = cfg.get("_name") == "cosine" and cfg.lr_period_updates <= 0
    if cosine and 0 < cfg.max_update < cfg.warmup_updates:
        sentence = "all %d updates lie in the warm-up of %d; set lr_scheduler.warmup_updates lower"
        logger.warning(sentence, cfg.max_update, cfg.warmup_updates)
    if cosine and cfg.max_update == cfg.warmup_updates:
        exit_with_message(
            f"optimization.max_update={cfg.max_update} ends with the warm-up; set "
            "lr_scheduler.warmup_updates lower"
        )


# Where fairseq checks every part before a training starts.
dataclass_utils.merge_with_parent = _merge_or_exit


def check_names(cfg: omegaconf.DictConfig) -> None:
    """fairseq ends in a traceback where a part's ``_name`` is one that there is not."""
    known = {
        "task": TASK_REGISTRY,
        "model": MODEL_REGISTRY | ARCH_MODEL_NAME_REGISTRY,
        **{part: REGISTRIES[part]["registry"] for part in ("criterion", "optimizer")},
        "lr_scheduler": REGISTRIES["lr_scheduler"]["registry"],
    }
    for part, names in known.items():
        name = _as_dict(cfg.get(part)).get("_name")
        if isinstance(name, str) and name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            ours = sorted(n for n in names if n.startswith("mmpt_"))
            remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(ours or names)}"
            exit_with_message(f"{part}._name={name} is none that there is; {remedy}")


def _as_dict(part: object) -> dict:
    """A part of a config, which fairseq keeps as a namespace where a model has no dataclass, or as
    its name alone."""
    if isinstance(part, argparse.Namespace):
        return vars(part)
    return {"_name": part} if isinstance(part, str) else dict(part or {})


def plain(cfg: omegaconf.DictConfig) -> dict[str, dict]:
    """The parts of a config as fairseq keeps them in checkpoints."""
    container = omegaconf.OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    return {name: _as_dict(part) for name, part in container.items() if name in SAVED}


def saved_config(checkpoint: str) -> dict[str, dict]:
    """That of the training which wrote a checkpoint, likewise; {} of none.

    Tensors are not read, but of a checkpoint in torch's old format.
    """
    new = zipfile.is_zipfile(checkpoint)
    cfg = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=new).get("cfg")
    if isinstance(cfg, omegaconf.DictConfig):
        return plain(cfg)
    return {name: _as_dict(part) for name, part in (cfg or {}).items() if name in SAVED}


def differences(ours: dict[str, dict], theirs: dict[str, dict], parts: Iterable[str]) -> str:
    """What two configs set otherwise, ``model.dropout=0.1 (there 0.2), ...``; keys of both alone,
    and of those only what can change a training."""
    return ", ".join(
        f"{part}.{key}={value} (there {theirs[part][key]})"
        for part in parts
        for key, value in ours.get(part, {}).items()
        if key in theirs.get(part, {}) and theirs[part][key] != value and key not in NO_MATTER
    )
