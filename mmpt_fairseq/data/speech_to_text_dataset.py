"""Dataset of stages 2 and 3: fairseq's speech-to-text dataset over a :class:`Manifest`."""

import functools
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from fairseq.data.audio.feature_transforms.specaugment import SpecAugmentTransform
from fairseq.data.audio.speech_to_text_dataset import (
    SpeechToTextDataset,
    SpeechToTextDatasetItem,
)
from fairseq.data.data_utils import collate_tokens, numpy_seed
from numpy.typing import NDArray
from torch import Tensor

from manifests.errors import InputError, UnreadableClip
from mmpt_fairseq.data.audio import is_cached, normalise, read_filterbank, read_states, subsampled
from mmpt_fairseq.data.augment import Augmentation
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.rows import longest_first
from mmpt_fairseq.data.skipping import SkippedClips, check_length
from mmpt_fairseq.data.waveform import Waveform

logger = logging.getLogger(__name__)


@dataclass
class LabelledItem(SpeechToTextDatasetItem):
    """fairseq's item plus everything else that a batch needs of it.

    For joined splits, the first one's ``collater`` gets rows of all of them, so it cannot look
    anything up by ``index``.
    """

    ctc_target: Tensor | None = None
    text: str = ""


class ManifestSpeechToTextDataset(SpeechToTextDataset):
    """fairseq's dataset with any audio format, our filterbanks, exact seeds and no lost rows.

    Args:
        manifest: rows with ``tgt_text``.
        cfg: fairseq's S2T data config: audio root, transforms such as SpecAugment.
        training: apply the training transforms; skip and count unusable clips. Otherwise an
            unusable clip stops the run.
        seed: of all random draws, together with the epoch and the row.
        augmentation: speed perturbation and noise; they need waveforms, not cached features.
        split: its name in the config; default: the manifest's name.
        ctc_from_source: CTC aligns ``src_text`` (the transcript of a translation) instead of the
            target; rows without ``src_text`` have no CTC term.
        stored_states: the rows point to a frozen encoder's output instead of audio.
    """

    def __init__(
        self,
        manifest: Manifest,
        cfg,
        training: bool,
        seed: int,
        augmentation: Augmentation | None = None,
        split: str | None = None,
        ctc_from_source: bool = False,
        stored_states: bool = False,
        **parts,
    ) -> None:
        self.manifest, self.seed, self.augmentation = manifest, seed, augmentation
        self.ctc_from_source, self.stored_states = ctc_from_source, stored_states
        self._unknown: dict[str, tuple[int, int]] = {}  # column -> (unknown, all) tokens
        self.skipped = SkippedClips(len(manifest), tolerate=training)
        # Shared memory, because loader workers outlive an epoch.
        self._epoch = torch.zeros(1, dtype=torch.long).share_memory_()
        super().__init__(
            split=split or manifest.path.stem,
            is_train_split=training,
            cfg=cfg,
            audio_paths=manifest.column("audio"),
            n_frames=manifest.n_frames,
            src_texts=manifest.column("src_text"),
            tgt_texts=manifest.column("tgt_text"),
            speakers=manifest.column("speaker"),
            src_langs=manifest.column("src_lang"),
            tgt_langs=manifest.column("tgt_lang"),
            ids=manifest.column("id"),
            **parts,
        )
        self._check_supported_options()
        self._check_augmentation()
        self._warn_of_long_targets()
        if ctc_from_source:
            self._log_missing_source_text()

    @property
    def training(self) -> bool:
        """Whether unusable or overlong rows may be skipped."""
        return self.is_train_split

    def check_tgt_lang_tag(self) -> None:
        if not self.cfg.prepend_tgt_lang_tag:
            return
        for language in sorted(set(self.tgt_langs)):
            if self.LANG_TAG_TEMPLATE.format(language) not in self.tgt_dict:
                raise InputError(
                    f"{self.manifest.path}: the vocabulary has no tag <lang:{language}> for the "
                    "target language; build the vocabulary with it"
                )

    def get_tgt_lens_and_check_oov(self) -> NDArray[np.int32]:
        lengths = np.zeros(self.n_samples, dtype=np.int32)
        self.ctc_lens = np.zeros(self.n_samples, dtype=np.int32)
        for i in range(self.n_samples):
            labels = tokens = self._encode(self.get_tokenized_tgt_text(i), "tgt_text")
            if self.ctc_from_source:
                labels = self._encode(self._tokenized_source(i), "src_text")
            lengths[i] = len(tokens)
            # CTC needs a blank between equal labels; all unknown tokens are the same label.
            self.ctc_lens[i] = len(labels) + sum(a == b for a, b in itertools.pairwise(labels))
        for column, (unknown, total) in self._unknown.items():
            # The vocabulary is built from the training targets: only other splits should have
            # unknown tokens.
            level = logging.WARNING if self.training and unknown else logging.INFO
            message = f"{unknown} of {total} tokens of {column} are unknown"
            hint = "; build the vocabulary --with-source" if column == "src_text" else ""
            logger.log(level, "%s: %s%s", self.split, message, hint if unknown else "")
            if total and unknown > total / 2:
                raise InputError(
                    f"{self.manifest.path}: {unknown} of {total} tokens of {column} are not in the "
                    "vocabulary; it was built for other text (check vocab_filename and "
                    "bpe_tokenizer, and --with-source for src_text)"
                )
        return lengths

    def _encode(self, tokenized: str, column: str) -> list[int]:
        """Encode a text as vocabulary indices, counting the unknown tokens of ``column``."""
        indices = [self.tgt_dict.index(token) for token in tokenized.split()]
        unknown, total = self._unknown.get(column, (0, 0))
        unknown += indices.count(self.tgt_dict.unk())
        self._unknown[column] = (unknown, total + len(indices))
        return indices

    def _tokenized_source(self, row: int) -> str:
        """``src_text`` as space-separated tokens; empty if there is none."""
        text = self.src_texts[row]
        return self.tokenize(self.bpe_tokenizer, self.tokenize(self.pre_tokenizer, text))

    def _ctc_target(self, row: int, target: Tensor) -> Tensor:
        """CTC labels of a row, without EOS and language tag."""
        if self.ctc_from_source:
            return self.tgt_dict.encode_line(
                self._tokenized_source(row), add_if_not_exist=False, append_eos=False
            ).long()
        # The last token is EOS.
        return target[1 if self.cfg.prepend_tgt_lang_tag else 0 : -1]

    def _check_supported_options(self) -> None:
        """Raise InputError for fairseq options that would be silently ignored or misapplied."""
        requested = {
            "waveform_transforms": self.waveform_transforms is not None,
            "dataset_transforms": bool(self.dataset_transforms.transforms),
            "use_audio_input": self.cfg.use_audio_input,
            "prepend_bos_and_append_tgt_lang_tag": self.cfg.prepend_bos_and_append_tgt_lang_tag,
            "feature_transforms other than specaugment": any(
                not isinstance(t, SpecAugmentTransform) for t in self._transforms()
            ),
        }
        for name, is_set in requested.items():
            if is_set:
                raise InputError(
                    f"the data config sets {name}, which this task does not support; remove it"
                )

    def _check_augmentation(self) -> None:
        """Raise InputError for augmentation of stored features; the first row stands for all."""
        if self.stored_states and (self.augmentation is not None or self._transforms()):
            raise InputError(
                f"{self.manifest.path} holds an encoder's states, for which SpecAugment, "
                "task.speeds and task.noise_manifest come too late; remove them from the data "
                "config and the command, or train on the audio manifests"
            )
        source = self.manifest.resolve("audio", 0, self.cfg.audio_root or None)
        if self.augmentation is not None and is_cached(source):
            raise InputError(
                f"{self.manifest.where(0)} holds cached features, but task.speeds and "
                "task.noise_manifest need waveforms; train on the audio manifest"
            )

    def _transforms(self) -> list:
        return self.feature_transforms.transforms if self.feature_transforms else []

    def _warn_of_long_targets(self) -> None:
        """Warn of targets longer than their subsampled audio: CTC cannot align them."""
        fastest = max(self.augmentation.speeds) if self.augmentation else 1.0
        shortest = (np.asarray(self.n_frames) / fastest).astype(int)
        too_long = int((self.ctc_lens > subsampled(shortest)).sum())
        if too_long:
            logger.warning(
                "%s: %d of %d targets are longer than their audio after subsampling%s; the CTC "
                "term ignores them",
                self.split,
                too_long,
                self.n_samples,
                "" if fastest <= 1 else f" at speed {fastest:g}",
            )

    @property
    def unknown(self) -> int:
        """Number of target tokens that the vocabulary lacks."""
        return self._unknown.get("tgt_text", (0, 0))[0]

    def _log_missing_source_text(self) -> None:
        """Log the number of rows without ``src_text``."""
        missing = self.n_samples - self.transcribed
        if missing:
            logger.info("%s: %d rows without src_text have no CTC term", self.split, missing)

    @property
    def transcribed(self) -> int:
        """Number of rows with labels for CTC to align."""
        return int((self.ctc_lens > 0).sum())

    def set_epoch(self, epoch: int) -> None:
        self._epoch[0] = epoch if self.is_train_split else 0

    def _get_source_audio(self, index: int) -> Tensor:
        """Features ``(T, F)``, or the stored states ``(T, D)`` of an encoder."""
        source = self.manifest.resolve("audio", index, self.cfg.audio_root or None)
        if self.stored_states:
            return torch.from_numpy(read_states(source)[-1])
        features = read_filterbank(source, self._waveform_transform(int(index)))
        # A slowed-down clip may be longer than n_frames.
        slowest = min(self.augmentation.speeds) if self.augmentation else 1.0
        check_length(slowest * len(features), int(self.n_frames[index]), source)
        features = normalise(features)
        if self.feature_transforms is not None:
            with numpy_seed(self.seed, int(self._epoch), int(index)):
                features = self.feature_transforms(features)
        return torch.from_numpy(features).float()

    def _waveform_transform(self, index: int) -> Callable[[Waveform], Waveform] | None:
        """Augmentation of a row's waveform in the current epoch; None without augmentation."""
        if self.augmentation is None:
            return None
        generator = np.random.default_rng([self.seed, int(self._epoch), index])
        return functools.partial(self.augmentation, generator=generator)

    def __getitem__(self, index: int) -> LabelledItem | UnreadableClip:
        row = int(index)
        self.skipped.count_read(row)
        try:
            item = super().__getitem__(row)
        except UnreadableClip as error:
            return self.skipped.report(row, self.manifest.where(row), error)
        ctc_target = self._ctc_target(row, item.target)
        return LabelledItem(**vars(item), ctc_target=ctc_target, text=self.tgt_texts[row])

    def collater(self, samples: list[LabelledItem | UnreadableClip]) -> dict:
        """fairseq's batch plus ``ctc_target``: labels without EOS and language tag."""
        samples, replacement = self.skipped.split_usable(samples)
        if replacement is not None:
            return replacement
        batch = super().collater(samples, return_order=True)
        targets = [s.ctc_target for s in samples]
        order = batch.pop("order")
        batch["ctc_target"] = collate_tokens(targets, self.tgt_dict.pad()).index_select(0, order)
        lengths = torch.tensor([len(t) for t in targets])
        batch["ctc_target_lengths"] = lengths.index_select(0, order)
        if not self.training:
            # References for validation scores: decoded targets would lose unknown tokens.
            batch["texts"] = [samples[i].text for i in order.tolist()]
        return batch

    @property
    def sizes(self) -> NDArray[np.int32]:
        return self.n_frames

    def num_tokens_vec(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.n_frames[indices].astype(np.int64)

    def ordered_indices(self) -> NDArray[np.int64]:
        return longest_first(np.arange(len(self)), self.n_frames, self.shuffle)
