"""A removed NumPy module, needless torch warnings, and the paths of a package."""

import os
import sys
import types
import warnings

import numpy as np

# fairseq's TokenBlockDataset, used to train language models, refers to np.compat.long, which NumPy
# 2 removed. (Set through vars(): linters would report the attribute as a use of np.compat.)
vars(np)["compat"] = types.SimpleNamespace(long=int)


# fairseq-fixed still calls torch.cuda.amp.autocast(args...), deprecated since torch 2.4: one
# warning per training step.
warnings.filterwarnings("ignore", r"`torch\.cuda\.amp\.autocast", FutureWarning)
# fairseq's decoder passes attention masks of two types, which is correct but warned about.
warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask and attn_mask")
# fairseq pins memory even without a GPU.
warnings.filterwarnings("ignore", "'pin_memory' argument is set as true but no accelerator")


def package_paths(folder: str) -> list[str]:
    """All paths by which ``sys.path`` reaches a package's folder, the given one first.

    fairseq compares --user-dir with ``__path__`` as strings and reports a package as "not globally
    unique" if it is named by an editable install's link once and by its checkout another time
    (av_hubert #84).
    """
    name = os.path.basename(folder)
    candidates = [folder, os.path.realpath(folder)]
    candidates += [os.path.join(os.path.abspath(entry), name) for entry in sys.path]
    same = [c for c in candidates if os.path.isdir(c) and os.path.samefile(c, folder)]
    return list(dict.fromkeys(same))
