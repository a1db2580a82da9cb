"""Stage 3 updates: ours against fairseq's s2t_conformer; encoder trained, frozen or precomputed.

    python -m examples.benchmark.finetuning [--pairs 20] [--seconds 8] [--batch 4] [--tokens 40]
        [--dtype bfloat16]

An update is forward, loss, backward, gradient clipping and Adam, by fairseq's own ``train_step``,
repeated on one batch. Models have the same sizes and dropout. fairseq's has no CTC head, so the
comparison with it omits CTC; those of the encoder include the CTC term, as stage 3 is trained. With
bfloat16 (``common.bf16``) ours is compared with fairseq's in bfloat16 and in float32.
"""

import argparse
from argparse import Namespace
from collections.abc import Callable

import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.data import Dictionary
from fairseq.dataclass.configs import CommonConfig
from fairseq.optim import FairseqOptimizer
from fairseq.optim.adam import FairseqAdam, FairseqAdamConfig
from fairseq.optim.fp16_optimizer import FP16Optimizer
from fairseq.tasks import FairseqTask
from fairseq.utils import apply_to_sample
from omegaconf import OmegaConf
from torch import nn

from examples.benchmark.models import FRAMES, build_fairseq, build_ours, parse, vocabulary
from examples.benchmark.timing import machine, paired
from mmpt_fairseq.criterions.label_smoothed_cross_entropy import ManifestLabelSmoothedCrossEntropy
from mmpt_fairseq.data.audio import subsampled

CLIP = 10.0  # maximum gradient norm, as in fairseq's recipes
SINGLE = "fairseq's in float32"


def batch_of(args: argparse.Namespace, dictionary: Dictionary, frames: int, width: int) -> dict:
    """A batch in fairseq's format: ``(B, T, F)`` noise and random subword targets."""
    generator = torch.Generator().manual_seed(args.seed)
    tokens = torch.randint(
        dictionary.nspecial, len(dictionary), (args.batch, args.tokens), generator=generator
    )
    eos = torch.full((args.batch, 1), dictionary.eos())
    return {
        "ntokens": tokens.numel() + args.batch,
        "target": torch.cat([tokens, eos], 1),
        "ctc_target": tokens,
        "ctc_target_lengths": torch.full((args.batch,), args.tokens),
        "net_input": {
            "src_tokens": torch.randn(args.batch, frames, width, generator=generator),
            "src_lengths": torch.full((args.batch,), frames),
            "prev_output_tokens": torch.cat([eos, tokens], 1),
        },
    }


def optimizer_of(model: nn.Module, dtype: torch.dtype) -> FairseqOptimizer:
    """Adam as fairseq's trainer builds it; in 16 bits it updates a float32 master copy."""
    settings = FairseqAdamConfig(_name="adam", lr=[1e-4], adam_betas="(0.9, 0.98)", tpu=False)
    settings = OmegaConf.create(vars(settings))
    trainable = [p for p in model.parameters() if p.requires_grad]
    if dtype == torch.float32:
        return FairseqAdam(settings, trainable)
    common = OmegaConf.structured(CommonConfig(bf16=True, fp16_scale_window=1))
    return FP16Optimizer.build_optimizer(Namespace(common=common, optimizer=settings), trainable)


def update_of(
    model: nn.Module, criterion: nn.Module, batch: dict, dtype: torch.dtype = torch.float32
) -> Callable[[], None]:
    """Function that makes one update in ``dtype`` as fairseq's trainer does."""
    model.to(dtype)
    optimizer = optimizer_of(model, dtype)
    batch = apply_to_sample(lambda x: x.to(dtype) if x.is_floating_point() else x, batch)
    task = FairseqTask(Namespace())

    def update() -> None:
        _, size, _ = task.train_step(batch, model, criterion, optimizer, 1)
        optimizer.multiply_grads(1 / size)
        optimizer.clip_grad_norm(CLIP)
        optimizer.step()
        optimizer.zero_grad()

    return update


def build_updates(
    args: argparse.Namespace, dtype: torch.dtype = torch.float32
) -> dict[str, Callable[[], None]]:
    """System name -> its update in ``dtype``; SINGLE is added where ``dtype`` is not float32."""
    dictionary = vocabulary(args)
    frames = round(args.seconds * FRAMES)
    audio = batch_of(args, dictionary, frames, 80)
    states = batch_of(args, dictionary, subsampled(frames), args.width)
    task = Namespace(target_dictionary=dictionary)
    attention = LabelSmoothedCrossEntropyCriterion(task, False, 0.1, report_accuracy=True)
    both = ManifestLabelSmoothedCrossEntropy(task, False, 0.1, 0, True, 0.3)
    frozen = [build_ours(args, dictionary, freeze_encoder=True) for _ in range(2)]
    frozen[1].encoder.given_states = True
    updates = {
        "fairseq's": update_of(build_fairseq(args, dictionary), attention, audio, dtype),
        "ours": update_of(build_ours(args, dictionary, ctc=False), attention, audio, dtype),
        "free": update_of(build_ours(args, dictionary), both, audio, dtype),
        "frozen": update_of(frozen[0], both, audio, dtype),
        "stored": update_of(frozen[1], both, states, dtype),
    }
    if dtype != torch.float32:
        updates[SINGLE] = update_of(build_fairseq(args, dictionary), attention, audio)
    return updates


def main() -> None:
    """Print the comparison."""
    args = parse(__doc__.splitlines()[0], batch=4, dtypes=True)
    dtype = getattr(torch, args.dtype)
    updates = build_updates(args, dtype)
    print(f"{machine()}; {args.layers} x {args.width}, {args.batch} x {args.seconds:g} s")
    print(f"{args.dtype}, seconds per update, medians of {args.pairs} alternating pairs")
    for slow, fast, label in (
        ("fairseq's", "ours", "fairseq's s2t_conformer, ours without CTC"),
        (SINGLE, "ours", "fairseq's s2t_conformer in float32, ours without CTC"),
        ("free", "frozen", "encoder free, frozen"),
        ("free", "stored", "encoder free, its states stored"),
    ):
        if slow not in updates:
            continue
        result = paired(updates[slow], updates[fast], args.pairs, label, args.clock)
        print(f"{label}: {result.first:.3f}, {result.second:.3f}: {result.ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
