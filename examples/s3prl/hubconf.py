"""Entry point by which s3prl finds the upstream: ``-u mmpt_local -k checkpoint_best.pt``."""

import os

from .expert import UpstreamExpert as _UpstreamExpert


def mmpt_local(ckpt: str, *args, **kwargs) -> _UpstreamExpert:
    """Load the upstream from a local checkpoint."""
    if not os.path.isfile(ckpt):
        raise FileNotFoundError(f"there is no checkpoint {ckpt}; give it with -k")
    return _UpstreamExpert(ckpt, *args, **kwargs)
