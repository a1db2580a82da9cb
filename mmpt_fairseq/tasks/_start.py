"""What every task of ours looks at before it begins."""

import logging
import os
import re
import shlex
import sys

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.configs import CheckpointConfig
from hydra.core.hydra_config import HydraConfig
from omegaconf import MissingMandatoryValue

from manifests.errors import InputError
from mmpt_fairseq.compat import mend_commands

logger = logging.getLogger(__name__)

HIGHER_IS_BETTER = re.compile(r"bleu|accuracy|.*_recall_\d+")
LOWER_IS_BETTER = re.compile(r"loss|.*_loss|mae_\w+|wer|cer|per|der")
LAST = "checkpoint_last.pt"  # fairseq's default, the one name that it looks for in save_dir


def check_start(cfg: FairseqDataclass, from_checkpoint: bool = False) -> None:
    """What can be known to be wrong before anything is loaded, and fairseq's commands mended.

    Raises:
        InputError: there is no data folder (a model alone does without), a launcher started
            several processes and the config is for one, or is for processes on GPUs that are not
            there, a training has no folder of its own, or would keep its worst checkpoint.
    """
    mend_commands()
    if not from_checkpoint:
        # For mmpt-report: fairseq logs the config that came of it, not what was typed.
        logger.info("command: %s", shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]]))
        try:
            data = cfg.data
        except MissingMandatoryValue:
            sentence = "task.data is not set; give the folder of the manifests"
            raise InputError(sentence) from None
        if not os.path.isdir(data):
            raise InputError(f"there is no data folder {data}; check task.data")
        refuse_lone_process(cfg)
        _refuse_wrapper_of_gpus(cfg)
        _refuse_shared_folder(cfg)
        _check_direction(cfg)


def is_training_split(cfg: FairseqDataclass, split: str) -> bool:
    """Whether ``split`` is what is trained on; in a decode or validation no split is."""
    return cfg.decodes_with is None and split == cfg.train_subset


def is_validation_split(cfg: FairseqDataclass, split: str) -> bool:
    """Whether ``split`` is what a training is validated on."""
    return cfg.decodes_with is None and split != cfg.train_subset


def restored(cfg: FairseqDataclass) -> str | None:
    """The checkpoint that fairseq is about to load, if any.

    Args:
        cfg: the task's, which knows what fairseq's checkpoint settings say.

    Raises:
        InputError: it would go on without one that was named.
    """
    name, last = cfg.restore_file, os.path.join(cfg.save_dir, LAST)
    if name == LAST:
        return last if os.path.isfile(last) else cfg.finetune_from_model
    if not os.path.isfile(name):
        raise InputError(
            f"there is no checkpoint {name} (checkpoint.restore_file); only {LAST}, its default, "
            "is looked for in checkpoint.save_dir"
        )
    return name


def refuse_lone_process(cfg: FairseqDataclass) -> None:
    """Stop when a launcher started several processes but the config is for one.

    fairseq would run the whole training once per process, all writing the same checkpoints.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > 1 and cfg.distributed_world_size == 1:
        raise InputError(
            f"{started} processes were started (WORLD_SIZE) but the config trains on one; add "
            "+distributed=torchrun, or start one process"
        )


def _refuse_wrapper_of_gpus(cfg: FairseqDataclass) -> None:
    """Stop a training where fairseq would hand torch's wrapper, its default, a GPU's number."""
    of_gpus = cfg.decodes_with is None and str(cfg.ddp_backend) in ("c10d", "pytorch_ddp")
    if of_gpus and cfg.distributed_world_size > 1 and not torch.cuda.is_available():
        raise InputError(
            f"distributed_training.ddp_backend={cfg.ddp_backend} wants GPUs; for several "
            "processes on CPUs set distributed_training.ddp_backend=legacy_ddp"
        )


def _refuse_shared_folder(cfg: FairseqDataclass) -> None:
    """Stop where fairseq's default stands in for a folder that nobody named: ``save_dir: ???``
    does not take it away, and every training would go on from the one before.

    Hydra alone is asked: users of ``fairseq-train`` know its default.
    """
    # Processes that fairseq spawns for several GPUs have the command line, but not Hydra's state.
    by_hydra = HydraConfig.initialized() or "hydra" in os.path.basename(sys.argv[0])
    if by_hydra and cfg.save_dir == CheckpointConfig.save_dir:
        raise InputError(
            f"checkpoint.save_dir is not set, and {cfg.save_dir} would be shared by all such "
            f"trainings; give each a folder of its own (if this one it is to be, "
            f"checkpoint.save_dir=./{cfg.save_dir})"
        )


def _check_direction(cfg: FairseqDataclass) -> None:
    """Stop a training that would keep the checkpoint with the worst score as its best."""
    metric = str(cfg.best_checkpoint_metric)
    maximised = cfg.maximize_best_checkpoint_metric is True
    wrong = LOWER_IS_BETTER if maximised else HIGHER_IS_BETTER
    chooses = cfg.decodes_with is None and cfg.disable_validation is not True
    if chooses and wrong.fullmatch(metric):
        raise InputError(
            f"the checkpoint with the {'highest' if maximised else 'lowest'} {metric} is the worst "
            f"one; set checkpoint.maximize_best_checkpoint_metric={str(not maximised).lower()}"
        )
