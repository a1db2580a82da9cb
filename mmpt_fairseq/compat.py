"""Every workaround for a version of fairseq, torch, Hydra or omegaconf, each with its reason.

Importing this module applies them; it is the first thing the package imports.
"""

import argparse
import collections
import functools
import os
import pickle
import sys
import typing
import warnings

import omegaconf
import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils

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
    # fairseq's broadcast of the optimizer's state when several processes resume
    distributed_utils._TensorPlaceholder,
]
torch.serialization.add_safe_globals(SAFE_CLASSES)


def _refuse_code(load: typing.Callable) -> typing.Callable:
    """torch's own message for a refused pickle advises to switch the protection off."""

    @functools.wraps(load)
    def load_safely(path, *args, **kwargs):
        try:
            return load(path, *args, **kwargs)
        except pickle.UnpicklingError as error:
            culprit = (
                str(error).split("GLOBAL ")[-1].split(" ")[0] if "GLOBAL" in str(error) else ""
            )
            raise SystemExit(
                f"mmpt_fairseq: {path} was refused: it holds "
                + (f"{culprit}, which could run code" if culprit else "what no checkpoint holds")
                + "; nothing of it was run. Only load checkpoints of fairseq"
            ) from None
        except (EOFError, RuntimeError) as error:
            raise SystemExit(
                f"mmpt_fairseq: {path} is no readable checkpoint ({str(error).splitlines()[0]}); "
                "was it cut short?"
            ) from None

    return load_safely


checkpoint_utils.load_checkpoint_to_cpu = _refuse_code(checkpoint_utils.load_checkpoint_to_cpu)

# fairseq-fixed still calls torch.cuda.amp.autocast(args...), deprecated since torch 2.4: one
# warning for every training step.
warnings.filterwarnings("ignore", r"`torch\.cuda\.amp\.autocast", FutureWarning)
# fairseq registers sequence masks of two types with torch's attention, which warns at every call
# (fairseq's decoder; the masks are right).
warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask and attn_mask")
warnings.filterwarnings("ignore", "'pin_memory' argument is set as true but no accelerator")


def package_paths(folder: str) -> list[str]:
    """Every name under which ``sys.path`` reaches a package's folder, the given one first.

    fairseq compares --user-dir with ``__path__`` letter by letter and calls a package "not
    globally unique" when an editable install's link and its checkout are named in turn
    (av_hubert #84).
    """
    name = os.path.basename(folder)
    candidates = [folder, os.path.realpath(folder)]
    candidates += [os.path.join(os.path.abspath(entry), name) for entry in sys.path]
    same = [c for c in candidates if os.path.isdir(c) and os.path.samefile(c, folder)]
    return list(dict.fromkeys(same))
