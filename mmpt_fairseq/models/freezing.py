"""Freezing of a pre-trained encoder, and its own learning rate."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fairseq.optim import FairseqOptimizer
from torch import nn
from torch.optim import Optimizer

from manifests.errors import InputError
from mmpt_fairseq.models.encoder_config import check_at_least
from mmpt_fairseq.modules.conformer import ConformerEncoder

# Value of fairseq's ``param_group``, which its 16-bit optimizers pass on to their 32-bit copies.
ENCODER_GROUP = "encoder"

# An update number at which everything is unfrozen, for dry runs; unfreezing is not logged then.
AFTER_LAST_UPDATE = 10**9


@dataclass
class Freezing:
    """Which parts of the encoder are frozen, and for how long.

    Attributes:
        whole: freeze everything, always.
        updates: number of updates for which layers initialised from a checkpoint are frozen.
        layers: number of first layers that are always frozen, with the subsampling.
        fresh: number of last layers initialised at random, which train from the start.
    """

    whole: bool = False
    updates: int = 0
    layers: int = 0
    fresh: int = 0

    @classmethod
    def from_config(cls, cfg) -> "Freezing":
        """Read the options from a model's config.

        Raises:
            InputError: the options contradict each other, or would freeze untrained layers.
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
            fresh = f" except its last layers ({self.fresh})" if self.fresh else ""
            parts.insert(0, f"the encoder{fresh} for the first {self.updates} updates")
        return f"frozen: {', then '.join(parts) or 'nothing'}"

    def always(self, encoder: ConformerEncoder) -> list[nn.Module]:
        """The modules that are frozen throughout training."""
        if self.whole:
            return [encoder]
        return _first_layers(encoder, self.layers) if self.layers else []

    def ends_at(self, update: int) -> bool:
        """Whether this update is the first after the frozen ones."""
        return not self.whole and update == self.updates > 0

    def at_update(self, encoder: ConformerEncoder, update: int) -> list[nn.Module]:
        """The modules that are frozen at this update."""
        if update >= self.updates or self.whole:
            return self.always(encoder)
        return _first_layers(encoder, len(encoder.layers) - self.fresh) if self.fresh else [encoder]


def _first_layers(encoder: ConformerEncoder, layers: int) -> list[nn.Module]:
    return [encoder.subsample, encoder.dropout, *encoder.layers[:layers]]


def _check(cfg) -> None:
    layers, fresh = cfg.encoder_layers, cfg.fresh_encoder_layers
    check_at_least(0, cfg, "fresh_encoder_layers")
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
    if not cfg.encoder_lr_scale > 0:  # nor not a number
        raise InputError(
            f"model.encoder_lr_scale={cfg.encoder_lr_scale} is not above 0; to freeze the encoder "
            "set model.freeze_encoder=true"
        )
    if cfg.encoder_lr_scale != 1.0 and cfg.freeze_encoder:
        raise InputError(
            "model.encoder_lr_scale has no effect with model.freeze_encoder=true; remove one of "
            "them"
        )


@contextlib.contextmanager
def without_gradients(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Context in which parameters of ``modules`` do not require gradients.

    Outside it they must: fairseq's optimizer takes what requires gradients at the start, including
    what is unfrozen later. Autograd reads the flag when it records.
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
    """Mark the encoder's parameters, so that they are found among an optimizer's."""
    for parameter in encoder.parameters():
        parameter.param_group = ENCODER_GROUP


def torch_optimizers(optimizer: FairseqOptimizer) -> list[Optimizer]:
    """The optimizers of torch's in one of fairseq's: several in ``composite``."""
    inner = optimizer.optimizer
    parts = getattr(inner, "optimizers", None)
    return [inner] if parts is None else [part.optimizer for part in parts.values()]


def refuse_weight_decay(optimizer: FairseqOptimizer) -> None:
    """Check that weight decay cannot change parameters without gradients.

    fairseq's 16-bit optimizers replace missing gradients by zeros, to which weight decay applies.

    Raises:
        InputError: this is such an optimizer, with weight decay.
    """
    copies = hasattr(optimizer, "fp32_params")
    groups = [group for part in torch_optimizers(optimizer) for group in part.param_groups]
    if copies and any(group.get("weight_decay") for group in groups):
        raise InputError(
            "model.freeze_encoder_updates would not protect the encoder from weight decay in 16 "
            "bits; set common.amp=true instead of common.fp16 or common.bf16, or "
            "optimizer.weight_decay=0"
        )


def restart_encoder_moments(optimizer: FairseqOptimizer) -> None:
    """Restart Adam's moments of the encoder as it is unfrozen, in fairseq's 16-bit optimizers.

    These have counted the frozen updates as steps with zero gradients, so that the bias of the
    moments is no longer corrected: the first steps would be up to six times too long with betas of
    0.9 and 0.999. Where the 32-bit copies are flattened into one, or the step is counted per group,
    the moments of all parameters restart.
    """
    if not hasattr(optimizer, "fp32_params"):
        return
    parts = torch_optimizers(optimizer)
    for inner, group in ((part, group) for part in parts for group in part.param_groups):
        marked = [p for p in group["params"] if getattr(p, "param_group", None) == ENCODER_GROUP]
        per_group = group.pop("step", None) is not None  # apex
        for parameter in group["params"] if per_group or not marked else marked:
            if "exp_avg_sq" in inner.state.get(parameter, {}):
                del inner.state[parameter]


@contextlib.contextmanager
def scaled_encoder_lr(optimizer: FairseqOptimizer, scale: float) -> Iterator[None]:
    """Context in which the encoder's parameters form a group with ``scale`` times the rate.

    fairseq's schedulers set one rate for all groups and its checkpoints expect the original groups;
    so the split, over the same optimizer states, only exists during a step.

    Raises:
        InputError: the parameters were flattened into one, so that the encoder's are not
            separable; or the optimizer derives its state from the rate.
    """
    if scale == 1.0:
        yield
        return
    [inner, *others] = torch_optimizers(optimizer)
    if others:
        raise InputError(
            "model.encoder_lr_scale has no effect on optimizer=composite; give its group encoder "
            "a learning rate of its own"
        )
    groups, parts = inner.param_groups, []
    for group in groups:
        split: dict[bool, list] = {True: [], False: []}
        for parameter in group["params"]:
            in_encoder = getattr(parameter, "param_group", None) == ENCODER_GROUP
            split[in_encoder].append(parameter)
        parts.append({**group, "params": split[True], "lr": scale * group["lr"]})
        parts.append({**group, "params": split[False]})
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
            # Some optimizers store the step count in the group.
            group.update({k: v for k, v in part.items() if k not in ("params", "lr")})
    for encoder, part in zip(parts[::2], parts[1::2], strict=True):
        for name, value in part.items():
            if name != "lr" and isinstance(value, float) and value != encoder[name]:
                raise InputError(
                    f"model.encoder_lr_scale does not work with {type(inner).__name__}, whose "
                    f"{name} depends on the rate; use another optimizer, such as adam"
                )
