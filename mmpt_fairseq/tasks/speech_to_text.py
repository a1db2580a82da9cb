"""Task of stages 2 and 3: speech translation and recognition, based on fairseq's S2T task."""

import logging
import tempfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from fairseq.data import Dictionary, encoders
from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import FairseqTask, register_task
from fairseq.tasks.speech_to_text import SpeechToTextTask

from manifests.errors import InputError, exit_on_input_error, reason_of
from mmpt_fairseq.checkpoint import encoder_digest, same_vocabulary
from mmpt_fairseq.data.augment import Augmentation
from mmpt_fairseq.data.language_pairs import ManifestDatasetCreator
from mmpt_fairseq.data.manifest import splits_with_prefix
from mmpt_fairseq.data.rows import is_training_set, manifest_datasets, prepare_validation
from mmpt_fairseq.data.speech_to_text_dataset import ManifestSpeechToTextDataset
from mmpt_fairseq.data.states import StoredStates
from mmpt_fairseq.decoding import language_model
from mmpt_fairseq.decoding.choice import (
    CTC_GENERATORS,
    check_search,
    ctc_generator,
    warn_of_long_targets,
)
from mmpt_fairseq.decoding.ensemble import CTCEnsemble, JointEnsemble
from mmpt_fairseq.decoding.record import write_record
from mmpt_fairseq.models.freezing import (
    refuse_weight_decay,
    restart_encoder_moments,
    scaled_encoder_lr,
)
from mmpt_fairseq.models.speech_to_text import SpeechToTextModel
from mmpt_fairseq.tasks._initialise import initialise
from mmpt_fairseq.tasks._largest_batch import LargestBatchFirstMixin
from mmpt_fairseq.tasks._rows_with_text import RowsWithTextMixin
from mmpt_fairseq.tasks._speech_to_text_config import (
    LOCAL_SETTINGS,
    PortableDataConfig,
    SpeechToTextConfig,
    check_metric,
    read_data_config,
)
from mmpt_fairseq.tasks._start import check_start, is_training_split, is_validation_split
from mmpt_fairseq.tasks._validation import ValidationScorer, log_scores

logger = logging.getLogger(__name__)


