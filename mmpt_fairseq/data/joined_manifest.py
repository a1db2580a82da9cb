"""Several manifests as one, for training on several splits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmpt_fairseq.data.manifest import Manifest


class JoinedManifest:
    """Several manifests concatenated.

    It has the part of :class:`Manifest` that stage 1 uses: ``n_frames``, ``video_frames``,
    ``filled``, ``where`` and ``resolve``. Paths are relative to the manifest that contains them.
    Unlike fairseq's ``ConcatDataset``, it lets one dataset order and batch all rows together by
    their modalities.
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
        part, row = self._locate(row)
        return part.where(row)

    def resolve(self, name: str, row: int, root: str | Path | None = None) -> str:
        """As :meth:`Manifest.resolve`."""
        part, row = self._locate(row)
        return part.resolve(name, row, root)

    def _locate(self, row: int) -> tuple[Manifest, int]:
        """The manifest that contains a row, and the row's number in it."""
        part = int(np.searchsorted(self._ends, row, side="right"))
        return self.parts[part], row - int(self._ends[part] - len(self.parts[part]))
