"""SUPERB's dataset: an upstream's input (filterbanks, samples or stored states) and a target."""

from dataclasses import dataclass

import numpy as np
import torch
from fairseq.data import FairseqDataset
from numpy.typing import NDArray
from torch import Tensor

from manifests.errors import UnreadableClip
from mmpt_fairseq.data.audio import FRAME_SHIFT, normalise, read_filterbank, read_states
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.rows import longest_first
from mmpt_fairseq.data.skipping import SkippedClips, check_length
from mmpt_fairseq.data.superb_labels import Labels
from mmpt_fairseq.data.waveform import read_waveform

# By the upstream's input. States are returned as (T, layers, D): all inputs are padded in dim 0.
READERS = {
    "filterbank": lambda source: normalise(read_filterbank(source)),
    "waveform": read_waveform,
    "states": lambda source: read_states(source).transpose(1, 0, 2),
}
# Audio samples per element of the input.
SAMPLES_PER_ELEMENT = {
    "filterbank": FRAME_SHIFT,
    "waveform": 1,
}


@dataclass
class Example:
    """One clip: ``source`` ``(T, F)``, ``(samples,)`` or ``(T, layers, D)``, and its target."""

    index: int
    source: Tensor
    target: Tensor


class SuperbDataset(FairseqDataset):
    """Clips of a manifest with the labels of a SUPERB task.

    Args:
        manifest: rows with the column that ``labels`` reads.
        reads: the upstream's input: ``filterbank``, ``waveform`` or ``states``.
        labels: targets.
        training: random order; unusable clips are skipped and counted. Otherwise the order is
            fixed and an unusable clip stops the run.
        audio_root: what paths are relative to; the manifest's folder by default.
        weights: of the rows, for weighted sampling in training; without them each row occurs once.
    """

    def __init__(
        self,
        manifest: Manifest,
        reads: str,
        labels: Labels,
        training: bool,
        audio_root: str | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        self.manifest, self.reads, self.labels = manifest, reads, labels
        self.training, self.root = training, audio_root
        self.weights = weights if training else None
        self.skipped = SkippedClips(len(manifest), tolerate=training)
        self.sizes = manifest.n_frames

    def __len__(self) -> int:
        return len(self.manifest)

    def num_tokens(self, index: int) -> int:
        return int(self.sizes[index])

    def num_tokens_vec(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.sizes[indices].astype(np.int64)

    def size(self, index: int) -> tuple[int, int]:
        """Number of 10 ms frames, and 1 in place of other tasks' target length."""
        return int(self.sizes[index]), 1

    def ordered_indices(self) -> NDArray[np.int64]:
        if self.weights is None:
            return longest_first(np.arange(len(self)), self.sizes, self.training)
        # fairseq's ResamplingDataset cannot be batched: it hides batch_by_size.
        drawn = np.random.choice(len(self), len(self), p=self.weights / self.weights.sum())
        return longest_first(drawn, self.sizes, shuffle=False)

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """Not with weighted sampling: every epoch draws its own rows."""
        return self.weights is None

    def __getitem__(self, index: int) -> Example | UnreadableClip:
        index = int(index)
        self.skipped.count_read(index)
        try:
            path = self.manifest.resolve("audio", index, self.root)
            source = READERS[self.reads](path)
            if self.reads in SAMPLES_PER_ELEMENT:
                check_length(
                    len(source) * SAMPLES_PER_ELEMENT[self.reads] / FRAME_SHIFT,
                    self.sizes[index],
                    path,
                )
        except UnreadableClip as error:
            return self.skipped.report(index, self.manifest.where(index), error)
        target = self.labels.target(self.manifest, index)
        return Example(index, torch.from_numpy(np.ascontiguousarray(source)), target)

    def collater(self, samples: list[Example | UnreadableClip]) -> dict:
        """Collate the usable clips in fairseq's batch format."""
        examples, replacement = self.skipped.split_usable(samples)
        if replacement is not None:
            return replacement
        sources = [e.source for e in examples]
        return {
            "id": torch.tensor([e.index for e in examples]),
            "net_input": {
                "source": torch.nn.utils.rnn.pad_sequence(sources, batch_first=True),
                "lengths": torch.tensor([len(s) for s in sources]),
            },
            "nsentences": len(examples),
            "ntokens": int(sum(self.sizes[e.index] for e in examples)),
            **self.labels.collate([e.target for e in examples]),
        }
