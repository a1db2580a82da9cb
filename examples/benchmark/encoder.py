"""Conformer layers, forward and backward: against fairseq's, and with a part of the tokens visible.

    python -m examples.benchmark.encoder

Ratios of time from alternating pairs; no dropout, single precision unless --dtype bfloat16, which
is compared with fairseq's layers in both. Gradients are not added up over steps, as little as in a
training that updates after each batch.
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


def ours(encoder: ConformerEncoder, x: Tensor) -> Step:
    """A step of our layers over ``x`` ``(B, T, D)``."""
    positions = torch.arange(x.size(1), device=x.device).expand(x.shape[:2])

    def step() -> None:
        encoder.zero_grad()
        states = x
        for layer in encoder.layers:
            states = layer(states, None, positions)
        states.sum().backward()

    return step


def fairseqs(encoder: ConformerEncoder, x: Tensor) -> Step:
    """A step of as many of fairseq's layers of the same size, with relative positions.

    They have the precision of ``x``.
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
        for each in layers:
            states, _ = each(states, padding, embedded)
        states.sum().backward()

    return step


def masked(encoder: ConformerEncoder, features: Tensor, share: float | None) -> Step:
    """A step of the whole encoder with a ``share`` of the tokens visible; None: no mask."""
    lengths = torch.full((len(features),), features.size(1), device=features.device)
    mask = None
    if share is not None:
        tokens = -(-features.size(1) // 4)
        places = torch.rand(len(features), tokens, device=features.device).argsort(1)
        mask = places >= round(share * tokens)

    def step() -> None:
        encoder.zero_grad()
        encoder(features, lengths, mask).states.sum().backward()

    return step


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--ffn-dim", type=int, default=2048)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kernel", type=int, default=31)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--frames", type=int, default=1000, help="of 10 ms")
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
        theirs = fairseqs(encoder, x.to(precision))
        found = paired(theirs, ours(encoder, x), args.pairs, label, args.clock)
        print(
            f"{label} {found.first:.3f} s, ours {found.second:.3f} s: "
            f"{found.ratio:.2f} times as fast"
        )
    for share in args.visible:
        steps = masked(encoder, features, None), masked(encoder, features, share)
        found = paired(*steps, args.pairs, f"{share:.0%} visible", args.clock)
        print(
            f"{share:.0%} visible {found.second:.3f} s, all {found.first:.3f} s: "
            f"{found.ratio:.2f} times as fast, {found.ratio * share:.0%} of the ideal"
        )


if __name__ == "__main__":
    main()
