"""SUPERB's keyword spotting, intent classification, phoneme recognition and diarization.

Sources: arXiv 2105.01051; s3prl's downstream speech_commands, fluent_commands, ctc (libriphone) and
diarization. Differences: our encoders get the filterbanks of all stages, and rows beyond
``max_source_positions`` are never cut (s3prl cuts diarization into chunks of 2000 frames).
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.tasks import FairseqTask, register_task
from numpy.typing import NDArray
from omegaconf import MISSING

from manifests.errors import InputError, exit_on_input_error
from mmpt_fairseq.checkpoint import settings_of
from mmpt_fairseq.data.audio import FRAMES_PER_SECOND
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.rows import prepare_validation
from mmpt_fairseq.data.superb_dataset import SuperbDataset
from mmpt_fairseq.data.superb_labels import (
    KINDS,
    UTTERANCE_KINDS,
    Labels,
    check_rows,
    label_column,
    make_labels,
    training_labels,
)
from mmpt_fairseq.models.upstreams import load_upstream_weights, resolve_upstream
from mmpt_fairseq.modules.upstreams import Upstream
from mmpt_fairseq.tasks._config import TaskConfig
from mmpt_fairseq.tasks._every_row import EveryRowMixin
from mmpt_fairseq.tasks._largest_batch import LargestBatchFirstMixin
from mmpt_fairseq.tasks._start import (
    check_start,
    is_training_split,
    is_validation_split,
    loaded_checkpoint,
)

logger = logging.getLogger(__name__)


@dataclass
class SuperbConfig(TaskConfig):
    """Config of the SUPERB tasks; threshold and median filter of diarization are s3prl's."""

    data: str = field(default=MISSING, metadata={"help": "folder of the manifests"})
    kind: ChoiceEnum(list(KINDS)) = field(
        default="keyword_spotting", metadata={"help": "SUPERB task"}
    )
    audio_root: Optional[str] = field(
        default=None, metadata={"help": "root of relative paths (default: the manifest's folder)"}
    )
    max_source_positions: int = field(
        default=6000, metadata={"help": "longest clip for the upstream in frames of 10 ms"}
    )
    balance_classes: bool = field(
        default=False,
        metadata={"help": "sample training clips so that classes are equally likely (s3prl's KS)"},
    )
    der_threshold: float = field(
        default=0.5, metadata={"help": "speech probability threshold in validation"}
    )
    der_median: int = field(
        default=11, metadata={"help": "median filter over decisions in frames of 10 ms; 1: none"}
    )
    der_collar: float = field(
        default=0.0,
        metadata={
            "help": "seconds around each boundary excluded from DER; SUPERB uses no collar, NIST's "
            "evaluations 0.25"
        },
    )


@dataclass(frozen=True)
class Scoring:
    """Diarization scoring: probability threshold, median filter and collar (both in frames)."""

    threshold: float
    median: int
    collar: int


