"""Task of stages 2 and 3: speech translation and recognition on fairseq's speech-to-text task."""

import logging
import os
import tempfile
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from fairseq.data import Dictionary, FairseqDataset, encoders
from fairseq.data.audio.data_cfg import S2TDataConfig, get_config_from_yaml
from fairseq.data.audio.speech_to_text_dataset import SpeechToTextDatasetCreator
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.tasks import FairseqTask, register_task
from fairseq.tasks.speech_to_text import SpeechToTextTask
from omegaconf import II, MISSING

from mmpt_fairseq.checkpoint import load_checkpoint, load_encoder
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.speech_to_text_dataset import ManifestSpeechToTextDataset
from mmpt_fairseq.decoding.ctc import CTCGreedyGenerator
from mmpt_fairseq.decoding.record import write_record
from mmpt_fairseq.errors import InputError, exit_on_input_error
from mmpt_fairseq.tasks._every_row import (
    EveryRowMixin,
    check_start,
    dataset_is_training,
    is_training_split,
)

logger = logging.getLogger(__name__)

# Settings of a data folder, not of a model: they stay behind when a checkpoint moves on.
LOCAL_SETTINGS = ("audio_root",)


@dataclass
class SpeechToTextConfig(FairseqDataclass):
    """fairseq's ``speech_to_text`` as a dataclass, so that Hydra can configure it."""

    data: str = field(default=MISSING, metadata={"help": "folder of the manifests"})
    config_yaml: str = field(
        default="config.yaml", metadata={"help": "fairseq's S2T data config, in that folder"}
    )
    max_source_positions: int = field(
        default=6000, metadata={"help": "longest clip in filterbank frames (10 ms each)"}
    )
    max_target_positions: int = field(default=1024, metadata={"help": "longest target in tokens"})
    short_first_epochs: int = field(
        default=0, metadata={"help": "first epochs that train on short clips alone (a curriculum)"}
    )
    short_first_frames: int = field(
        default=150, metadata={"help": "longest clip of those epochs in filterbank frames"}
    )
    decoding: ChoiceEnum(["attention", "ctc"]) = field(
        default="attention",
        metadata={"help": "fairseq's beam search on the decoder, or greedy CTC on the encoder"},
    )
    seed: int = II("common.seed")
    train_subset: str = II("dataset.train_subset")
    decodes_with: Optional[str] = II("common_eval.path")
    results_path: Optional[str] = II("common_eval.results_path")
    gen_subset: str = II("dataset.gen_subset")
    save_dir: str = II("checkpoint.save_dir")
    restore_file: str = II("checkpoint.restore_file")
    distributed_world_size: int = II("distributed_training.distributed_world_size")


class TravellingDataConfig(S2TDataConfig):
    """fairseq's data config from a mapping, so that a checkpoint can carry it."""

    def __init__(self, config: dict, root: Path) -> None:
        self.config, self.root = config, root


def _without_normalisation(config: dict) -> dict:
    """fairseq's recipes ask for utterance or global CMVN; ours is applied to all features."""
    ours = ("utterance_cmvn", "global_cmvn")
    transforms = {
        key: {split: [t for t in names if t not in ours] for split, names in config[key].items()}
        for key in ("transforms", "feature_transforms")
        if key in config
    }
    return {**config, **transforms}


class ManifestDatasetCreator(SpeechToTextDatasetCreator):
    """fairseq's joining and temperature sampling of several splits, over our dataset."""

    seed = 1
    needs = ("tgt_text",)

    @classmethod
    def _from_tsv(cls, root, cfg, split, is_train_split, speaker_to_id, multitask, **parts):
        manifest = Manifest(os.path.join(root, f"{split}.tsv"), cls.needs)
        return ManifestSpeechToTextDataset(manifest, cfg, is_train_split, cls.seed, **parts)

    @classmethod
    def from_tsv(cls, *args, seed: int, needs: tuple[str, ...], **kwargs):
        creator = type(cls.__name__, (cls,), {"seed": seed, "needs": needs})
        return super(ManifestDatasetCreator, creator).from_tsv(*args, seed=seed, **kwargs)


