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
from collections.abc import Callable
from functools import partial

import torch
from fairseq.sequence_generator import SequenceGenerator
from torch import nn
from tqdm import trange

from examples.benchmark.models import FRAMES, build_fairseqs, build_ours, parse, vocabulary
from examples.benchmark.timing import machine, seconds
from mmpt_fairseq.decoding.ctc import CTCGreedyGenerator, CTCPrefixBeamGenerator
from mmpt_fairseq.decoding.ensemble import JointEnsemble

REFERENCE = "ours, beam 5"


def build_systems(args: argparse.Namespace) -> dict[str, Callable[[dict], object]]:
    """Name -> what decodes a batch."""
    dictionary = vocabulary(args)
    ours, fairseqs = (build(args, dictionary).eval() for build in (build_ours, build_fairseqs))

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
    systems = {
        name: lambda sample, g=generator: g.generate(None, sample)
        for name, generator in generators.items()
    }
    # No search can be faster: the ceiling.
    systems["ours, encoder alone"] = torch.no_grad()(
        lambda sample: ours.encoder(**sample["net_input"])
    )
    return systems


def measure(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Median seconds a batch, and the median of the paired ratios."""
    systems = build_systems(args)
    frames = round(args.seconds * FRAMES)
    clips = torch.randn(args.batch, frames, 80)
    sample = {"net_input": {"src_tokens": clips, "src_lengths": torch.full((args.batch,), frames)}}
    times: dict[str, list[float]] = {name: [] for name in systems}
    for round_number in trange(args.pairs + 1, desc="rounds"):
        for name, decode in systems.items():
            taken = seconds(partial(decode, sample), args.clock)
            if round_number:  # the first warms up
                times[name].append(taken)
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
    args = parse(__doc__.splitlines()[0], batch=8)
    systems = measure(args)
    settings = {name: value for name, value in vars(args).items() if name != "clock"}
    print(json.dumps({"machine": machine(), "settings": settings, "systems": systems}, indent=1))


if __name__ == "__main__":
    main()
