"""Config of the audio encoder, shared by all stages, and its factory function."""

from dataclasses import dataclass, field

from fairseq.dataclass import ChoiceEnum, FairseqDataclass

from manifests.errors import InputError
from mmpt_fairseq.modules.conformer import ConformerEncoder


@dataclass
class ConformerConfig(FairseqDataclass):
    """Defaults are ``base``: the paper's 16 layers, 4 heads and kernel 31; width 256 is ours."""

    encoder_embed_dim: int = field(default=256, metadata={"help": "width of the Conformer"})
    encoder_layers: int = field(default=16, metadata={"help": "Conformer layers"})
    encoder_attention_heads: int = field(default=4, metadata={"help": "attention heads"})
    encoder_ffn_embed_dim: int = field(default=2048, metadata={"help": "feed-forward width"})
    depthwise_conv_kernel_size: int = field(default=31, metadata={"help": "odd kernel size"})
    encoder_positions: ChoiceEnum(["sinusoidal", "rotary"]) = field(
        default="sinusoidal",
        metadata={"help": "sinusoidal: added at the input; rotary: in every attention layer"},
    )
    dropout: float = field(default=0.1, metadata={"help": "dropout"})
    checkpoint_activations: bool = field(
        default=False, metadata={"help": "recompute activations in the backward pass"}
    )


def build_conformer(cfg: ConformerConfig) -> ConformerEncoder:
    """Build the audio encoder.

    Raises:
        InputError: the sizes are inconsistent.
    """
    check_at_least(1, cfg, "encoder_layers", "encoder_ffn_embed_dim")
    if not 0 <= cfg.dropout < 1:
        raise InputError(f"model.dropout={cfg.dropout} is not between 0 and 1")
    head_dim, positions = check_heads(cfg, "encoder"), str(cfg.encoder_positions)
    kernel = cfg.depthwise_conv_kernel_size
    if kernel < 1 or kernel % 2 == 0:
        raise InputError(f"model.depthwise_conv_kernel_size={kernel} must be odd, such as 31")
    if positions not in ("sinusoidal", "rotary"):
        raise InputError(f"model.encoder_positions={positions} must be sinusoidal or rotary")
    if positions == "rotary" and head_dim % 2:
        raise InputError(
            f"model.encoder_positions=rotary rotates channel pairs, but each head has {head_dim}; "
            "set model.encoder_embed_dim to an even multiple of model.encoder_attention_heads"
        )
    return ConformerEncoder(
        dim=cfg.encoder_embed_dim,
        layers=cfg.encoder_layers,
        heads=cfg.encoder_attention_heads,
        ffn_dim=cfg.encoder_ffn_embed_dim,
        kernel=kernel,
        dropout=cfg.dropout,
        positions=positions,
        checkpoint_activations=cfg.checkpoint_activations,
    )


def check_heads(cfg: FairseqDataclass, part: str) -> int:
    """Channels per head of ``part``: ``encoder``, ``decoder`` or ``video``.

    Raises:
        InputError: the width is not a multiple of the number of heads.
    """
    width, heads = (getattr(cfg, f"{part}_{name}") for name in ("embed_dim", "attention_heads"))
    if heads < 1 or width < 1 or width % heads:
        raise InputError(
            f"model.{part}_embed_dim={width} is not a multiple of "
            f"model.{part}_attention_heads={heads}; change one of them"
        )
    return width // heads


def check_at_least(least: int, cfg: FairseqDataclass, *names: str) -> None:
    """Check sizes in the config of a model.

    Raises:
        InputError: one is less than ``least``.
    """
    for name in names:
        if getattr(cfg, name) < least:
            raise InputError(f"model.{name}={getattr(cfg, name)} must be at least {least}")
