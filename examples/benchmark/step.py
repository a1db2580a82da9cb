"""FLOP utilisation of a stage 1 update (MAE, audio) relative to plain matrix products.

    python -m examples.benchmark.step
    python -m examples.benchmark.step --compile inductor    # compiled layers against eager ones

An update is forward, backward, gradient clipping and Adam. Only necessary multiplications are
counted: of visible tokens in the encoder, of all tokens in the decoder and of masked ones in the
prediction; none of padding, of masked positions that a convolution skips, of norms or of
activations. The reference rate is that of square matrix products, timed alternately with updates.
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
KERNEL = 5  # kernel size of both subsampling convolutions
PRODUCT = 1024  # rows and columns of the reference matrices
PRODUCTS = 20  # consecutive products in a measurement


@dataclass
class Multiplications:
    """Multiply-adds of a forward pass over one clip.

    Attributes:
        first: those of the first convolution, which needs no gradient of its input.
        rest: all others.
    """

    first: float
    rest: float

    @property
    def flops(self) -> float:
        """Forward plus backward: 2 FLOPs per multiply-add, three products for each forward one."""
        return 2 * (2 * self.first + 3 * self.rest)


def subsampling(dim: int, visible: int) -> Multiplications:
    """Two strided convolutions with GLUs: twice as many outputs as the next layer reads."""
    first = 2 * visible * KERNEL * NUM_MEL_BINS * 2 * dim
    return Multiplications(first, visible * KERNEL * dim * 2 * dim)


def conformer_layer(dim: int, ffn_dim: int, kernel: int, visible: int, total: int) -> float:
    """Two feed-forward modules, attention, and convolution over the visible neighbours."""
    feed_forward = 2 * 2 * dim * ffn_dim
    attention = 4 * dim * dim + 2 * visible * dim
    convolution = 3 * dim * dim + kernel * dim * visible / total
    return visible * (feed_forward + attention + convolution)


def transformer_block(dim: int, tokens: int) -> float:
    """Attention and a feed-forward module of four times the width."""
    return tokens * (4 * dim * dim + 2 * tokens * dim + 8 * dim * dim)


def necessary(cfg: AVPretrainingModelConfig, frames: int, masked: int) -> Multiplications:
    """Masked autoencoding of a clip's audio, ``masked`` being its number of masked tokens."""
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
    """A batch of ``clips`` clips of noise, each masked at ``ratio``."""
    rng, tokens = np.random.default_rng(0), -(-frames // SUBSAMPLING)
    masks = np.stack([random_mask(tokens, ratio, rng) for _ in range(clips)])
    return {
        "audio": torch.randn(clips, frames, NUM_MEL_BINS, device=DEVICE),
        "audio_lengths": torch.full((clips,), frames, device=DEVICE),
        "audio_mask": torch.from_numpy(masks).to(DEVICE),
        "audio_rows": torch.arange(clips, device=DEVICE),
    }


def build(cfg: AVPretrainingModelConfig, backend: str = "") -> AVPretrainingModel:
    """The model; its layers are compiled by ``backend`` of torch.compile unless it is empty."""
    # The batch has no video, so the smallest frames will do.
    task = AVPretrainingTask(AVPretrainingConfig(video_num_frames=2, video_size=16))
    model = AVPretrainingModel.build_model(cfg, task).to(DEVICE)
    if backend:
        model.compile_layers(backend)
    return model


def updates(model: AVPretrainingModel, net_input: dict[str, Tensor]) -> Callable[[], None]:
    """Function that makes one update of masked autoencoding per call."""
    optimiser = Adam(model.parameters(), lr=1e-4)

    def update() -> None:
        optimiser.zero_grad()
        reconstruction, _ = model(**net_input)
        reconstruction.audio_error.sum().backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    return update


def utilisation(
    cfg: AVPretrainingModelConfig,
    clips: int,
    frames: int,
    pairs: int,
    clock: Clock,
    ratio: float = 0.6,
) -> tuple[float, float, Paired]:
    """Fraction of the reference rate, that rate in FLOP/s, and the times."""
    net_input = batch(clips, frames, ratio)
    matrix = torch.randn(PRODUCT, PRODUCT, device=DEVICE)

    def products() -> None:
        for _ in range(PRODUCTS):
            matrix @ matrix

    result = paired(updates(build(cfg), net_input), products, pairs, "updates", clock)
    masked = int(net_input["audio_mask"][0].sum())
    flops = clips * necessary(cfg, frames, masked).flops
    reference = 2 * PRODUCTS * PRODUCT**3
    return flops / reference / result.ratio, reference / result.second, result


def main() -> None:
    """Print the utilisation, or with ``--compile`` the speed-up."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.benchmark.step", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=1000, help="frames of 10 ms per clip")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--compile", default="", metavar="BACKEND", help="torch.compile backend")
    add_clock(parser)
    args = parser.parse_args()
    cfg = AVPretrainingModelConfig(
        encoder_layers=args.layers,
        dropout=args.dropout,
        # the video encoder, which is not used here
        video_layers=1,
        video_embed_dim=64,
        video_attention_heads=4,
    )
    torch.manual_seed(0)
    print(f"{machine()}; base with {args.layers} layers, {args.clips} x {args.frames} frames")
    if args.compile:
        net_input = batch(args.clips, args.frames, 0.6)
        plain, compiled = (updates(build(cfg, name), net_input) for name in ("", args.compile))
        first_update = seconds(compiled)
        result = paired(plain, compiled, args.pairs, "updates", args.clock)
        print(
            f"update {result.first:.2f} s, compiled by {args.compile} {result.second:.2f} s: "
            f"{result.ratio:.2f} times as fast, first update {first_update:.0f} s (median of "
            f"{args.pairs} pairs)"
        )
        return
    fraction, rate, result = utilisation(cfg, args.clips, args.frames, args.pairs, args.clock)
    print(
        f"update {result.first:.2f} s: {fraction:.0%} of the {rate / 1e9:.0f} GFLOP/s of "
        f"{PRODUCT} x {PRODUCT} matrix products (median of {args.pairs} pairs)"
    )


if __name__ == "__main__":
    main()