@register_task("mmpt_speech_to_text", dataclass=SpeechToTextConfig)
class ManifestSpeechToTextTask(LargestBatchFirstMixin, RowsWithTextMixin, SpeechToTextTask):
    """Reads ``<data>/<split>.tsv``, ``<data>/config.yaml`` and the vocabulary that it names.

    Vocabulary, SentencePiece model and feature settings are stored in every checkpoint, so that
    decoding only needs a manifest.
    """

    @classmethod
    def add_args(cls, parser) -> None:
        # fairseq's S2T add_args is for argparse only; here the dataclass defines all options.
        FairseqTask.add_args.__func__(cls, parser)

    def __init__(self, cfg: SpeechToTextConfig, from_checkpoint: bool = False) -> None:
        FairseqTask.__init__(self, cfg)
        self.args = cfg  # read by fairseq's methods
        self.tgt_dict = Dictionary()
        self.speaker_to_id, self.multitask_tasks, self.tgt_dict_mt = None, {}, None
        self.encoder_lr_scale, self.validation = 1.0, None
        self.sentencepiece, self.ctc_text = b"", str(cfg.ctc_text)
        self.data_cfg = PortableDataConfig({}, Path(cfg.data))
        path = Path(cfg.data) / cfg.config_yaml
        # A model loaded from a checkpoint is self-contained; its training folder may be gone.
        self.has_vocabulary = path.is_file() and not from_checkpoint
        self.states = None if from_checkpoint else StoredStates.describing(Path(cfg.data))
        self.trained_on: list[str | None] = []  # per checkpoint: encoder digest of its states
        # Whether this run trains the CTC head, and whether the checkpoint's run did; None: unknown.
        self.ctc_learns: bool | None = None
        self.ctc_learnt: bool | None = None
        if self.has_vocabulary:
            self._read_data_folder(path)

    @classmethod
    def setup_task(cls, cfg: SpeechToTextConfig, **kwargs) -> "ManifestSpeechToTextTask":
        with exit_on_input_error():
            from_checkpoint = kwargs.get("from_checkpoint", False)
            check_start(cfg, from_checkpoint)
            if not from_checkpoint:
                check_metric(cfg)
            return cls(cfg, from_checkpoint)

    def _read_data_folder(self, path: Path) -> None:
        self.data_cfg = PortableDataConfig(read_data_config(path), path.parent)
        vocabulary = path.parent / self.data_cfg.vocab_filename
        if not vocabulary.is_file():
            # Not needed for decoding: the checkpoint has one.
            self.has_vocabulary = False
            return
        try:
            self.tgt_dict.add_from_file(str(vocabulary))
        except (ValueError, RuntimeError) as error:
            raise InputError(
                f"{vocabulary} is not a fairseq vocabulary ({reason_of(error)}); rewrite it with "
                "python -m manifests.vocabulary"
            ) from None
        model = (self.data_cfg.config.get("bpe_tokenizer") or {}).get("sentencepiece_model")
        if model is not None:
            # fairseq would prefer a file of that name in the working directory.
            model = path.parent / model
            if not model.is_file():
                raise InputError(f"{path} names the SentencePiece model {model}: no such file")
            self.sentencepiece = model.read_bytes()
        entries = len(self.tgt_dict) - self.tgt_dict.nspecial  # the number of lines in the file
        logger.info("vocabulary %s: %d entries", vocabulary, entries)

    def state_dict(self) -> dict:
        """State that makes a checkpoint self-contained for decoding."""
        config = {k: v for k, v in self.data_cfg.config.items() if k not in LOCAL_SETTINGS}
        return {
            "vocabulary": list(self.tgt_dict.symbols[self.tgt_dict.nspecial :]),
            "sentencepiece": torch.from_numpy(np.frombuffer(self.sentencepiece, np.uint8).copy()),
            "data_config": config,
            "ctc_text": self.ctc_text,
            "ctc_learnt": self.ctc_learns is not False or bool(self.ctc_learnt),
            **({"states_of": self.states.encoder} if self.states else {}),
        }

    def load_state_dict(self, state: dict) -> None:
        """Restore vocabulary and settings; a data folder's vocabulary must be the same."""
        with exit_on_input_error():
            self.check_vocabulary(state)
        saved = state["vocabulary"]
        if not self.has_vocabulary:
            # In place, because fairseq-generate keeps a reference to this dictionary.
            for symbol in saved:
                self.tgt_dict.add_symbol(symbol)
            self.has_vocabulary = True
        local = {k: v for k, v in self.data_cfg.config.items() if k in LOCAL_SETTINGS}
        self.data_cfg = PortableDataConfig({**state["data_config"], **local}, self.data_cfg.root)
        self.sentencepiece = state["sentencepiece"].numpy().tobytes()
        self.ctc_text = state.get("ctc_text", "target")
        self.ctc_learnt = state.get("ctc_learnt", True)
        self.trained_on.append(state.get("states_of"))

    def check_vocabulary(self, state: dict) -> None:
        """Raise InputError unless the data folder's vocabulary, if any, is the checkpoint's."""
        if "vocabulary" not in state:
            raise InputError(
                "the checkpoint has no vocabulary, so it is not of stage 2 or 3; use one that is"
            )
        ours = self.state_dict()
        if self.has_vocabulary and not same_vocabulary(ours, state):
            raise InputError(
                f"the vocabulary {self.data_cfg.vocab_filename} in {self.cfg.data} "
                f"({len(ours['vocabulary'])} entries) is not the checkpoint's "
                f"({len(state['vocabulary'])}); use the one it was trained with, decode from a "
                "folder without one (a checkpoint has its own), or train in another folder"
            )

    def build_bpe(self, args):
        config = self.data_cfg.bpe_tokenizer
        if not self.sentencepiece:
            return encoders.build_bpe(Namespace(**config))
        # fairseq's tokenizer needs a path; the model may come from a checkpoint.
        with tempfile.NamedTemporaryFile(suffix=".model") as file:
            file.write(self.sentencepiece)
            file.flush()
            return encoders.build_bpe(Namespace(**{**config, "sentencepiece_model": file.name}))

    def build_model(self, cfg: FairseqDataclass, from_checkpoint: bool = False):
        """Build the model; at the start of training, initialise it from an earlier stage."""
        with exit_on_input_error():
            if not self.has_vocabulary:
                raise InputError(
                    f"{self.cfg.data} has no {self.cfg.config_yaml} with a vocabulary; create one "
                    f"with python -m manifests.vocabulary {self.cfg.data} --kind char"
                )
            model = FairseqTask.build_model(self, cfg, from_checkpoint)
            model.encoder.given_states = self.states is not None
            if not from_checkpoint:
                if self.states is not None:
                    self.states.check_frozen(cfg.freeze_encoder)
                initialise(self, model, cfg)
                self.encoder_lr_scale = cfg.encoder_lr_scale
                self.validation = ValidationScorer.for_training(self, model)
            return model

    def optimizer_step(self, optimizer, model: SpeechToTextModel, update_num: int) -> None:
        """fairseq's step, with the encoder's own learning rate and no update of frozen parts."""
        with exit_on_input_error():
            if model.encoder.will_unfreeze:
                refuse_weight_decay(optimizer)
                model.encoder.drop_frozen_gradients()
            elif model.encoder.freezing.ends_at(update_num):
                restart_encoder_moments(optimizer)
            with scaled_encoder_lr(optimizer, self.encoder_lr_scale):
                super().optimizer_step(optimizer, model, update_num)

    def measure(self, sample: dict, model: SpeechToTextModel, criterion) -> tuple:
        """fairseq's validation loss; with ``eval_wer`` or ``eval_bleu`` also decoding errors."""
        loss, size, output = super().measure(sample, model, criterion)
        if self.validation is not None:
            output.update(self.validation.count(self, sample, model))
        return loss, size, output

    def reduce_metrics(self, logging_outputs: list[dict], criterion) -> None:
        super().reduce_metrics(logging_outputs, criterion)
        log_scores(logging_outputs)

    def build_criterion(self, cfg: FairseqDataclass):
        if self.data_cfg.prepend_tgt_lang_tag:
            cfg.ignore_prefix_size = 1  # the language tag is given, not predicted
        self.ctc_learns = getattr(cfg, "ctc_weight", 0) > 0
        decoding = str(self.cfg.decoding)
        with exit_on_input_error():
            if self.validation is not None and decoding != "attention" and not self.ctc_learns:
                raise InputError(
                    f"task.decoding={decoding} would validate with a CTC head that this run "
                    "does not train (criterion.ctc_weight=0); raise the weight, or set "
                    "task.decoding=attention"
                )
            return FairseqTask.build_criterion(self, cfg)

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **kwargs) -> None:
        with exit_on_input_error():
            if self.cfg.decodes_with and self.cfg.lm_path:
                language_model.check_files(self.cfg.lm_path, self.cfg.data)
            training = is_training_split(self.cfg, split)
            # fairseq sets combine for training too, where all splits are listed explicitly.
            if combine and not training:
                splits = ",".join(splits_with_prefix(self.cfg.data, split))
            else:
                splits = split
            self.datasets[split] = ManifestDatasetCreator.from_tsv(
                root=self.cfg.data,
                cfg=self.data_cfg,
                splits=splits,
                tgt_dict=self.tgt_dict,
                pre_tokenizer=self.build_tokenizer(None),
                bpe_tokenizer=self.build_bpe(None),
                is_train_split=training,
                epoch=epoch,
                seed=self.cfg.seed,
                ours=self._dataset_options(training),
            )
            if is_validation_split(self.cfg, split):
                prepare_validation(self.datasets[split], self.data_cfg.audio_root)
            if training and self.ctc_text == "source":
                self._check_transcripts(split)
            if self.cfg.decodes_with:
                self._warn_of_unknown_tokens(split)
            if self.validation is not None and not training:
                for part in manifest_datasets(self.datasets[split]):
                    self.validation.check_lengths(part.tgt_lens)

    def get_batch_iterator(self, dataset, *args, **kwargs):
        """The other bases' iterator; fairseq requests one at the start of each validation."""
        if self.validation is not None and not is_training_set(dataset):
            parts = manifest_datasets(dataset)
            self.validation.begin([t for p in parts for t in p.manifest.column("tgt_text")])
        return super().get_batch_iterator(dataset, *args, **kwargs)

    def _warn_of_unknown_tokens(self, split: str) -> None:
        unknown = sum(part.unknown for part in manifest_datasets(self.datasets[split]))
        if unknown:
            logger.warning(
                "%s: %d tokens of tgt_text are not in the vocabulary, and fairseq's final score "
                "replaces each by <<unk>>; score the texts themselves with --results-path and "
                "python -m mmpt_fairseq.report.scores",
                *(split, unknown),
            )

    def _check_transcripts(self, split: str) -> None:
        """Raise InputError if no row has a ``src_text`` for CTC; one of several splits suffices."""
        if not any(part.transcribed for part in manifest_datasets(self.datasets[split])):
            raise InputError(
                f"no row of {split} in {self.cfg.data} has the src_text that task.ctc_text=source "
                "needs; fill that column, or set task.ctc_text=target"
            )

    def _dataset_options(self, training: bool) -> dict[str, object]:
        """Arguments of our dataset beyond fairseq's."""
        from_source = self.ctc_text == "source"
        needs = ("tgt_text", "src_text") if from_source else ("tgt_text",)
        decoding_only = self.cfg.decodes_with is not None  # unseen speech may have no text
        return {
            "needs": () if decoding_only else needs,
            "augmentation": Augmentation.from_config(self.cfg) if training else None,
            "ctc_from_source": from_source and not decoding_only,
            "stored_states": self.states is not None,
        }

    def _check_states(self, models: list[SpeechToTextModel]) -> None:
        """Raise InputError unless the folder's states come from the models' encoder.

        A checkpoint that records having been trained on them is trusted, since training in 16 bits
        rounds its encoder.
        """
        if set(self.trained_on) != {self.states.encoder}:
            for model in models:
                self.states.check(encoder_digest(model.encoder.audio_encoder))

    def _warn_of_ignored_weight(self) -> None:
        """Warn if ``ctc_decoding_weight`` has no effect; in training it is kept for decoding."""
        weight, decoding = self.cfg.ctc_decoding_weight, str(self.cfg.decoding)
        given = weight != SpeechToTextConfig.ctc_decoding_weight
        if self.cfg.decodes_with and decoding != "joint" and given:
            logger.warning("--decoding %s ignores --ctc-decoding-weight", decoding)

    @exit_on_input_error()
    def get_interactive_tokens_and_lengths(self, lines, encode_fn):
        raise InputError(
            "fairseq-interactive does not read audio as this task does; use mmpt-transcribe "
            "CHECKPOINT FILE..."
        )

    def build_generator(self, models, args, seq_gen_cls=None, extra_gen_cls_kwargs=None):
        if self.data_cfg.prepend_tgt_lang_tag:
            args.prefix_size = 1  # every search starts with the row's language tag
        decoding = str(self.cfg.decoding)
        is_tag = ManifestSpeechToTextDataset.is_lang_tag
        tags = {i for symbol, i in self.tgt_dict.indices.items() if is_tag(symbol)}
        with exit_on_input_error():
            if self.cfg.decodes_with and self.cfg.post_process:
                raise InputError(
                    f"--post-process {self.cfg.post_process} would remove the spaces of texts that "
                    "are already put together; leave it out"
                )
            check_search(decoding, models, self.ctc_text, self.ctc_learnt, args)
            write_record(self.cfg, args)
            self._warn_of_ignored_weight()
            if self.states is not None and self.cfg.decodes_with:
                self._check_states(models)
            fusion = extra_gen_cls_kwargs or {}
            language_model.check_language_model(fusion, self.tgt_dict, decoding, tags)
            if decoding in CTC_GENERATORS and fusion.get("lm_model") is None:
                return ctc_generator(decoding, models, self.tgt_dict, tags, args)
            if self.cfg.decodes_with:
                for split in self.datasets.values():
                    for part in manifest_datasets(split):
                        warn_of_long_targets(part.tgt_lens, args.max_len_b, "--max-len-b")
            generator = super().build_generator(models, args, seq_gen_cls, extra_gen_cls_kwargs)
            if decoding == "joint":
                generator.model = JointEnsemble(models, self.cfg.ctc_decoding_weight, tags)
            if decoding == "ctc_beam":
                generator.model, generator.min_len = CTCEnsemble(models), 0
            return generator
