"""Conformer layers, forward and backward: against fairseq's, and with some tokens masked.

    python -m examples.benchmark.encoder

Prints median time ratios of alternating pairs. No dropout; float32 unless --dtype bfloat16, which
is compared with fairseq's layers in both precisions. Gradients are not accumulated over steps, as
in training that updates after each batch.
"""

import argparse
from collections.abc import Callable

import torch
from fairseq.modules.conformer_layer import ConformerEncoderLayer
from fairseq.modules.positional_encoding import RelPositionalEncoding
from torch import Tensor, nn

from examples.benchmark.timing import add_clock, add_dtype, machine, paired
from mmpt_fairseq.modules.conformer import ConformerEncoder

Step = Callable[[], object]


def our_layers_step(encoder: ConformerEncoder, x: Tensor) -> Step:
    """Forward and backward of our layers on ``x`` ``(B, T, D)``."""
    positions = torch.arange(x.size(1), device=x.device).expand(x.shape[:2])

    def step() -> None:
        encoder.zero_grad()
        states = x
        for layer in encoder.layers:
            states = layer(states, None, positions)
        states.sum().backward()

    return step


def fairseq_layers_step(encoder: ConformerEncoder, x: Tensor) -> Step:
    """Forward and backward of the same number of fairseq's layers of the same size.

    They use relative positions and the precision of ``x``.
    """
    layer = encoder.layers[0]
    dim, ffn_dim = x.size(-1), layer.ffn1[1].out_features
    kernel = layer.convolution.depthwise.kernel_size[0]
    layers = nn.ModuleList(
        ConformerEncoderLayer(
            dim,
            ffn_dim,
            layer.attention.heads,
            dropout=0.0,
            use_fp16=False,
            depthwise_conv_kernel_size=kernel,
            attn_type="espnet",
            pos_enc_type="rel_pos",
        )
        for _ in encoder.layers
    ).to(x.device, x.dtype)
    positions = RelPositionalEncoding(x.size(1), dim)
    time_first = x.detach().transpose(0, 1).contiguous()
    padding = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
    embedded = positions(time_first).to(x.device, x.dtype)

    def step() -> None:
        layers.zero_grad()
        states = time_first
        for layer in layers:
            states, _ = layer(states, padding, embedded)
        states.sum().backward()

    return step


def encoder_step(encoder: ConformerEncoder, features: Tensor, visible: float | None) -> Step:
    """Forward and backward of the whole encoder, that ratio of tokens visible; None: no mask."""
    lengths = torch.full((len(features),), features.size(1), device=features.device)
    mask = None
    if visible is not None:
        tokens = -(-features.size(1) // 4)
        places = torch.rand(len(features), tokens, device=features.device).argsort(1)
        mask = places >= round(visible * tokens)

    def step() -> None:
        encoder.zero_grad()
        encoder(features, lengths, mask).states.sum().backward()

    return step


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.benchmark.encoder", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--ffn-dim", type=int, default=2048)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kernel", type=int, default=31)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--frames", type=int, default=1000, help="frames of 10 ms per clip")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--visible", type=float, nargs="+", default=[0.4, 0.25])
    add_dtype(parser)
    add_clock(parser)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    dtype = getattr(torch, args.dtype)
    encoder = ConformerEncoder(
        args.dim, args.layers, args.heads, args.ffn_dim, args.kernel, dropout=0.0
    ).to(device, dtype)
    features = torch.randn(args.clips, args.frames, 80, device=device, dtype=dtype)
    x = torch.randn(args.clips, -(-args.frames // 4), args.dim, device=device, dtype=dtype)
    print(f"{machine()}; {args.layers} x {args.dim}, {args.clips} x {args.frames} frames")
    print(f"{args.dtype}, forward and backward, medians of {args.pairs} alternating pairs")
    for precision in dict.fromkeys((dtype, torch.float32)):
        label = f"fairseq's rel_pos layers, {str(precision).removeprefix('torch.')}"
        theirs = fairseq_layers_step(encoder, x.to(precision))
        result = paired(theirs, our_layers_step(encoder, x), args.pairs, label, args.clock)
        print(
            f"{label} {result.first:.3f} s, ours {result.second:.3f} s: "
            f"{result.ratio:.2f} times as fast"
        )
    for visible in args.visible:
        steps = encoder_step(encoder, features, None), encoder_step(encoder, features, visible)
        result = paired(*steps, args.pairs, f"{visible:.0%} visible", args.clock)
        print(
            f"{visible:.0%} visible {result.second:.3f} s, all {result.first:.3f} s: "
            f"{result.ratio:.2f} times as fast, {result.ratio * visible:.0%} of the ideal"
        )


if __name__ == "__main__":
    main()
