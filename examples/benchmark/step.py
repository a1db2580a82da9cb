"""A whole update of stage 1's sound (MAE): which share of the matrix products' own rate it keeps.

    python -m examples.benchmark.step

An update is forward, backward, clipping and Adam. Only multiplications that cannot be left out
are counted: of visible tokens in the encoder, of all tokens in the decoder, of masked ones in the
prediction; nothing of padding, of masked positions that a convolution passes over, of norms and
activations. The rate is that of square matrix products, timed in turn with the updates.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from fairseq.optim.adam import Adam
from fairseq.utils import clip_grad_norm_
from torch import Tensor

from examples.benchmark.timing import Clock, Paired, add_clock, machine, paired
from mmpt_fairseq.data.audio import NUM_MEL_BINS, SUBSAMPLING
from mmpt_fairseq.data.masks import random_mask
from mmpt_fairseq.models.av_pretraining import AVPretrainingModel, AVPretrainingModelConfig
from mmpt_fairseq.tasks.av_pretraining import AVPretrainingConfig, AVPretrainingTask

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
        "audio": torch.randn(clips, frames, NUM_MEL_BINS),
        "audio_lengths": torch.full((clips,), frames),
        "audio_mask": torch.from_numpy(masks),
        "audio_rows": torch.arange(clips),
    }


def share(
    cfg: AVPretrainingModelConfig,
    clips: int,
    frames: int,
    pairs: int,
    clock: Clock,
    ratio: float = 0.6,
) -> tuple[float, float, Paired]:
    """Share of the products' rate, that rate in FLOP/s, and the times."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # No picture is seen, so the smallest will do.
    task = AVPretrainingTask(AVPretrainingConfig(video_num_frames=2, video_size=16))
    model = AVPretrainingModel.build_model(cfg, task).to(device)
    net_input = {name: x.to(device) for name, x in batch(clips, frames, ratio).items()}
    optimiser = Adam(model.parameters(), lr=1e-4)
    matrix = torch.randn(PRODUCT, PRODUCT, device=device)

    def update() -> None:
        optimiser.zero_grad()
        reconstruction, _ = model(**net_input)
        reconstruction.audio_error.sum().backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    def products() -> None:
        for _ in range(PRODUCTS):
            matrix @ matrix

    found = paired(update, products, pairs, "updates", clock)
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
    add_clock(parser)
    args = parser.parse_args()
    cfg = AVPretrainingModelConfig(
        encoder_layers=args.layers,
        dropout=0.0,
        # of pictures, which nobody sees here
        video_layers=1,
        video_embed_dim=64,
        video_attention_heads=4,
    )
    torch.manual_seed(0)
    kept, rate, found = share(cfg, args.clips, args.frames, args.pairs, args.clock)
    print(f"{machine()}; base with {args.layers} layers, {args.clips} x {args.frames} frames")
    print(
        f"update {found.first:.2f} s: {kept:.0%} of the {rate / 1e9:.0f} GFLOP/s of "
        f"{PRODUCT} x {PRODUCT} matrix products (median of {args.pairs} pairs)"
    )


if __name__ == "__main__":
    main()
