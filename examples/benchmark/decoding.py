"""How long decoding takes: our searches beside fairseq's beam search on its s2t_conformer.

    python -m examples.benchmark.decoding [--pairs 20] [--seconds 8] [--batch 8] [--tokens 40]

Both models have the same sizes, random weights and the same clips. Beam searches write exactly
``--tokens`` tokens, so that they do the same number of steps. Systems take turns, and what is
printed is the median over the rounds of each system's time divided by that of ours with beam 5 in
the same round: what slows the machine down slows both.
"""

import argparse
import json
import statistics
import time
from argparse import Namespace
from collections.abc import Callable

import torch
from fairseq.data import Dictionary
from fairseq.models.speech_to_text.s2t_conformer import (
    S2TConformerModel,
    conformer_base_architecture,
)
from fairseq.sequence_generator import SequenceGenerator
from torch import nn
from tqdm import trange

from mmpt_fairseq.decoding.ctc import CTCGreedyGenerator, CTCPrefixBeamGenerator
from mmpt_fairseq.decoding.joint import JointEnsemble
from mmpt_fairseq.models.speech_to_text import SpeechToTextModel, SpeechToTextModelConfig

REFERENCE = "ours, beam 5"
FRAMES = 100  # a second


def sizes(args: argparse.Namespace) -> dict[str, int]:
    """What both models share."""
    return {
        "encoder_embed_dim": args.width,
        "encoder_layers": args.layers,
        "encoder_ffn_embed_dim": 4 * args.width,
        "decoder_embed_dim": args.width,
        "decoder_layers": args.decoder_layers,
        "decoder_ffn_embed_dim": 4 * args.width,
    }


def build_ours(args: argparse.Namespace, task: Namespace) -> nn.Module:
    """The model of stages 2 and 3."""
    cfg = SpeechToTextModelConfig(**sizes(args), depthwise_conv_kernel_size=31)
    return SpeechToTextModel.build_model(cfg, task).eval()


def build_fairseqs(args: argparse.Namespace, task: Namespace) -> nn.Module:
    """``s2t_conformer`` with its own defaults beside the shared sizes."""
    settings = Namespace(
        **sizes(args),
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
    return S2TConformerModel.build_model(settings, task).eval()


def build_systems(args: argparse.Namespace) -> dict[str, Callable[[dict], object]]:
    """Name -> what decodes a batch."""
    dictionary = Dictionary()
    for i in range(args.vocabulary):
        dictionary.add_symbol(f"piece{i}")
    task = Namespace(target_dictionary=dictionary)
    ours, fairseqs = build_ours(args, task), build_fairseqs(args, task)

    def beam(model: nn.Module) -> SequenceGenerator:
        length = {"min_len": args.tokens, "max_len_b": args.tokens}
        return SequenceGenerator([model], dictionary, beam_size=5, **length)

    joint = beam(ours)
    joint.model = JointEnsemble([ours], 0.3)
    generators = {
        REFERENCE: beam(ours),
        "fairseq's s2t_conformer, beam 5": beam(fairseqs),
        "ours, joint beam 5": joint,
        "ours, CTC greedy": CTCGreedyGenerator([ours], dictionary),
        "ours, CTC prefix beam 5": CTCPrefixBeamGenerator([ours], dictionary, beam=5),
    }
    return {
        name: lambda sample, g=generator: g.generate(None, sample)
        for name, generator in generators.items()
    }


def measure(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Median seconds a batch, and the median of the paired ratios."""
    torch.manual_seed(args.seed)
    systems = build_systems(args)
    frames = round(args.seconds * FRAMES)
    clips = torch.randn(args.batch, frames, 80)
    sample = {"net_input": {"src_tokens": clips, "src_lengths": torch.full((args.batch,), frames)}}
    times: dict[str, list[float]] = {name: [] for name in systems}
    for round_number in trange(args.pairs + 1, desc="rounds"):
        for name, decode in systems.items():
            start = time.perf_counter()
            decode(sample)
            if round_number:  # the first warms up
                times[name].append(time.perf_counter() - start)
    return {
        name: {
            "seconds": round(statistics.median(own), 4),
            "relative": round(
                statistics.median(a / b for a, b in zip(own, times[REFERENCE], strict=True)), 3
            ),
        }
        for name, own in times.items()
    }


def main() -> None:
    """The command line: a table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--pairs", type=int, default=20, help="rounds in which every system decodes once")
    add("--seconds", type=float, default=8.0, help="length of a clip")
    add("--batch", type=int, default=8, help="clips")
    add("--tokens", type=int, default=40, help="tokens of a hypothesis")
    add("--vocabulary", type=int, default=1000, help="pieces")
    add("--width", type=int, default=256, help="of encoder and decoder")
    add("--layers", type=int, default=16, help="of the encoder")
    add("--decoder-layers", type=int, default=6)
    add("--threads", type=int, default=1)
    add("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(json.dumps({"settings": vars(args), "systems": measure(args)}, indent=1))


if __name__ == "__main__":
    main()
