"""Models of equal size to time against each other: ours and fairseq's ``s2t_conformer``."""

import argparse
from argparse import Namespace

import torch
from fairseq.data import Dictionary
from fairseq.models.speech_to_text.s2t_conformer import (
    S2TConformerModel,
    conformer_base_architecture,
)
from torch import nn

from examples.benchmark.timing import add_clock, add_dtype
from mmpt_fairseq.models.speech_to_text import SpeechToTextModel, SpeechToTextModelConfig

FRAMES = 100  # filterbank frames per second


def parse(description: str, batch: int, dtypes: bool = False) -> argparse.Namespace:
    """Parse the options of a comparison of both models; set threads and seed accordingly.

    Args:
        batch: default number of clips per batch.
        dtypes: add ``--dtype``.
    """
    parser = argparse.ArgumentParser(description=description)
    add_clock(parser)
    if dtypes:
        add_dtype(parser)
    add = parser.add_argument
    add("--pairs", type=int, default=20, help="timed rounds, each running every system once")
    add("--seconds", type=float, default=8.0, help="clip length")
    add("--batch", type=int, default=batch, help="clips per batch")
    add("--tokens", type=int, default=40, help="tokens per text")
    add("--vocabulary", type=int, default=1000, help="subword pieces")
    add("--width", type=int, default=256, help="model dimension of encoder and decoder")
    add("--layers", type=int, default=16, help="encoder layers")
    add("--decoder-layers", type=int, default=6)
    add("--threads", type=int, default=1)
    add("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    return args


def vocabulary(args: argparse.Namespace) -> Dictionary:
    """A dictionary of ``args.vocabulary`` pieces."""
    dictionary = Dictionary()
    for i in range(args.vocabulary):
        dictionary.add_symbol(f"piece{i}")
    return dictionary


def shared_sizes(args: argparse.Namespace) -> dict[str, int]:
    """The sizes that both models share."""
    return {
        "encoder_embed_dim": args.width,
        "encoder_layers": args.layers,
        "encoder_ffn_embed_dim": 4 * args.width,
        "decoder_embed_dim": args.width,
        "decoder_layers": args.decoder_layers,
        "decoder_ffn_embed_dim": 4 * args.width,
    }


def build_ours(args: argparse.Namespace, dictionary: Dictionary, **options) -> nn.Module:
    """The model of stages 2 and 3."""
    cfg = SpeechToTextModelConfig(**shared_sizes(args), depthwise_conv_kernel_size=31, **options)
    return SpeechToTextModel.build_model(cfg, Namespace(target_dictionary=dictionary))


def build_fairseq(args: argparse.Namespace, dictionary: Dictionary) -> nn.Module:
    """``s2t_conformer`` with the shared sizes, otherwise its own defaults."""
    settings = Namespace(
        **shared_sizes(args),
        input_feat_per_channel=80,
        input_channels=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        depthwise_conv_kernel_size=31,
        max_source_positions=6000,
        max_target_positions=1024,
        share_decoder_input_output_embed=True,
        fp16=False,
    )
    conformer_base_architecture(settings)
    return S2TConformerModel.build_model(settings, Namespace(target_dictionary=dictionary))
