"""Config checks before a training starts, and differences between two configs."""

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

# Config parts that can affect training.
PARTS = "task", "model", "criterion", "optimizer", "lr_scheduler", "optimization", "dataset"
SAVED_PARTS = *PARTS, "checkpoint"  # read back from checkpoints
# Keys of these parts that do not affect training, or not a resumed one.
IGNORED_KEYS = (
    *("num_workers", "num_workers_valid", "data_buffer_size", "tensorboard_logdir", "save_dir"),
    *("init_encoder_from", "init_decoder_from", "disable_validation"),
    *("best_checkpoint_metric", "maximize_best_checkpoint_metric"),
    *("restore_file", "finetune_from_model"),
)

logger = logging.getLogger(__name__)

_fairseq_merge = dataclass_utils.merge_with_parent


def _merge_or_exit(dc: FairseqDataclass, cfg: omegaconf.DictConfig, *args, **kwargs):
    """Check a config part against its dataclass, with messages instead of fairseq's tracebacks."""
    try:
        merged = _fairseq_merge(dc, cfg, *args, **kwargs)
    except omegaconf.errors.OmegaConfBaseException as error:
        part, key = cfg.get("_name"), error.full_key
        remedy = f" ({str(error.msg).splitlines()[0]}); correct it"
        if isinstance(error, omegaconf.errors.ConfigKeyError):
            near = difflib.get_close_matches(str(key), dc.__dataclass_fields__, n=1)
            remedy = f"; did you mean {near[0]}?" if near else "; leave it out"
            exit_with_message(f"{part} has no key {key}{remedy}")
        exit_with_message(f"{part} has an invalid {key}{remedy}")
    _check_cosine(merged)
    return merged


def _check_cosine(cfg: omegaconf.DictConfig) -> None:
    """Check that updates remain after the warm-up: the cosine schedule divides by their number."""
    cosine = cfg.get("_name") == "cosine" and cfg.lr_period_updates <= 0
    if cosine and 0 < cfg.max_update < cfg.warmup_updates:
        message = "all %d updates are within the warm-up; set lr_scheduler.warmup_updates=%d lower"
        logger.warning(message, cfg.max_update, cfg.warmup_updates)
    if cosine and cfg.max_update == cfg.warmup_updates:
        exit_with_message(
            f"optimization.max_update={cfg.max_update} leaves no updates after the warm-up; lower "
            "lr_scheduler.warmup_updates"
        )


# fairseq calls this for every part before a training starts.
dataclass_utils.merge_with_parent = _merge_or_exit


def check_names(cfg: omegaconf.DictConfig) -> None:
    """Check each part's ``_name``; fairseq exits with a traceback if it is not registered."""
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
            remedy = (
                f"did you mean {near[0]}?" if near else f"use one of {', '.join(ours or names)}"
            )
            exit_with_message(f"{part}._name={name} is not registered; {remedy}")


def _as_dict(part: object) -> dict:
    """A config part as a dict; fairseq may keep it as a namespace (models without a dataclass) or
    as a bare name."""
    if isinstance(part, argparse.Namespace):
        return vars(part)
    return {"_name": part} if isinstance(part, str) else dict(part or {})


def plain(cfg: omegaconf.DictConfig) -> dict[str, dict]:
    """The parts of a config as plain dicts, as fairseq saves them in checkpoints."""
    container = omegaconf.OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    return {name: _as_dict(part) for name, part in container.items() if name in SAVED_PARTS}


def saved_config(checkpoint: str) -> dict[str, dict]:
    """The training config in a checkpoint, in the form of :func:`plain`; empty if it has none.

    Tensors are not read, except with torch's legacy format.
    """
    new = zipfile.is_zipfile(checkpoint)
    cfg = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=new).get("cfg")
    if isinstance(cfg, omegaconf.DictConfig):
        return plain(cfg)
    return {name: _as_dict(part) for name, part in (cfg or {}).items() if name in SAVED_PARTS}


def differences(ours: dict[str, dict], theirs: dict[str, dict], parts: Iterable[str]) -> str:
    """Values that differ between two configs, as ``model.dropout=0.1 (checkpoint: 0.2), ...``.

    Only keys that both have and that can affect training are compared.
    """
    return ", ".join(
        f"{part}.{key}={value} (checkpoint: {theirs[part][key]})"
        for part in parts
        for key, value in ours.get(part, {}).items()
        if key in theirs.get(part, {}) and theirs[part][key] != value and key not in IGNORED_KEYS
    )
