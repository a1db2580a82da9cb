"""Training stage 2 or 3 on several splits: joined, or sampled with a temperature over pairs."""

import os
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
from fairseq.data import ConcatDataset
from fairseq.data.audio.speech_to_text_dataset import SpeechToTextDatasetCreator
from numpy.typing import NDArray

from manifests.errors import InputError
from mmpt_fairseq.data.augment import Augmentation
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.rows import longest_first, manifest_datasets
from mmpt_fairseq.data.speech_to_text_dataset import ManifestSpeechToTextDataset


class JoinedSplits(ConcatDataset):
    """fairseq's, but ordered and batched like a single split.

    fairseq would repeat one order in every epoch, and ask for each row's size by itself.
    """

    def ordered_indices(self) -> NDArray[np.int64]:
        shuffle = all(part.shuffle for part in manifest_datasets(self))
        return longest_first(np.arange(len(self)), np.asarray(self.sizes), shuffle)

    def num_tokens(self, index: int) -> int:
        part, row = self._get_dataset_and_sample_index(index)
        return self.datasets[part].num_tokens(row)

    def num_tokens_vec(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(self.sizes)[indices].astype(np.int64)


class ManifestDatasetCreator(SpeechToTextDatasetCreator):
    """fairseq's concatenation and temperature sampling of splits, for this package's dataset."""

    seed = 1
    needs = ("tgt_text",)
    augmentation: Augmentation | None = None
    ctc_from_source = False
    stored_states = False

    @classmethod
    def _from_tsv(cls, root, cfg, split, is_train_split, speaker_to_id, multitask, **parts):
        manifest = Manifest(os.path.join(root, f"{split}.tsv"), cls.needs)
        if is_train_split and cfg.sampling_alpha != 1.0:
            _check_single_pair(manifest)
        return ManifestSpeechToTextDataset(
            manifest,
            cfg,
            is_train_split,
            cls.seed,
            cls.augmentation,
            split,
            ctc_from_source=cls.ctc_from_source,
            stored_states=cls.stored_states,
            **parts,
        )

    @classmethod
    def get_size_ratios(
        cls, datasets: Sequence[ManifestSpeechToTextDataset], alpha: float = 1.0
    ) -> list[float]:
        """fairseq's, for splits of one language pair each, in which cells may be empty.

        Frames are summed in 64 bits, as 32 bits overflow at 5965 hours.
        """
        pairs = [
            SimpleNamespace(
                split=dataset.split,
                src_langs=[max(set(dataset.src_langs))],
                tgt_langs=[max(set(dataset.tgt_langs))],
                n_frames=[int(dataset.n_frames.sum(dtype=np.int64))],
            )
            for dataset in datasets
        ]
        return super().get_size_ratios(pairs, alpha)

    @classmethod
    def from_tsv(cls, *args, seed: int, ours: dict[str, object], **kwargs):
        """fairseq's; ``ours`` are the creator's attributes that fairseq does not pass on."""
        creator = type(cls.__name__, (cls,), {**ours, "seed": seed})
        dataset = super(ManifestDatasetCreator, creator).from_tsv(*args, seed=seed, **kwargs)
        return JoinedSplits(dataset.datasets) if isinstance(dataset, ConcatDataset) else dataset


def _check_single_pair(manifest: Manifest) -> None:
    """Raise InputError for several pairs: fairseq balances them between splits, not within one."""
    sources, targets = (manifest.column(name) for name in ("src_lang", "tgt_lang"))
    pairs = sorted(set(zip(sources, targets, strict=True)))
    # An empty cell does not count as a language.
    if any(len(set(filter(None, side))) > 1 for side in zip(*pairs, strict=True)):
        raise InputError(
            f"{manifest.path} holds several language pairs ("
            f"{', '.join(f'{source}-{target}' for source, target in pairs)}), which "
            "sampling_alpha cannot balance; give each its own split, or remove "
            "sampling_alpha from the data config"
        )
