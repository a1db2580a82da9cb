"""Unusable clips: training and its validations skip, count and log them; other evaluations stop.

A loader worker cannot stop a run with a one-line message, so it returns the error instead of the
clip. It marks the rows it read in shared memory, where the training process counts them.
"""

import logging

import torch

from manifests.errors import InputError, UnreadableClip

logger = logging.getLogger(__name__)

READ, UNUSABLE = 1, 2  # states of a row
# Training stops if more than this fraction of the rows read, and more than MIN_UNUSABLE of them,
# are unusable. Of few rows, more than a quarter suffices once each has been read more than
# MIN_PASSES times on average, and all together more than MIN_READS times.
MAX_UNUSABLE_RATIO = 0.05
MIN_UNUSABLE = 10
MIN_PASSES, MIN_READS = 3, 50
LENGTH_TOLERANCE = 10  # frames by which audio may exceed its n_frames: decoders differ


def check_length(frames: float, declared: int, source: str) -> None:
    """Raise UnreadableClip for audio longer than ``n_frames``, from which batches are made."""
    if frames > declared + LENGTH_TOLERANCE:
        raise UnreadableClip(
            f"{source} lasts {frames:.0f} frames of 10 ms, not {declared} as column n_frames says; "
            "regenerate the manifest"
        )


class SkippedClips:
    """Track which rows of a split were read and which of them were unusable.

    A row counts once, however often it is read, so that later epochs or validations of a run do
    not stop at what the first one accepted.

    Args:
        rows: number of rows in the split.
        tolerate: continue after an unusable clip (training and its validations).
        kind: what the rows are, for messages.
    """

    def __init__(self, rows: int, tolerate: bool, kind: str = "clips") -> None:
        self.tolerate, self.kind = tolerate, kind
        # One byte per row in memory shared by the workers, so that concurrent writes are all kept.
        self._states = torch.zeros(rows, dtype=torch.uint8).share_memory_()
        self._reads = torch.zeros(1, dtype=torch.long).share_memory_()  # approximate: not atomic
        self._changed = torch.zeros(1, dtype=torch.uint8).share_memory_()  # since the last check

    @property
    def read(self) -> int:
        """Number of rows requested so far."""
        return int(self._states.count_nonzero())

    @property
    def skipped(self) -> int:
        """Number of rows found unusable so far."""
        return int((self._states == UNUSABLE).sum())

    def count_read(self, row: int) -> None:
        """Count a row as requested."""
        self._reads += 1
        if not self._states[row]:
            self._states[row] = READ

    def report(self, row: int, where: str, error: UnreadableClip) -> UnreadableClip:
        """Mark a row as unusable, log it once and return the error, which replaces the clip."""
        known = self._states[row] == UNUSABLE
        self._states[row] = UNUSABLE
        self._changed[0] = 1
        if self.tolerate and not known:
            logger.warning("skipped %s: %s (%d so far)", where, error, self.skipped)
        return UnreadableClip(f"{where}: {error}")

    def split_usable(self, samples: list) -> tuple[list, dict | None]:
        """Return the usable samples of a batch, and a replacement for the batch or None.

        An empty dict makes fairseq train on a dummy batch; ``unreadable`` makes the task stop.
        """
        errors = [str(s) for s in samples if isinstance(s, UnreadableClip)]
        usable = [s for s in samples if not isinstance(s, UnreadableClip)]
        if errors and not self.tolerate:
            empty = torch.zeros(0, 1, dtype=torch.long)
            return [], {"unreadable": errors, "net_input": {}, "target": empty}
        return usable, None if usable else {}

    def check(self) -> None:
        """Raise InputError if too large a fraction of the rows read was unusable.

        Rows are counted only if one has become unusable since the last check.
        """
        if not self.tolerate or not self._changed:
            return
        self._changed[0] = 0
        skipped, read, minimum = self.skipped, self.read, MIN_UNUSABLE
        if self._reads > max(MIN_READS, MIN_PASSES * read):
            minimum = min(minimum, read // 4)
        if skipped > max(minimum, MAX_UNUSABLE_RATIO * read):
            self._changed[0] = 1
            raise InputError(
                f"{skipped} of {read} {self.kind} could not be used so far, more than "
                f"{MAX_UNUSABLE_RATIO:.0%}; the warnings above name them. Fix or remove those rows"
            )
