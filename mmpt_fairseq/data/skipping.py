"""Clips that cannot be used: training and its validations skip, count and report them; other
evaluation stops.

A loader worker cannot stop a run with one sentence, so it sends the fault along instead of the
clip. What it read is marked in shared memory, which the training process counts.
"""

import logging

import torch

from manifests.errors import InputError, UnreadableClip

logger = logging.getLogger(__name__)

READ, UNUSABLE = 1, 2  # states of a row
MAX_SHARE = 0.05  # of the rows read that cannot be used, looked at when so many could not be:
PATIENCE = 10  # or a quarter of those read, where these are few and were read some times over:
MIN_PASSES, MIN_READS = 3, 50  # each of them so often, and all together so often
LENGTH_TOLERANCE = 10  # frames that sound may last beyond what its manifest says: decoders differ


def check_length(frames: float, told: int, source: str) -> None:
    """Raise UnreadableClip for sound longer than ``n_frames``, by which batches are made."""
    if frames > told + LENGTH_TOLERANCE:
        raise UnreadableClip(
            f"{source} lasts {frames:.0f} frames of 10 ms, not {told} as column n_frames says; "
            "write its manifest again"
        )


class SkippedClips:
    """Which rows of a split were read, and which of them could not be.

    A row counts once, however often it is read: a run of many epochs, or of many validations, is
    not stopped by what its first one passed.

    Args:
        rows: of the split.
        tolerate: go on after an unusable clip (training, and the validations that belong to it).
    """

    def __init__(self, rows: int, tolerate: bool) -> None:
        self.tolerate = tolerate
        # A byte each in memory that workers share: what two of them write at once is both kept.
        self._states = torch.zeros(rows, dtype=torch.uint8).share_memory_()
        self._reads = torch.zeros(1, dtype=torch.long).share_memory_()  # about: two may be one
        self._news = torch.zeros(1, dtype=torch.uint8).share_memory_()  # since the last check

    @property
    def read(self) -> int:
        """Rows asked for so far."""
        return int(self._states.count_nonzero())

    @property
    def skipped(self) -> int:
        """Rows that could not be used so far."""
        return int((self._states == UNUSABLE).sum())

    def count_read(self, row: int) -> None:
        """A row was asked for."""
        self._reads += 1
        if not self._states[row]:
            self._states[row] = READ

    def report(self, row: int, where: str, error: UnreadableClip) -> UnreadableClip:
        """Count a clip out and say once which and why; the fault takes the clip's place."""
        known = self._states[row] == UNUSABLE
        self._states[row] = UNUSABLE
        self._news[0] = 1
        if self.tolerate and not known:
            logger.warning("skipped %s: %s (%d so far)", where, error, self.skipped)
        return UnreadableClip(f"{where}: {error}")

    def split_usable(self, samples: list) -> tuple[list, dict | None]:
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
        """Raise InputError when too large a share of the clips read was unusable.

        All rows are looked through only where one was unusable since the last time.
        """
        if not self.tolerate or not self._news:
            return
        self._news[0] = 0
        skipped, read, patience = self.skipped, self.read, PATIENCE
        if self._reads > max(MIN_READS, MIN_PASSES * read):
            patience = min(patience, read // 4)
        if skipped > max(patience, MAX_SHARE * read):
            self._news[0] = 1
            raise InputError(
                f"{skipped} of {read} clips could not be used so far, more than {MAX_SHARE:.0%}; "
                "the warnings above name them. Mend or leave out those rows"
            )
