"""Every workaround for a version of fairseq, torch, Hydra or omegaconf, each with its reason.

Importing this package applies them; it is what ours imports first. What has an issue upstream names
it; the rest was found in fairseq-fixed 0.12.3.1 and torch 2.13 by reading them.
"""

from mmpt_fairseq.compat import light_fairseq  # isort: skip  (before anything imports fairseq)
from mmpt_fairseq.compat import configs
from mmpt_fairseq.compat.checkpoints import load_checkpoint_to_cpu
from mmpt_fairseq.compat.commands import mend_commands
from mmpt_fairseq.compat.libraries import package_paths

__all__ = ["configs", "light_fairseq", "load_checkpoint_to_cpu", "mend_commands", "package_paths"]
