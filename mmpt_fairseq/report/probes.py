"""Trained models loaded together with a data split, from which the figures are computed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from fairseq import checkpoint_utils, tasks
from fairseq.data import FairseqDataset
from fairseq.tasks import FairseqTask
from omegaconf import OmegaConf, open_dict

from manifests.errors import InputError, UnreadableClip
from mmpt_fairseq.checkpoint import load_checkpoint

Result = TypeVar("Result")


@dataclass
class Probe:
    """A model in evaluation mode with its task and one split."""

    model: torch.nn.Module
    task: FairseqTask
    dataset: FairseqDataset


def load_probe(checkpoint: Path, manifest: Path) -> Probe:
    """Load the model in ``checkpoint``, and ``manifest`` as a split without augmentation.

    Raises:
        InputError: either is missing or unreadable.
    """
    state = load_checkpoint(checkpoint)
    if not manifest.is_file():
        raise InputError(f"there is no manifest {manifest}; was it moved?")
    cfg = OmegaConf.create(state["cfg"])
    with open_dict(cfg):
        cfg.task.data = str(manifest.parent)
        # So that the task treats no split as training data, and omits or changes no row.
        cfg.task.decodes_with = str(checkpoint)
    task = tasks.setup_task(cfg.task)
    [model], _ = checkpoint_utils.load_model_ensemble([str(checkpoint)], task=task)
    model.eval()
    task.load_dataset(manifest.stem)
    return Probe(model, task, task.dataset(manifest.stem))


def usable_item(item: object) -> object:
    """Return a dataset's item, or raise it: datasets return the exception for an unusable clip.

    Raises:
        UnreadableClip: the item is one.
    """
    if isinstance(item, UnreadableClip):
        raise item
    return item


def attempt(function: Callable[..., Result], *arguments: object) -> tuple[Result | None, str]:
    """Return a function's result and "", or None and the error message.

    The report is written even if checkpoints or clips are unusable, with the reason in their place.
    So this catches every failure, including SystemExit, with which tasks abort fairseq's commands.
    """
    try:
        return function(*arguments), ""
    except (Exception, SystemExit) as error:
        reason = str(error).removeprefix("mmpt_fairseq: ").strip().splitlines()
        kind = "" if isinstance(error, (InputError, SystemExit)) else f"{type(error).__name__}: "
        return None, kind + (reason[0] if reason else type(error).__name__)