@register_task("mmpt_superb", dataclass=SuperbConfig)
class SuperbTask(LargestBatchFirstMixin, EveryRowMixin, FairseqTask):
    """Reads ``<data>/<split>.tsv``; labels come from the training split, stored in checkpoints."""

    cfg: SuperbConfig

    def __init__(self, cfg: SuperbConfig, labels: Labels | None) -> None:
        super().__init__(cfg)
        self.kind, self.labels, self.reads = str(cfg.kind), labels, ""
        collar = round(cfg.der_collar * FRAMES_PER_SECOND)
        self.scoring = Scoring(cfg.der_threshold, cfg.der_median, collar)

    @classmethod
    def setup_task(cls, cfg: SuperbConfig, **kwargs) -> "SuperbTask":
        with exit_on_input_error():
            _check_scoring(cfg)
            from_checkpoint = kwargs.get("from_checkpoint", False)
            check_start(cfg, from_checkpoint)
            if cfg.balance_classes and str(cfg.kind) not in UTTERANCE_KINDS:
                raise InputError(
                    f"task.balance_classes=true balances the labels of clips, and {cfg.kind} has "
                    "none; remove it"
                )
            if from_checkpoint:  # load_state_dict brings the labels
                return cls(cfg, None)
            training = cls._manifest(cfg, cfg.train_subset)
            return cls(cfg, training_labels(str(cfg.kind), training))

    @staticmethod
    def _manifest(cfg: SuperbConfig, split: str) -> Manifest:
        return Manifest(Path(cfg.data) / f"{split}.tsv", [label_column(str(cfg.kind))])

    def state_dict(self) -> dict:
        """State that makes a checkpoint self-contained for prediction."""
        return {"kind": self.kind, "inventory": self.labels.inventory}

    def load_state_dict(self, state: dict) -> None:
        """Restore the labels; those of a training folder must be the same."""
        with exit_on_input_error():
            if state.get("kind") != self.kind:
                raise InputError(
                    f"the checkpoint is of {state.get('kind', 'another task')}, not of {self.kind}"
                )
            if self.labels is not None and self.labels.inventory != state["inventory"]:
                raise InputError(
                    f"the labels of {self.cfg.data} are not the checkpoint's; train in another "
                    "checkpoint.save_dir"
                )
            self.labels = make_labels(self.kind, state["inventory"])

    def build_model(self, cfg: FairseqDataclass, from_checkpoint: bool = False):
        """Build the model; at the start of training, load the upstream's weights."""
        with exit_on_input_error():
            if not from_checkpoint:
                resolve_upstream(cfg, Path(self.cfg.data))
            model = super().build_model(cfg, from_checkpoint)
            if not from_checkpoint:
                load_upstream_weights(model.upstream, cfg)
                self._check_resumable(cfg, model.upstream)
        self.reads = model.upstream.reads
        upstream = model.upstream
        logger.info("upstream %s: %d states of %d", cfg.upstream, upstream.layers, upstream.dim)
        return model

    def _check_resumable(self, cfg: FairseqDataclass, upstream: Upstream) -> None:
        """Check the checkpoint that this run starts from; fairseq itself only loads the weights.

        Raises:
            InputError: it has other labels, or its head was trained on another upstream.
        """
        loaded = loaded_checkpoint(self.cfg)
        if loaded is None:
            return
        restored_from, checkpoint = loaded
        if "inventory" not in checkpoint.get("task_state", {}):
            raise InputError(
                f"{restored_from}, from which this run would start, is of another stage; give a "
                "checkpoint of this task, or give each run its own checkpoint.save_dir"
            )
        self.load_state_dict(checkpoint["task_state"])
        saved = settings_of(checkpoint, "model")
        weights = {n: w for n, w in checkpoint["model"].items() if n.startswith("upstream.")}
        current = {f"upstream.{name}": w for name, w in upstream.state_dict().items()}
        # An untrained encoder is initialised again; the checkpoint has the original one.
        precision = _training_precision(settings_of(checkpoint, "common"))
        same = str(cfg.upstream).startswith("random") or (
            weights.keys() == current.keys()
            and all(
                _rounded(weights[n], precision).equal(_rounded(current[n], precision))
                for n in current
            )
        )
        stored = saved.get("upstream_weights") or cfg.upstream_weights  # older ones lack it
        if saved.get("upstream_kind") != cfg.upstream_kind or stored != cfg.upstream_weights:
            same = False
        if not same:
            raise InputError(
                f"{restored_from}, from which this run would start, is a head on another upstream "
                f"({saved['upstream']}); set model.upstream to that, or another "
                "checkpoint.save_dir"
            )

    def load_dataset(self, split: str, combine: bool = False, **kwargs) -> None:
        training = is_training_split(self.cfg, split)
        with exit_on_input_error():
            if combine and not training:
                raise InputError(
                    "mmpt_superb validates on one manifest; leave dataset.combine_valid_subsets out"
                )
            manifest = self._manifest(self.cfg, split)
            check_rows(self.labels, manifest)
            self._check_lengths(manifest, training)
            self.datasets[split] = SuperbDataset(
                manifest,
                self.reads,
                self.labels,
                training,
                self.cfg.audio_root,
                class_weights(manifest) if self.cfg.balance_classes else None,
            )
            if is_validation_split(self.cfg, split):
                prepare_validation(self.datasets[split], self.cfg.audio_root)

    def _check_lengths(self, manifest: Manifest, training: bool) -> None:
        limit, longest = self.cfg.max_source_positions, int(np.argmax(manifest.n_frames))
        if not training and manifest.n_frames[longest] > limit:
            raise InputError(
                f"{manifest.where(longest)} has {manifest.n_frames[longest]} frames of 10 ms, more "
                f"than the upstream's {limit} positions; cut it or raise task.max_source_positions"
            )

    def max_positions(self) -> tuple[int, int]:
        return self.cfg.max_source_positions, 1


def _check_scoring(cfg: SuperbConfig) -> None:
    """Check how diarization is scored.

    Raises:
        InputError: an option is out of range.
    """
    ranges = {
        "der_threshold": (0 < cfg.der_threshold < 1, "between 0 and 1"),
        "der_median": (cfg.der_median > 0 and cfg.der_median % 2, "an odd number of frames"),
        "der_collar": (cfg.der_collar >= 0, "0 seconds or more"),
    }
    for name, (allowed, meaning) in ranges.items():
        if not allowed:
            raise InputError(f"task.{name}={getattr(cfg, name)} must be {meaning}")


def _training_precision(common: dict) -> torch.dtype:
    """The dtype to which fairseq converted the model for training, from the config's ``common``."""
    if common.get("fp16") or common.get("memory_efficient_fp16"):
        return torch.float16
    if common.get("bf16") or common.get("memory_efficient_bf16"):
        return torch.bfloat16
    return torch.float32


def _rounded(weight: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    """A weight rounded to the training precision; integer buffers are unchanged."""
    weight = weight.cpu()
    return weight.to(precision) if weight.is_floating_point() else weight


def class_weights(manifest: Manifest) -> NDArray[np.float64]:
    """Inverse frequency of each row's label, ``(rows,)``."""
    _, rows, counts = np.unique(
        list(manifest.column("tgt_text")), return_inverse=True, return_counts=True
    )
    return 1 / counts[rows]
