"""Checks that every task makes at start-up."""

import glob
import logging
import os
import re
import shlex
import sys
from pathlib import Path

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.configs import CheckpointConfig
from hydra.core.hydra_config import HydraConfig
from omegaconf import MissingMandatoryValue

from manifests.errors import InputError
from mmpt_fairseq.checkpoint import load_checkpoint
from mmpt_fairseq.compat import patch_commands

logger = logging.getLogger(__name__)

HIGHER_IS_BETTER = re.compile(r"bleu|(.*_)?accuracy|.*_recall_\d+")
LOWER_IS_BETTER = re.compile(r"(.*_)?loss|ppl|clr|mae_\w+|wer|cer|per|der")
LAST = "checkpoint_last.pt"  # fairseq's default, the one name that it looks for in save_dir


def check_start(cfg: FairseqDataclass, from_checkpoint: bool = False) -> None:
    """Patch fairseq's commands, and report errors that are known before anything is loaded.

    Raises:
        InputError: there is no data folder (not needed with ``from_checkpoint``), a launcher
            started several processes but the config is for one, the DDP backend needs GPUs that
            are missing, the run has no checkpoint folder of its own, or it would keep its worst
            checkpoint.
    """
    patch_commands()
    if not from_checkpoint:
        # For mmpt-report: fairseq logs the resulting config, not the command line.
        logger.info("command: %s", shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]]))
        try:
            data = cfg.data
        except MissingMandatoryValue:
            sentence = "task.data is not set; set it to the folder of the manifests"
            raise InputError(sentence) from None
        if not os.path.isdir(data):
            raise InputError(f"there is no data folder {data}; check task.data")
        refuse_independent_processes(cfg)
        _refuse_gpu_backend(cfg)
        _refuse_default_save_dir(cfg)
        _check_direction(cfg)


def is_training_split(cfg: FairseqDataclass, split: str) -> bool:
    """Whether ``split`` is the training split; decoding and validation commands have none."""
    return cfg.decodes_with is None and split == cfg.train_subset


def is_validation_split(cfg: FairseqDataclass, split: str) -> bool:
    """Whether ``split`` is validated on during training."""
    return cfg.decodes_with is None and split != cfg.train_subset


def checkpoint_to_load(cfg: FairseqDataclass) -> str | None:
    """The checkpoint that fairseq is about to load, if any.

    Args:
        cfg: the task's config, which includes fairseq's checkpoint settings.

    Raises:
        InputError: ``restore_file`` or ``continue_once`` is missing, which fairseq would silently
            ignore; or ``save_dir`` has checkpoints but not the one to resume from.
    """
    name, once, suffix = cfg.restore_file, cfg.continue_once, cfg.checkpoint_suffix
    if name == LAST:
        last = os.path.join(cfg.save_dir, LAST.replace(".pt", f"{suffix}.pt"))
        if os.path.isfile(last):
            return last
        if once and not os.path.isfile(once):
            raise InputError(f"there is no checkpoint {once} (checkpoint.continue_once)")
        others = sorted(Path(cfg.save_dir).glob(f"checkpoint*[0-9t]{glob.escape(suffix)}.pt"))
        if others:
            raise InputError(
                f"{cfg.save_dir} has {others[-1].name} but not {os.path.basename(last)}, so a "
                "training would start anew and replace it; set checkpoint.restore_file to the one "
                "to resume from, or another checkpoint.save_dir"
            )
        return once or cfg.finetune_from_model
    name = name.replace(".pt", f"{suffix}.pt")
    if not os.path.isfile(name):
        raise InputError(
            f"there is no checkpoint {name} (checkpoint.restore_file); only the default, {LAST}, "
            "is looked up in checkpoint.save_dir"
        )
    return name


def loaded_checkpoint(cfg: FairseqDataclass) -> tuple[str, dict] | None:
    """Path and content of :func:`checkpoint_to_load`; None if the run starts anew.

    Raises:
        InputError: it is missing, or fairseq would restart at update 0 without being asked to:
            it restores the number of updates only with the optimizer state.
            ``finetune_from_model`` resets everything on purpose.
    """
    path = checkpoint_to_load(cfg)
    if path is None:
        return None
    checkpoint = load_checkpoint(path)
    restarts = cfg.reset_optimizer or path == cfg.finetune_from_model
    if checkpoint.get("last_optimizer_state") is None and not restarts:
        raise InputError(
            f"{path} has no optimizer state (it is an average, or was saved with "
            "checkpoint.no_save_optimizer_state), so resuming from it would repeat the warm-up; "
            "start a run in another folder with its weights (checkpoint.finetune_from_model, or "
            "in stages 2 and 3 model.init_encoder_from), or only evaluate it"
        )
    return path, checkpoint


def refuse_independent_processes(cfg: FairseqDataclass) -> None:
    """Raise InputError if a launcher started several processes but the config is for one.

    fairseq would run the whole training once per process, all writing the same checkpoints.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > 1 and cfg.distributed_world_size == 1:
        raise InputError(
            f"{started} processes were started (WORLD_SIZE) but the config trains on one; add "
            "+distributed=torchrun, or start one process"
        )


def _refuse_gpu_backend(cfg: FairseqDataclass) -> None:
    """Raise InputError if fairseq would pass a GPU index to torch's DDP on a machine without."""
    needs_gpus = cfg.decodes_with is None and str(cfg.ddp_backend) in ("c10d", "pytorch_ddp")
    if needs_gpus and cfg.distributed_world_size > 1 and not torch.cuda.is_available():
        raise InputError(
            f"distributed_training.ddp_backend={cfg.ddp_backend} needs GPUs; for several "
            "processes on CPUs set distributed_training.ddp_backend=legacy_ddp"
        )


def _refuse_default_save_dir(cfg: FairseqDataclass) -> None:
    """Raise InputError if ``save_dir`` is fairseq's default: each run would resume the last one.

    ``save_dir: ???`` in a config does not remove that default. Checked under Hydra only, since
    users of ``fairseq-train`` know the default.
    """
    # Processes that fairseq spawns for several GPUs have the command line, but no Hydra state.
    under_hydra = HydraConfig.initialized() or "hydra" in os.path.basename(sys.argv[0])
    if under_hydra and cfg.save_dir == CheckpointConfig.save_dir:
        raise InputError(
            f"checkpoint.save_dir is not set, and the default {cfg.save_dir} would be shared by "
            f"all such runs; set a folder for each run (to use this one, set "
            f"checkpoint.save_dir=./{cfg.save_dir})"
        )


def _check_direction(cfg: FairseqDataclass) -> None:
    """Raise InputError if the run would keep the checkpoint with the worst score as its best."""
    metric = str(cfg.best_checkpoint_metric)
    maximised = cfg.maximize_best_checkpoint_metric is True
    wrong = LOWER_IS_BETTER if maximised else HIGHER_IS_BETTER
    selects = cfg.decodes_with is None and cfg.disable_validation is not True
    if selects and wrong.fullmatch(metric):
        raise InputError(
            f"the checkpoint with the {'highest' if maximised else 'lowest'} {metric} is the worst "
            f"one; set checkpoint.maximize_best_checkpoint_metric={str(not maximised).lower()}"
        )
