"""Clips that cannot be used: training and its validations skip, count and report them; other
evaluation stops.

A loader worker cannot stop a run with one sentence, so it sends the fault along instead of the
clip. The counts live in shared memory: workers add to them, the training process reads them.
"""

import logging

import torch
from torch.utils.data import get_worker_info

from manifests.errors import InputError, UnreadableClip

logger = logging.getLogger(__name__)

SLOTS = 257  # of the training process and its workers
LONGER = 10  # frames that sound may last beyond what its manifest says: decoders differ


def check_length(frames: float, told: int, source: str) -> None:
    """Raise UnreadableClip for sound longer than ``n_frames``, by which batches are made."""
    if frames > told + LONGER:
        raise UnreadableClip(
            f"{source} lasts {frames:.0f} frames of 10 ms, not {told} as column n_frames says; "
            "write its manifest again"
        )


class SkippedClips:
    """How many clips of a split were read, and how many could not be.

    Args:
        tolerate: go on after an unusable clip (training, and the validations that belong to it).
        share: the largest share of unusable clips.
        patience: unusable clips before the share is looked at.
    """

    def __init__(self, tolerate: bool, share: float = 0.05, patience: int = 10) -> None:
        self.tolerate, self.share, self.patience = tolerate, share, patience
        # Read and skipped, of each worker apart: adding to shared memory is no atomic step.
        self._counts = torch.zeros(SLOTS, 2, dtype=torch.long).share_memory_()

    @property
    def read(self) -> int:
        """Clips asked for so far."""
        return int(self._counts[:, 0].sum())

    @property
    def skipped(self) -> int:
        """Clips that could not be used so far."""
        return int(self._counts[:, 1].sum())

    def count_read(self) -> None:
        """One more clip was asked for."""
        self._count(0)

    def _count(self, what: int) -> None:
        worker = get_worker_info()
        self._counts[0 if worker is None else 1 + worker.id % (SLOTS - 1), what] += 1

    def report(self, where: str, error: UnreadableClip) -> UnreadableClip:
        """Count a clip out and say which and why; the fault takes the clip's place."""
        self._count(1)
        if self.tolerate:
            logger.warning("skipped %s: %s (%d so far)", where, error, self.skipped)
        return UnreadableClip(f"{where}: {error}")

    def sort_out(self, samples: list) -> tuple[list, dict | None]:
        """The usable samples of a batch, and what to hand on instead if there is no using them.

        An empty dict makes fairseq train on a dummy batch; ``unreadable`` makes the task stop.
        """
        faults = [str(s) for s in samples if isinstance(s, UnreadableClip)]
        usable = [s for s in samples if not isinstance(s, UnreadableClip)]
        if faults and not self.tolerate:
            nothing = torch.zeros(0, 1, dtype=torch.long)
            return [], {"unreadable": faults, "net_input": {}, "target": nothing}
        return usable, None if usable else {}

    def check(self) -> None:
        """Raise InputError when too large a share of the clips read was unusable."""
        if self.tolerate and self.skipped > max(self.patience, self.share * self.read):
            raise InputError(
                f"{self.skipped} of the first {self.read} clips could not be used, more than "
                f"{self.share:.0%}; the warnings above name them. Mend or leave out those rows"
            )
