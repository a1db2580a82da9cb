"""How much memory this process has used."""

import resource
import sys


def peak_memory_gb() -> float:
    """Peak resident memory of this process in GB (1e9 bytes), without data loader workers."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
