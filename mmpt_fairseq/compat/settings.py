"""Checks of a training's settings where fairseq fails with a traceback, later, or not at all."""

import importlib.util

import torch
from fairseq.dataclass.configs import CheckpointConfig

from manifests.errors import exit_with_message

NO_VALIDATION = 100_000  # a validate_interval, in epochs, that no training reaches


def check_settings(cfg) -> None:
    """End a training with one sentence if its settings cannot work, alone or on this machine.

    Args:
        cfg: fairseq's whole config.
    """
    common, dataset, checkpoint = cfg.common, cfg.dataset, cfg.checkpoint
    if (common.fp16 or common.memory_efficient_fp16) and not torch.cuda.is_available():
        exit_with_message("common.fp16=true needs a GPU; on a CPU set common.bf16=true")
    asynchronous = checkpoint.write_checkpoints_asynchronously
    if asynchronous and importlib.util.find_spec("iopath") is None:
        exit_with_message(
            "checkpoint.write_checkpoints_asynchronously=true needs the package iopath; install "
            "it, or leave the option out"
        )
    if dataset.max_tokens is None and dataset.batch_size is None:
        exit_with_message("set dataset.max_tokens or dataset.batch_size: one limits a batch")
    if min(cfg.optimization.update_freq) < 1:
        exit_with_message("optimization.update_freq counts batches per update: 1 or more")
    in_16_bits = common.fp16 or common.bf16
    if in_16_bits and len(cfg.optimization.update_freq) > 1 and common.fp16_scale_window is None:
        exit_with_message(
            "optimization.update_freq changes between epochs, for which 16 bits need "
            "common.fp16_scale_window; set it, for instance to 128"
        )
    _check_plateau(cfg)
    _check_finetuning(checkpoint)


def _check_plateau(cfg) -> None:
    """fairseq lowers the rate by a validation at the end of an epoch, but not by others."""
    scheduler, every = cfg.lr_scheduler._name, cfg.dataset.validate_interval
    if scheduler == "reduce_lr_on_plateau" and every >= NO_VALIDATION:
        exit_with_message(
            "lr_scheduler._name=reduce_lr_on_plateau lowers the rate after validations at the end "
            f"of an epoch, and dataset.validate_interval={every} makes none; set it to 1"
        )


def _check_finetuning(checkpoint) -> None:
    """fairseq's ``finetune_from_model`` resets everything, and cannot be combined."""
    if checkpoint.finetune_from_model is None:
        return
    names = "reset_optimizer", "reset_lr_scheduler", "reset_meters", "reset_dataloader"
    given = [f"checkpoint.{name}" for name in names if checkpoint[name]]
    if checkpoint.restore_file != CheckpointConfig.restore_file:
        given.append("checkpoint.restore_file")
    if given:
        exit_with_message(
            "checkpoint.finetune_from_model resets everything by itself; leave out "
            f"{', '.join(given)}"
        )
