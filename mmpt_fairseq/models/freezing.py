"""How much of a pre-trained encoder learns, and how fast."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fairseq.optim import FairseqOptimizer
from torch import nn

from manifests.errors import InputError
from mmpt_fairseq.modules.conformer import ConformerEncoder

# fairseq's mark on parameters; its 16-bit optimizers hand it on to their 32-bit copies.
ENCODER_GROUP = "encoder"

# An update at which all that waits has thawed. What is tried as if it were, is told as nothing.
AFTER_LAST_UPDATE = 10**9


@dataclass
class Freezing:
    """What of the encoder stays as it is.

    Attributes:
        whole: everything, always.
        updates: what was taken over, for so many updates.
        layers: subsampling and so many of the first layers, always.
        fresh: last layers that were not taken over and learn from the start.
    """

    whole: bool = False
    updates: int = 0
    layers: int = 0
    fresh: int = 0

    @classmethod
    def from_config(cls, cfg) -> "Freezing":
        """What a model's config says of it.

        Raises:
            InputError: the options contradict one another, or would freeze untrained layers.
        """
        _check(cfg)
        updates = cfg.freeze_encoder_updates
        fresh = cfg.fresh_encoder_layers if updates else 0
        return cls(cfg.freeze_encoder, updates, cfg.freeze_encoder_layers, fresh)

    def __str__(self) -> str:
        if self.whole:
            return "frozen: the encoder"
        parts = [f"its subsampling and first layers ({self.layers})"] if self.layers else []
        if self.updates:
            fresh = f" but for its last layers ({self.fresh})" if self.fresh else ""
            parts.insert(0, f"the encoder{fresh} for the first {self.updates} updates")
        return f"frozen: {', then '.join(parts) or 'nothing'}"

    def always(self, encoder: ConformerEncoder) -> list[nn.Module]:
        """The parts that never change."""
        if self.whole:
            return [encoder]
        return _first(encoder, self.layers) if self.layers else []

    def at_update(self, encoder: ConformerEncoder, update: int) -> list[nn.Module]:
        """The parts that do not change at this update."""
        if update >= self.updates or self.whole:
            return self.always(encoder)
        return _first(encoder, len(encoder.layers) - self.fresh) if self.fresh else [encoder]


def _first(encoder: ConformerEncoder, layers: int) -> list[nn.Module]:
    return [encoder.subsample, encoder.dropout, *encoder.layers[:layers]]


def _check(cfg) -> None:
    layers, fresh = cfg.encoder_layers, cfg.fresh_encoder_layers
    if cfg.freeze_encoder_updates < 0 or not 0 <= cfg.freeze_encoder_layers <= layers:
        raise InputError(
            f"model.freeze_encoder_updates={cfg.freeze_encoder_updates} and "
            f"model.freeze_encoder_layers={cfg.freeze_encoder_layers} must be 0 or more, the "
            f"latter at most the encoder's {layers} layers"
        )
    if fresh and (cfg.freeze_encoder or cfg.freeze_encoder_layers > layers - fresh):
        name = "freeze_encoder" if cfg.freeze_encoder else "freeze_encoder_layers"
        raise InputError(
            f"model.{name}={str(getattr(cfg, name)).lower()} would freeze some of the {fresh} "
            "layers that were never trained; set model.fresh_encoder_layers=0"
        )
    if cfg.encoder_lr_scale <= 0:
        raise InputError(
            f"model.encoder_lr_scale={cfg.encoder_lr_scale} is not above 0; to keep the encoder "
            "as it is set model.freeze_encoder=true"
        )
    if cfg.encoder_lr_scale != 1.0 and cfg.freeze_encoder:
        raise InputError(
            "model.encoder_lr_scale has no effect beside model.freeze_encoder=true; leave one out"
        )


@contextlib.contextmanager
def without_gradients(modules: Sequence[nn.Module]) -> Iterator[None]:
    """What is computed meanwhile passes no gradients to parameters of ``modules``.

    Autograd asks what wants gradients when it records; fairseq, for its optimizer, at the start,
    when what thaws later must want them.
    """
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def mark_encoder(encoder: nn.Module) -> None:
    """So that :func:`scaled_encoder_lr` knows its parameters."""
    for parameter in encoder.parameters():
        parameter.param_group = ENCODER_GROUP


def refuse_decay(optimizer: FairseqOptimizer) -> None:
    """fairseq's 16-bit optimizers put zeros for absent gradients, so that weight decay acts.

    Raises:
        InputError: this is one, with weight decay.
    """
    copies = hasattr(optimizer, "fp32_params")
    if copies and any(group.get("weight_decay") for group in optimizer.param_groups):
        raise InputError(
            "model.freeze_encoder_updates would not keep weight decay from the encoder in 16 bits; "
            "set common.amp=true instead of common.fp16 or common.bf16, or "
            "optimizer.weight_decay=0"
        )


def restart_moments_of_copies(optimizer: FairseqOptimizer) -> None:
    """Let Adam begin anew as the encoder thaws, in fairseq's 16-bit optimizers.

    They have counted the frozen updates as steps with gradients of zero, so that the bias of the
    encoder's moments would no longer be corrected: its first steps would be up to six times as
    long with betas of 0.9 and 0.999. Flattened copies have one count for all parameters.
    """
    if not hasattr(optimizer, "fp32_params"):
        return
    optimizer.optimizer.state.clear()
    for group in optimizer.optimizer.param_groups:
        group.pop("step", None)  # where apex counts


@contextlib.contextmanager
def scaled_encoder_lr(optimizer: FairseqOptimizer, scale: float) -> Iterator[None]:
    """While it lasts, the encoder's parameters form a group with ``scale`` times the rate.

    fairseq's schedulers set one rate on all groups and its checkpoints want the groups of the
    start; so a step has its own, over the same states, and nothing else knows of them.

    Raises:
        InputError: the parameters were flattened into one, where none can be told apart.
    """
    if scale == 1.0:
        yield
        return
    inner = optimizer.optimizer
    groups, parts = inner.param_groups, []
    for group in groups:
        sides: dict[bool, list] = {True: [], False: []}
        for parameter in group["params"]:
            ours = getattr(parameter, "param_group", None) == ENCODER_GROUP
            sides[ours].append(parameter)
        parts.append({**group, "params": sides[True], "lr": scale * group["lr"]})
        parts.append({**group, "params": sides[False]})
    if not any(part["params"] for part in parts[::2]):
        raise InputError(
            "model.encoder_lr_scale cannot find the encoder in flattened 16-bit gradients; set "
            "common.fp16_no_flatten_grads=true or common.amp=true"
        )
    inner.param_groups = parts
    try:
        yield
    finally:
        inner.param_groups = groups
        for group, part in zip(groups, parts[1::2], strict=True):
            # Some optimizers count their steps there.
            group.update({k: v for k, v in part.items() if k not in ("params", "lr")})
