"""Upstreams by name: filterbanks, our checkpoints, fairseq's checkpoints, stored states.

``fbank``             SUPERB's FBANK
``random``            an untrained Conformer with the model's ``encoder_*`` sizes
``random:CKPT``       an untrained Conformer with a checkpoint's sizes
``cached``            states beside the manifests, stored by ``python -m examples.superb.cache``
a checkpoint path     of any of our stages, or of fairseq's wav2vec 2.0 or HuBERT
"""

import json
import logging
from dataclasses import dataclass, fields
from pathlib import Path

from fairseq import checkpoint_utils

from manifests.errors import InputError
from mmpt_fairseq.checkpoint import encoder_state, load_checkpoint, load_encoder, settings_of
from mmpt_fairseq.models.encoder_config import ConformerConfig, build_conformer
from mmpt_fairseq.modules.upstreams import (
    ConformerUpstream,
    FairseqUpstream,
    FilterbankUpstream,
    StoredUpstream,
    Upstream,
)

logger = logging.getLogger(__name__)

DESCRIPTION = "upstream.json"  # describes the stored states beside it
STORED = ("layers", "dim", "stride", "mean", "weights")
FAIRSEQ_MODELS = ("wav2vec2", "hubert")
SIZES = [f.name for f in fields(ConformerConfig) if f.name not in ("_name", "dropout")]


@dataclass
class UpstreamConfig(ConformerConfig):
    """A resolved upstream name; saved in checkpoints, so that a model needs no other file.

    Attributes:
        upstream_kind: ``fbank``, ``conformer``, ``stored`` or ``fairseq``.
        upstream_layers, upstream_dim, upstream_stride: sizes of stored states.
        upstream_mean: only means over time are stored.
        upstream_weights: hash of the weights that computed the states.
    """

    upstream: str = "fbank"
    upstream_kind: str = ""
    upstream_layers: int = 0
    upstream_dim: int = 0
    upstream_stride: int = 0
    upstream_mean: bool = False
    upstream_weights: str = ""


def open_upstream(name: str, folder: Path | None = None) -> Upstream:
    """Load the upstream of this name with its weights, frozen.

    Raises:
        InputError: the file does not exist, or is a checkpoint of another kind.
    """
    cfg = UpstreamConfig(upstream=name)
    resolve_upstream(cfg, folder)
    upstream = build_upstream(cfg)
    load_upstream_weights(upstream, cfg)
    return upstream.eval().requires_grad_(False)


def resolve_upstream(cfg: UpstreamConfig, folder: Path | None) -> None:
    """Resolve ``cfg.upstream`` in place; ``folder`` has the manifests."""
    name = str(cfg.upstream)
    if name == "fbank":
        cfg.upstream_kind = "fbank"
    elif name == "cached":
        cfg.upstream_kind = "stored"
        _resolve_stored(cfg, folder)
    elif name == "random":
        cfg.upstream_kind = "conformer"
    else:
        _resolve_checkpoint(cfg, name.removeprefix("random:"), name.startswith("random:"))


def build_upstream(cfg: UpstreamConfig) -> Upstream:
    """Build the module for a resolved ``cfg``; weights of our checkpoints are not loaded."""
    if cfg.upstream_kind == "fbank":
        return FilterbankUpstream()
    if cfg.upstream_kind == "stored":
        return StoredUpstream(cfg.upstream_layers, cfg.upstream_dim, cfg.upstream_stride)
    if cfg.upstream_kind == "fairseq":
        return _load_fairseq_upstream(str(cfg.upstream))
    return ConformerUpstream(build_conformer(cfg), cfg.encoder_embed_dim)


def load_upstream_weights(upstream: Upstream, cfg: UpstreamConfig) -> None:
    """Load the weights if the upstream is one of our checkpoints."""
    if isinstance(upstream, ConformerUpstream) and not str(cfg.upstream).startswith("random"):
        load_encoder(upstream.encoder, cfg.upstream)


def _resolve_stored(cfg: UpstreamConfig, folder: Path | None) -> None:
    path = Path(folder or ".") / DESCRIPTION
    if not path.is_file():
        raise InputError(
            f"model.upstream=cached but there is no {path}; store states there with python -m "
            "examples.superb.cache, or name another upstream"
        )
    description = json.loads(path.read_text(encoding="utf-8"))
    for name in STORED:
        if name not in description:
            raise InputError(f"{path} lacks {name}; store the states again")
        setattr(cfg, f"upstream_{name}", description[name])


def check_stored(cfg: UpstreamConfig, folder: Path) -> None:
    """Raise InputError if stored states come from another upstream than the head's."""
    if cfg.upstream_kind == "stored" and getattr(cfg, "upstream_weights", None):
        found = UpstreamConfig(upstream="cached")
        resolve_upstream(found, folder)
        if found.upstream_weights != cfg.upstream_weights:
            raise InputError(
                f"{folder} holds the states of another upstream than the head was trained on; use "
                "states of the same upstream"
            )


def _resolve_checkpoint(cfg: UpstreamConfig, path: str, sizes_only: bool) -> None:
    checkpoint = load_checkpoint(path)
    saved = settings_of(checkpoint, "model")
    kind = str(saved.get("_name", ""))
    if kind in FAIRSEQ_MODELS and not sizes_only:
        cfg.upstream_kind = "fairseq"
        return
    if not encoder_state(checkpoint["model"]):
        raise InputError(
            f"{path} ({kind or 'unknown model'}) is not an upstream; use a checkpoint of any "
            "stage, fairseq's wav2vec 2.0 or HuBERT before fine-tuning, fbank or random"
        )
    cfg.upstream_kind = "conformer"
    for name in SIZES:
        if name in saved:
            setattr(cfg, name, saved[name])


def _load_fairseq_upstream(path: str) -> FairseqUpstream:
    if not Path(path).is_file():
        raise InputError(f"there is no upstream {path}; set model.upstream to its checkpoint")
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([path])
    logger.info("upstream %s: fairseq's %s", path, type(models[0]).__name__)
    return FairseqUpstream(models[0].float(), bool(task.cfg.normalize))
