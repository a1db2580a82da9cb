"""Reading and copying checkpoints: safe unpickling, and errors reported in one sentence."""

import argparse
import collections
import contextlib
import os
import pickle
import shutil
import struct
import time
import typing
from collections.abc import Iterator

import omegaconf
import torch
from fairseq import checkpoint_utils
from fairseq.data import Dictionary
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.models.ema.ema import EMA

from manifests.errors import InputError, exit_on_input_error, exit_with_message, reason_of

# fairseq #5610: torch 2.6 loads with weights_only=True, which refuses the non-tensor objects in
# fairseq's checkpoints. These are plain containers: none runs code when it is unpickled.
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
    Dictionary,  # HuBERT's checkpoints contain theirs
    # used when fairseq broadcasts the optimizer state to several resuming processes
    distributed_utils._TensorPlaceholder,
]
torch.serialization.add_safe_globals(SAFE_CLASSES)

_fairseq_load = checkpoint_utils.load_checkpoint_to_cpu


def load_checkpoint_to_cpu(path: str, *args, **kwargs) -> dict:
    """fairseq's loader, with errors in the file reported in one sentence.

    torch's own message for a refused pickle advises disabling the protection.

    Raises:
        InputError: the file contains code, is truncated, or is not a fairseq checkpoint.
    """
    try:
        return _fairseq_load(path, *args, **kwargs)
    except pickle.UnpicklingError as error:
        _, named, rest = str(error).partition("GLOBAL ")
        culprit = rest.partition(" ")[0] if named else ""
        if not culprit:
            raise InputError(
                f"{path} is not a checkpoint, or is damaged; give one written by "
                "fairseq-hydra-train"
            ) from None
        raise InputError(
            f"{path} was refused: it contains {culprit}, which could run code; no code was run. "
            "Give a checkpoint written by fairseq"
        ) from None
    # torch reads other kinds of files as a pickle and fails somewhere in it.
    except (EOFError, RuntimeError, IndexError, ValueError, struct.error) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path} is not a readable checkpoint ({reason}); is it truncated?"
        ) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not a fairseq checkpoint ({type(error).__name__}: {error}); give one "
            "written by fairseq-hydra-train"
        ) from None


checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu


def _load_or_exit(path: str, *args, **kwargs) -> dict:
    with exit_on_input_error():
        return load_checkpoint_to_cpu(path, *args, **kwargs)


_fairseq_ensemble = checkpoint_utils.load_model_ensemble_and_task


def _ensemble_or_exit(filenames: list[str], *args, **kwargs) -> tuple:
    """fairseq-generate's loader, with a message instead of a traceback for a missing file."""
    try:
        return _fairseq_ensemble(filenames, *args, **kwargs)
    except OSError as error:
        _, missing, path = str(error).partition("Model file not found: ")
        if not missing:
            raise
        exit_with_message(f"there is no checkpoint {path}; correct --path")


def exit_if_unreadable() -> None:
    """Let fairseq's commands end with a message for a checkpoint that cannot be loaded.

    Not wherever this package is imported: a notebook or a server can handle an exception.
    """
    checkpoint_utils.load_checkpoint_to_cpu = _load_or_exit
    checkpoint_utils.load_model_ensemble_and_task = _ensemble_or_exit


@contextlib.contextmanager
def weights_as_average() -> Iterator[None]:
    """Let ``ema.store_ema`` begin at the weights of a checkpoint that has no moving average.

    fairseq means to, but has deleted them by then.
    """
    load = checkpoint_utils.load_checkpoint_to_cpu

    def with_average(path: str, *args, **kwargs) -> dict:
        state = load(path, *args, **kwargs)
        if state.get("extra_state") is not None:
            state["extra_state"].setdefault("ema", state["model"])
        return state

    checkpoint_utils.load_checkpoint_to_cpu = with_average
    try:
        yield
    finally:
        checkpoint_utils.load_checkpoint_to_cpu = load


_fairseq_restore = EMA.restore


def _restore_with_version(average: EMA, state: dict, build_fp32_params: bool = False) -> None:
    """Update the moving average, with the version that fairseq's update leaves out of ``state``.

    Without it a Transformer decoder takes the state for an old one and drops its last layer norm.
    """
    versions = {k: v for k, v in average.model.state_dict().items() if k.endswith(".version")}
    _fairseq_restore(average, {**versions, **state}, build_fp32_params)


EMA.restore = _restore_with_version


_fairseq_save = checkpoint_utils.torch_persistent_save
SAVING_ATTEMPTS, SAVING_PAUSE = 3, 2.5  # as fairseq's; seconds


def _save_or_exit(state: dict, filename: str, async_write: bool = False) -> None:
    """Write a whole checkpoint or none; after an error try again, then end with a message.

    fairseq tries again in the same file, behind the remains of the failed attempt, and passes that
    off as a checkpoint. Interrupts count as errors there: torch turns Ctrl-C into one while it
    writes through Python.
    """
    if async_write or not PathManager.supports_rename(filename):
        _fairseq_save(state, filename, async_write)
        return
    temporary = f"{filename}.tmp"
    for attempt in range(SAVING_ATTEMPTS):
        try:
            torch.save(state, temporary)
            os.replace(temporary, filename)
            return
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.remove(temporary)
            if not isinstance(error, (OSError, RuntimeError)):
                raise
            reason = reason_of(error)
        if attempt + 1 < SAVING_ATTEMPTS:
            time.sleep(SAVING_PAUSE)
    exit_with_message(
        f"cannot write {filename} ({reason}); check the free space and the permissions, then run "
        "the same command again: it resumes from the last checkpoint that was written"
    )


checkpoint_utils.torch_persistent_save = _save_or_exit


def _copy_atomically(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
    """Copy via a temporary file.

    fairseq copies checkpoint_best.pt over checkpoint_last.pt in place: if killed meanwhile, it
    would leave a truncated file that training cannot resume from.
    """
    temporary = f"{dst_path}.part"
    shutil.copyfile(src_path, temporary)
    os.replace(temporary, dst_path)
    return True


PathManager.copy = staticmethod(_copy_atomically)
