"""Several splits in one training of stage 2 or 3: joined, or drawn at a temperature over pairs."""

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
    """fairseq's, with the order of a single split: fairseq would have the same one every epoch."""

    def ordered_indices(self) -> NDArray[np.int64]:
        shuffle = all(part.shuffle for part in manifest_datasets(self))
        return longest_first(np.arange(len(self)), np.asarray(self.sizes), shuffle)


class ManifestDatasetCreator(SpeechToTextDatasetCreator):
    """fairseq's joining and temperature sampling of several splits, over our dataset."""

    seed = 1
    needs = ("tgt_text",)
    augmentation: Augmentation | None = None
    ctc_from_source = False
    stored_states = False

    @classmethod
    def _from_tsv(cls, root, cfg, split, is_train_split, speaker_to_id, multitask, **parts):
        manifest = Manifest(os.path.join(root, f"{split}.tsv"), cls.needs)
        if is_train_split and cfg.sampling_alpha != 1.0:
            _refuse_several_pairs(manifest)
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
        """fairseq's, of the one pair of each split: cells may be empty, and 32 bits count no more
        than 5965 hours."""
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
        """fairseq's, with ``ours`` for the dataset beside what fairseq hands on."""
        creator = type(cls.__name__, (cls,), {**ours, "seed": seed})
        found = super(ManifestDatasetCreator, creator).from_tsv(*args, seed=seed, **kwargs)
        return JoinedSplits(found.datasets) if isinstance(found, ConcatDataset) else found


def _refuse_several_pairs(manifest: Manifest) -> None:
    """fairseq balances language pairs between splits, and would leave one split as it is."""
    sources, targets = (manifest.column(name) for name in ("src_lang", "tgt_lang"))
    pairs = sorted(set(zip(sources, targets, strict=True)))
    # A cell that is left empty is no language of its own.
    if any(len(set(filter(None, side))) > 1 for side in zip(*pairs, strict=True)):
        raise InputError(
            f"{manifest.path} holds several language pairs ("
            f"{', '.join(f'{source}-{target}' for source, target in pairs)}), which "
            "sampling_alpha cannot balance; give each its own split, or take "
            "sampling_alpha out of the data config"
        )
