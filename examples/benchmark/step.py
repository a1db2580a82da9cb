"""A whole update of stage 1's sound (MAE): which share of the matrix products' own rate it keeps.

    python -m examples.benchmark.step
    python -m examples.benchmark.step --compile inductor    # against the same layers compiled

An update is forward, backward, clipping and Adam. Only multiplications that cannot be left out
are counted: of visible tokens in the encoder, of all tokens in the decoder, of masked ones in the
prediction; nothing of padding, of masked positions that a convolution passes over, of norms and
activations. The rate is that of square matrix products, timed in turn with the updates.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from fairseq.optim.adam import Adam
from fairseq.utils import clip_grad_norm_
from torch import Tensor

from examples.benchmark.timing import Clock, Paired, add_clock, machine, paired, seconds
from mmpt_fairseq.data.audio import NUM_MEL_BINS, SUBSAMPLING
from mmpt_fairseq.data.masks import random_mask
from mmpt_fairseq.models.av_pretraining import AVPretrainingModel, AVPretrainingModelConfig
from mmpt_fairseq.tasks.av_pretraining import AVPretrainingConfig, AVPretrainingTask

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KERNEL = 5  # of both convolutions of the subsampling
PRODUCT = 1024  # rows and columns of the matrices whose product is the measure
PRODUCTS = 20  # in a row


@dataclass
class Multiplications:
    """Multiply-adds of a forward pass over one clip.

    Attributes:
        first: of the first convolution, which needs no gradient of its input.
        rest: of everything else.
    """

    first: float
    rest: float

    @property
    def flops(self) -> float:
        """Of forward and backward: twice for a multiply-add, three products where there was one."""
        return 2 * (2 * self.first + 3 * self.rest)


def subsampling(dim: int, visible: int) -> Multiplications:
    """Two strided convolutions with gates: twice as many outputs as the next layer reads."""
    first = 2 * visible * KERNEL * NUM_MEL_BINS * 2 * dim
    return Multiplications(first, visible * KERNEL * dim * 2 * dim)


def conformer_layer(dim: int, ffn_dim: int, kernel: int, visible: int, total: int) -> float:
    """Two feed-forward modules, attention, convolution over the neighbours that are visible."""
    feed_forward = 2 * 2 * dim * ffn_dim
    attention = 4 * dim * dim + 2 * visible * dim
    convolution = 3 * dim * dim + kernel * dim * visible / total
    return visible * (feed_forward + attention + convolution)


def transformer_block(dim: int, tokens: int) -> float:
    """Attention, and a feed-forward module of four times the width."""
    return tokens * (4 * dim * dim + 2 * tokens * dim + 8 * dim * dim)


def necessary(cfg: AVPretrainingModelConfig, frames: int, masked: int) -> Multiplications:
    """Masked autoencoding of a clip's sound with ``masked`` of its tokens masked."""
    total = -(-frames // SUBSAMPLING)
    visible, dim = total - masked, cfg.encoder_embed_dim
    front = subsampling(dim, visible)
    layer = conformer_layer(
        dim, cfg.encoder_ffn_embed_dim, cfg.depthwise_conv_kernel_size, visible, total
    )
    decoder = visible * dim * cfg.decoder_embed_dim
    decoder += cfg.decoder_layers * transformer_block(cfg.decoder_embed_dim, total)
    decoder += masked * cfg.decoder_embed_dim * SUBSAMPLING * NUM_MEL_BINS
    return Multiplications(front.first, front.rest + cfg.encoder_layers * layer + decoder)


def batch(clips: int, frames: int, ratio: float) -> dict[str, Tensor]:
    """``clips`` of noise."""
    rng, tokens = np.random.default_rng(0), -(-frames // SUBSAMPLING)
    masks = np.stack([random_mask(tokens, ratio, rng) for _ in range(clips)])
    return {
        "audio": torch.randn(clips, frames, NUM_MEL_BINS, device=DEVICE),
        "audio_lengths": torch.full((clips,), frames, device=DEVICE),
        "audio_mask": torch.from_numpy(masks).to(DEVICE),
        "audio_rows": torch.arange(clips, device=DEVICE),
    }


def build(cfg: AVPretrainingModelConfig, compiled_by: str = "") -> AVPretrainingModel:
    """The model, its layers compiled by this backend of torch's if one is named."""
    # No picture is seen, so the smallest will do.
    task = AVPretrainingTask(AVPretrainingConfig(video_num_frames=2, video_size=16))
    model = AVPretrainingModel.build_model(cfg, task).to(DEVICE)
    if compiled_by:
        model.compile_layers(compiled_by)
    return model


def updates(model: AVPretrainingModel, net_input: dict[str, Tensor]) -> Callable[[], None]:
    """Makes an update of masked autoencoding each time that it is called."""
    optimiser = Adam(model.parameters(), lr=1e-4)

    def update() -> None:
        optimiser.zero_grad()
        reconstruction, _ = model(**net_input)
        reconstruction.audio_error.sum().backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    return update


def share(
    cfg: AVPretrainingModelConfig,
    clips: int,
    frames: int,
    pairs: int,
    clock: Clock,
    ratio: float = 0.6,
) -> tuple[float, float, Paired]:
    """Share of the products' rate, that rate in FLOP/s, and the times."""
    net_input = batch(clips, frames, ratio)
    matrix = torch.randn(PRODUCT, PRODUCT, device=DEVICE)

    def products() -> None:
        for _ in range(PRODUCTS):
            matrix @ matrix

    found = paired(updates(build(cfg), net_input), products, pairs, "updates", clock)
    masked = int(net_input["audio_mask"][0].sum())
    flops = clips * necessary(cfg, frames, masked).flops
    theirs = 2 * PRODUCTS * PRODUCT**3
    return flops / theirs / found.ratio, theirs / found.second, found


def main() -> None:
    """Print the share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=1000, help="of 10 ms")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--compile", default="", metavar="BACKEND", help="of torch.compile")
    add_clock(parser)
    args = parser.parse_args()
    cfg = AVPretrainingModelConfig(
        encoder_layers=args.layers,
        dropout=args.dropout,
        # of pictures, which nobody sees here
        video_layers=1,
        video_embed_dim=64,
        video_attention_heads=4,
    )
    torch.manual_seed(0)
    print(f"{machine()}; base with {args.layers} layers, {args.clips} x {args.frames} frames")
    if args.compile:
        net_input = batch(args.clips, args.frames, 0.6)
        plain, compiled = (updates(build(cfg, name), net_input) for name in ("", args.compile))
        begun = seconds(compiled)
        found = paired(plain, compiled, args.pairs, "updates", args.clock)
        print(
            f"update {found.first:.2f} s, compiled by {args.compile} {found.second:.2f} s: "
            f"{found.ratio:.2f} times as fast, after {begun:.0f} s of the first (median of "
            f"{args.pairs} pairs)"
        )
        return
    kept, rate, found = share(cfg, args.clips, args.frames, args.pairs, args.clock)
    print(
        f"update {found.first:.2f} s: {kept:.0%} of the {rate / 1e9:.0f} GFLOP/s of "
        f"{PRODUCT} x {PRODUCT} matrix products (median of {args.pairs} pairs)"
    )


if __name__ == "__main__":
    main()
