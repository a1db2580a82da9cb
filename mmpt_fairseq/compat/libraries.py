"""What NumPy took away, what torch warns of without need, and how a package is found."""

import os
import sys
import types
import warnings

import numpy as np

# fairseq's TokenBlockDataset, on which its language models are trained, asks for np.compat.long;
# NumPy 2 took the module away. (Set by name: as an attribute linters take it for a use.)
vars(np)["compat"] = types.SimpleNamespace(long=int)


# fairseq-fixed still calls torch.cuda.amp.autocast(args...), deprecated since torch 2.4: one
# warning for every training step.
warnings.filterwarnings("ignore", r"`torch\.cuda\.amp\.autocast", FutureWarning)
# fairseq's decoder hands torch's attention masks of two types, which warns though they are right.
warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask and attn_mask")
# fairseq pins memory without a GPU too.
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
