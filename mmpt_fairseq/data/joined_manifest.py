"""Several manifests as one, for a training on several splits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmpt_fairseq.data.manifest import Manifest


class JoinedManifest:
    """Several manifests as one, the rows of each behind those before.

    It has what stage 1 asks of a :class:`Manifest`: ``n_frames``, ``video_frames``, ``filled``,
    ``where`` and ``resolve``. Paths are relative to the manifest that they stand in. For a dataset
    that orders and batches all rows by what they have, which fairseq's ``ConcatDataset`` would
    leave to each of several.
    """

    def __init__(self, parts: Sequence[Manifest]) -> None:
        self.parts = list(parts)
        self.path = ", ".join(str(part.path) for part in parts)  # for messages
        self.n_frames = np.concatenate([part.n_frames for part in parts])
        self.video_frames = np.concatenate([part.video_frames for part in parts])
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def filled(self, *names: str) -> np.ndarray:
        """As :meth:`Manifest.filled`."""
        return np.concatenate([part.filled(*names) for part in self.parts])

    def where(self, row: int) -> str:
        """As :meth:`Manifest.where`."""
        part, row = self._place(row)
        return part.where(row)

    def resolve(self, name: str, row: int, root: str | Path | None = None) -> str:
        """As :meth:`Manifest.resolve`."""
        part, row = self._place(row)
        return part.resolve(name, row, root)

    def _place(self, row: int) -> tuple[Manifest, int]:
        """The manifest that a row stands in, and its number there."""
        part = int(np.searchsorted(self._ends, row, side="right"))
        return self.parts[part], row - int(self._ends[part] - len(self.parts[part]))
