"""Decoding time: our search algorithms against fairseq's beam search on its s2t_conformer.

    python -m examples.benchmark.decoding [--pairs 20] [--seconds 8] [--batch 8] [--tokens 40]

Both models have the same sizes and random weights and decode the same clips. Beam searches emit
exactly ``--tokens`` tokens, so that all run the same number of steps. The systems alternate within
each round; "relative" is the median over the rounds of a system's time divided by that of our
model with beam 5 in the same round, so that load on the machine affects both alike.
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

from examples.benchmark.models import FRAMES, build_fairseq, build_ours, parse, vocabulary
from examples.benchmark.timing import machine, seconds
from mmpt_fairseq.decoding.ctc import CTCGreedyGenerator, CTCPrefixBeamGenerator
from mmpt_fairseq.decoding.ensemble import JointEnsemble

REFERENCE = "ours, beam 5"


def build_systems(args: argparse.Namespace) -> dict[str, Callable[[dict], object]]:
    """Name -> function that decodes a batch."""
    dictionary = vocabulary(args)
    ours, fairseq_model = (build(args, dictionary).eval() for build in (build_ours, build_fairseq))

    def beam(model: nn.Module) -> SequenceGenerator:
        length = {"min_len": args.tokens, "max_len_b": args.tokens}
        return SequenceGenerator([model], dictionary, beam_size=5, **length)

    joint = beam(ours)
    joint.model = JointEnsemble([ours], 0.3)
    generators = {
        REFERENCE: beam(ours),
        "fairseq's s2t_conformer, beam 5": beam(fairseq_model),
        "ours, joint beam 5": joint,
        "ours, CTC greedy": CTCGreedyGenerator([ours], dictionary),
        "ours, CTC prefix beam 5": CTCPrefixBeamGenerator([ours], dictionary, beam=5),
    }
    systems = {
        name: lambda sample, g=generator: g.generate(None, sample)
        for name, generator in generators.items()
    }
    # Upper bound on speed: no search can be faster than the encoder.
    systems["ours, encoder alone"] = torch.no_grad()(
        lambda sample: ours.encoder(**sample["net_input"])
    )
    return systems


def measure(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Median seconds per batch, and the median of the per-round ratios to REFERENCE."""
    systems = build_systems(args)
    frames = round(args.seconds * FRAMES)
    clips = torch.randn(args.batch, frames, 80)
    sample = {"net_input": {"src_tokens": clips, "src_lengths": torch.full((args.batch,), frames)}}
    times: dict[str, list[float]] = {name: [] for name in systems}
    for round_number in trange(args.pairs + 1, desc="rounds"):
        for name, decode in systems.items():
            elapsed = seconds(partial(decode, sample), args.clock)
            if round_number:  # round 0 is a warm-up
                times[name].append(elapsed)
    return {
        name: {
            "seconds": round(statistics.median(durations), 4),
            "relative": round(
                statistics.median(a / b for a, b in zip(durations, times[REFERENCE], strict=True)),
                3,
            ),
        }
        for name, durations in times.items()
    }


def main() -> None:
    """Command-line entry point; prints the results as JSON."""
    args = parse(__doc__.splitlines()[0], batch=8)
    systems = measure(args)
    settings = {name: value for name, value in vars(args).items() if name != "clock"}
    print(json.dumps({"machine": machine(), "settings": settings, "systems": systems}, indent=1))


if __name__ == "__main__":
    main()
