"""Multi-stage multi-modal pre-training for speech recognition, a fairseq plugin.

Pass it as ``common.user_dir`` to fairseq's commands, or import it: either way its tasks, models
and criterions are registered once.
"""

from mmpt_fairseq import compat  # isort: skip  (first: it imports fairseq and patches it)
from mmpt_fairseq import criterions, models, scoring, tasks
from mmpt_fairseq.transcription import load

__path__ = compat.package_paths(__path__[0])
__version__ = "0.1.0"
__all__ = ["compat", "criterions", "load", "models", "scoring", "tasks"]
