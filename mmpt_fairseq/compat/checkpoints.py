"""Reading and copying checkpoints: what torch allows, and faults in one sentence."""

import argparse
import collections
import os
import pickle
import shutil
import struct
import typing

import omegaconf
import torch
from fairseq import checkpoint_utils
from fairseq.data import Dictionary
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager

from manifests.errors import InputError, exit_on_input_error, exit_with_message

# fairseq #5610: torch 2.6 loads with weights_only=True, which refuses what fairseq's checkpoints
# hold beside tensors. These are plain containers: none runs code when it is read.
SAFE_CLASSES = [
    argparse.Namespace,
    omegaconf.DictConfig,
    omegaconf.ListConfig,
    omegaconf.base.ContainerMetadata,
    omegaconf.base.Metadata,
    omegaconf.nodes.AnyNode,
    collections.defaultdict,
    dict,
    int,
    list,
    typing.Any,
    Dictionary,  # HuBERT's checkpoints carry theirs
    # fairseq's broadcast of the optimizer's state when several processes resume
    distributed_utils._TensorPlaceholder,
]
torch.serialization.add_safe_globals(SAFE_CLASSES)

_fairseq_load = checkpoint_utils.load_checkpoint_to_cpu


def load_checkpoint_to_cpu(path: str, *args, **kwargs) -> dict:
    """fairseq's loader, with a fault in the file said in one sentence.

    torch's own message for a refused pickle advises to switch the protection off.

    Raises:
        InputError: the file holds code, is cut short, or is no checkpoint of fairseq.
    """
    try:
        return _fairseq_load(path, *args, **kwargs)
    except pickle.UnpicklingError as error:
        _, named, rest = str(error).partition("GLOBAL ")
        culprit = rest.partition(" ")[0] if named else ""
        raise InputError(
            f"{path} was refused: it holds "
            + (f"{culprit}, which could run code" if culprit else "what no checkpoint holds")
            + "; nothing of it was run. Give a checkpoint that fairseq wrote"
        ) from None
    # torch reads a file of another kind as a pickle, and stumbles somewhere in it.
    except (EOFError, RuntimeError, IndexError, ValueError, struct.error) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path} is no readable checkpoint ({reason}); was it cut short?"
        ) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no checkpoint of fairseq ({type(error).__name__}: {error}); give one that "
            "fairseq-hydra-train wrote"
        ) from None


def _load_or_exit(path: str, *args, **kwargs) -> dict:
    with exit_on_input_error():
        return load_checkpoint_to_cpu(path, *args, **kwargs)


# For fairseq's own calls, on resuming and in fairseq-generate.
checkpoint_utils.load_checkpoint_to_cpu = _load_or_exit


_fairseq_ensemble = checkpoint_utils.load_model_ensemble_and_task


def _ensemble_or_exit(filenames: list[str], *args, **kwargs) -> tuple:
    """fairseq-generate's loader, which ends in a traceback where there is no such file."""
    try:
        return _fairseq_ensemble(filenames, *args, **kwargs)
    except OSError as error:
        _, missing, path = str(error).partition("Model file not found: ")
        if not missing:
            raise
        exit_with_message(f"there is no checkpoint {path}; mend --path")


checkpoint_utils.load_model_ensemble_and_task = _ensemble_or_exit


def _copy_atomically(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
    """fairseq copies checkpoint_best.pt onto checkpoint_last.pt byte by byte: a kill meanwhile
    would leave a torso from which nothing can resume."""
    temporary = f"{dst_path}.part"
    shutil.copyfile(src_path, temporary)
    os.replace(temporary, dst_path)
    return True


PathManager.copy = staticmethod(_copy_atomically)
