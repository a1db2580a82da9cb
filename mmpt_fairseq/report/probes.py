"""A trained model with the data it is shown: what the pictures of the page are computed from."""

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
    """The model in ``checkpoint``, and the split that ``manifest`` is, untouched by augmentation.

    Raises:
        InputError: either is not there or not readable.
    """
    state = load_checkpoint(checkpoint)
    if not manifest.is_file():
        raise InputError(f"there is no manifest {manifest}; was it moved?")
    cfg = OmegaConf.create(state["cfg"])
    with open_dict(cfg):
        cfg.task.data = str(manifest.parent)
        # Tells the task that nothing is trained on, so that no row is left out or changed.
        cfg.task.decodes_with = str(checkpoint)
    task = tasks.setup_task(cfg.task)
    [model], _ = checkpoint_utils.load_model_ensemble([str(checkpoint)], task=task)
    model.eval()
    task.load_dataset(manifest.stem)
    return Probe(model, task, task.dataset(manifest.stem))


def usable(item: object) -> object:
    """A dataset's item; datasets hand out the fault of a clip that cannot be used in its place.

    Raises:
        UnreadableClip: it is one.
    """
    if isinstance(item, UnreadableClip):
        raise item
    return item


def attempt(function: Callable[..., Result], *arguments: object) -> tuple[Result | None, str]:
    """A result, or None and the reason.

    A page is written whatever became of checkpoints and clips: what cannot be shown is said in its
    place. So any failure ends here, also SystemExit, by which tasks leave fairseq's commands.
    """
    try:
        return function(*arguments), ""
    except (Exception, SystemExit) as error:
        reason = str(error).removeprefix("mmpt_fairseq: ").strip().splitlines()
        kind = "" if isinstance(error, (InputError, SystemExit)) else f"{type(error).__name__}: "
        return None, kind + (reason[0] if reason else type(error).__name__)