@register_task("mmpt_speech_to_text", dataclass=SpeechToTextConfig)
class ManifestSpeechToTextTask(EveryRowMixin, SpeechToTextTask):
    """Reads ``<data>/<split>.tsv`` and ``<data>/config.yaml`` with the vocabulary it names.

    Vocabulary, SentencePiece model and feature settings are saved in every checkpoint and read
    back from it, so that decoding needs a manifest and nothing else.
    """

    @classmethod
    def add_args(cls, parser) -> None:
        # fairseq's own add_args is for argparse alone; the dataclass says it all here.
        FairseqTask.add_args.__func__(cls, parser)

    def __init__(self, cfg: SpeechToTextConfig, from_checkpoint: bool = False) -> None:
        FairseqTask.__init__(self, cfg)
        self.args = cfg  # what fairseq's methods read
        self.tgt_dict = Dictionary()
        self.speaker_to_id, self.multitask_tasks, self.tgt_dict_mt = None, {}, None
        self._on_short_clips = False
        self.sentencepiece = b""
        self.data_cfg = TravellingDataConfig({}, Path(cfg.data))
        path = Path(cfg.data) / cfg.config_yaml
        # A model that is loaded alone brings everything; the folder it was trained on may be gone.
        self.has_vocabulary = path.is_file() and not from_checkpoint
        if self.has_vocabulary:
            self._read_data_folder(path)

    @classmethod
    def setup_task(cls, cfg: SpeechToTextConfig, **kwargs) -> "ManifestSpeechToTextTask":
        with exit_on_input_error():
            from_checkpoint = kwargs.get("from_checkpoint", False)
            check_start(cfg, from_checkpoint)
            return cls(cfg, from_checkpoint)

    def _read_data_folder(self, path: Path) -> None:
        config = get_config_from_yaml(path) or {}
        self.data_cfg = TravellingDataConfig(_without_normalisation(config), path.parent)
        vocabulary = path.parent / self.data_cfg.vocab_filename
        if not vocabulary.is_file():
            # A folder to decode from need not have one: the checkpoint does.
            self.has_vocabulary = False
            return
        self.tgt_dict.add_from_file(str(vocabulary))
        model = (self.data_cfg.config.get("bpe_tokenizer") or {}).get("sentencepiece_model")
        if model is not None:
            # fairseq would take a file of that name in the working directory first.
            model = path.parent / model
            if not model.is_file():
                raise InputError(f"{path} names the SentencePiece model {model}: no such file")
            self.sentencepiece = model.read_bytes()
        logger.info("vocabulary %s: %d entries", vocabulary, len(self.tgt_dict))

    def state_dict(self) -> dict:
        """What a checkpoint needs to decode anywhere."""
        config = {k: v for k, v in self.data_cfg.config.items() if k not in LOCAL_SETTINGS}
        return {
            "vocabulary": list(self.tgt_dict.symbols[self.tgt_dict.nspecial :]),
            "sentencepiece": torch.from_numpy(np.frombuffer(self.sentencepiece, np.uint8).copy()),
            "data_config": config,
        }

    def load_state_dict(self, state: dict) -> None:
        """Take vocabulary and settings from a checkpoint; a data folder's must be the same."""
        with exit_on_input_error():
            self._check_vocabulary(state)
        saved = state["vocabulary"]
        if not self.has_vocabulary:
            # In place: fairseq-generate holds on to this very dictionary.
            for symbol in saved:
                self.tgt_dict.add_symbol(symbol)
            self.has_vocabulary = True
        local = {k: v for k, v in self.data_cfg.config.items() if k in LOCAL_SETTINGS}
        self.data_cfg = TravellingDataConfig({**state["data_config"], **local}, self.data_cfg.root)
        self.sentencepiece = state["sentencepiece"].numpy().tobytes()

    def _check_vocabulary(self, state: dict) -> None:
        """Raise InputError unless the data folder's vocabulary, if any, is the checkpoint's."""
        if "vocabulary" not in state:
            raise InputError(
                "the checkpoint holds no vocabulary: it is not of stage 2 or 3; give one of those"
            )
        ours = self.state_dict()
        same = list(ours["vocabulary"]) == list(state["vocabulary"]) and torch.equal(
            ours["sentencepiece"], state["sentencepiece"]
        )
        if self.has_vocabulary and not same:
            raise InputError(
                f"the vocabulary {self.data_cfg.vocab_filename} in {self.cfg.data} "
                f"({len(ours['vocabulary'])} entries) is not the checkpoint's "
                f"({len(state['vocabulary'])}); use the one it was trained with, decode from a "
                "folder without one (a checkpoint carries its own), or train in another folder"
            )

    def build_bpe(self, args):
        config = self.data_cfg.bpe_tokenizer
        if not self.sentencepiece:
            return encoders.build_bpe(Namespace(**config))
        # fairseq's tokenizer wants a path; the model may have come out of a checkpoint.
        with tempfile.NamedTemporaryFile(suffix=".model") as file:
            file.write(self.sentencepiece)
            file.flush()
            return encoders.build_bpe(Namespace(**{**config, "sentencepiece_model": file.name}))

    def build_model(self, cfg: FairseqDataclass, from_checkpoint: bool = False):
        """The model, with an earlier stage's encoder in it when training starts."""
        with exit_on_input_error():
            if not self.has_vocabulary:
                raise InputError(
                    f"{self.cfg.data} has no {self.cfg.config_yaml} with a vocabulary; build one "
                    "with python -m manifests.vocabulary"
                )
            if cfg.freeze_encoder and cfg.fresh_encoder_layers:
                raise InputError(
                    f"model.freeze_encoder=true would freeze {cfg.fresh_encoder_layers} layers "
                    "that were never trained; set model.fresh_encoder_layers=0"
                )
            model = FairseqTask.build_model(self, cfg, from_checkpoint)
            resumed = os.path.join(self.cfg.save_dir, self.cfg.restore_file)
            if not from_checkpoint and os.path.isfile(resumed):
                # fairseq loads the weights; it would not look at the vocabulary.
                self._check_vocabulary(load_checkpoint(resumed).get("task_state", {}))
            elif not from_checkpoint and cfg.init_encoder_from:
                load_encoder(
                    model.encoder.audio_encoder, cfg.init_encoder_from, cfg.fresh_encoder_layers
                )
            elif not from_checkpoint:
                logger.info("the encoder starts from scratch (model.init_encoder_from is not set)")
            return model

    def build_criterion(self, cfg: FairseqDataclass):
        if self.data_cfg.prepend_tgt_lang_tag:
            cfg.ignore_prefix_size = 1  # the language tag is given, not predicted
        with exit_on_input_error():
            return FairseqTask.build_criterion(self, cfg)

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **kwargs) -> None:
        with exit_on_input_error():
            self.datasets[split] = ManifestDatasetCreator.from_tsv(
                root=self.cfg.data,
                cfg=self.data_cfg,
                splits=split,
                tgt_dict=self.tgt_dict,
                pre_tokenizer=self.build_tokenizer(None),
                bpe_tokenizer=self.build_bpe(None),
                is_train_split=is_training_split(self.cfg, split),
                epoch=epoch,
                seed=self.cfg.seed,
                # New speech has no text yet; it is decoded all the same.
                needs=("tgt_text",) if self.cfg.decodes_with is None else (),
            )

    def get_batch_iterator(self, dataset: FairseqDataset, *args, epoch: int = 1, **kwargs):
        """fairseq's iterator; in the first epochs over the short training clips alone.

        Few words leave little doubt which sound belongs to which of them, so that CTC and
        attention align much sooner (a curriculum: Bengio et al., ICML 2009).
        """
        self._on_short_clips = dataset_is_training(dataset) and epoch <= self.cfg.short_first_epochs
        if self._on_short_clips:
            frames, tokens = kwargs["max_positions"]
            short = min(frames, self.cfg.short_first_frames)
            logger.info("epoch %d is on clips of up to %d frames", epoch, short)
            kwargs["max_positions"] = (short, tokens)
        return super().get_batch_iterator(dataset, *args, epoch=epoch, **kwargs)

    def can_reuse_epoch_itr(self, dataset: FairseqDataset) -> bool:
        """Not while an epoch's batches are of short clips alone."""
        return not self._on_short_clips and super().can_reuse_epoch_itr(dataset)

    def build_generator(self, models, args, seq_gen_cls=None, extra_gen_cls_kwargs=None):
        if self.data_cfg.prepend_tgt_lang_tag:
            args.prefix_size = 1  # every search starts with the row's language tag
        write_record(self.cfg, args)
        if str(self.cfg.decoding) == "ctc":
            is_tag = ManifestSpeechToTextDataset.is_lang_tag
            tags = {i for symbol, i in self.tgt_dict.indices.items() if is_tag(symbol)}
            with exit_on_input_error():
                return CTCGreedyGenerator(models, self.tgt_dict, tags)
        return super().build_generator(models, args, seq_gen_cls, extra_gen_cls_kwargs)
