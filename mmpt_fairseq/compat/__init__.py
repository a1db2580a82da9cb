"""All workarounds for fairseq, torch, Hydra and omegaconf, each with its reason.

Importing this package applies them; ``mmpt_fairseq`` imports it first. Upstream issues are cited
where they exist; the rest was found by reading fairseq-fixed 0.12.3.1 and torch 2.13.
"""

from mmpt_fairseq.compat import light_fairseq  # isort: skip  (before anything imports fairseq)
from mmpt_fairseq.compat import configs, optimizers, threads
from mmpt_fairseq.compat.checkpoints import load_checkpoint_to_cpu
from mmpt_fairseq.compat.commands import patch_commands
from mmpt_fairseq.compat.libraries import package_paths

__all__ = [
    "configs",
    "light_fairseq",
    "load_checkpoint_to_cpu",
    "optimizers",
    "package_paths",
    "patch_commands",
    "threads",
]
