"""Fraction of training time spent waiting for data: stage 1 with audio and video.

    python -m examples.benchmark.waiting data/pretrain

Batches come from fairseq's iterator with ``--workers`` loader workers, as in training; the first
updates, which include the start of the workers, are not counted.
"""

import argparse
import time
from dataclasses import fields
from pathlib import Path

import torch
from fairseq.optim.adam import Adam
from fairseq.utils import move_to_cuda
from tqdm import tqdm

from examples.benchmark.timing import machine, synchronise
from manifests.errors import command_line
from mmpt_fairseq.models.av_pretraining import AVPretrainingModel, AVPretrainingModelConfig
from mmpt_fairseq.tasks.av_pretraining import AVPretrainingConfig, AVPretrainingTask

WARM_UP = 2  # updates that are not counted


def times(
    task: AVPretrainingTask, model: AVPretrainingModel, updates: int, workers: int, tokens: int
) -> tuple[float, float]:
    """Seconds spent waiting for batches, and total seconds, over ``updates``."""
    optimiser = Adam(model.parameters(), lr=1e-5)
    batches = task.get_batch_iterator(
        task.dataset("train"), max_tokens=tokens, num_workers=workers, seed=1, epoch=1
    ).next_epoch_itr()
    waited = total = 0.0
    done = 0
    bar = tqdm(total=updates + WARM_UP, desc="updates", leave=False)
    while done < updates + WARM_UP and batches.has_next():
        start = time.perf_counter()
        sample = next(batches)
        arrived = time.perf_counter()
        if torch.cuda.is_available():
            sample = move_to_cuda(sample)
        optimiser.zero_grad()
        reconstruction, _ = model(**sample["net_input"])
        (reconstruction.audio_error.sum() + reconstruction.video_error.sum()).backward()
        optimiser.step()
        synchronise()
        if done >= WARM_UP:
            waited, total = waited + arrived - start, total + time.perf_counter() - start
        done += 1
        bar.update()
    return waited, total


def main() -> None:
    """Print the fraction."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.benchmark.waiting", description=__doc__.splitlines()[0]
    )
    parser.add_argument("data", type=Path, help="folder with train.tsv")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=30000)
    args = parser.parse_args()
    with command_line():
        defaults = {f.name: f.default for f in fields(AVPretrainingConfig)}
        required = {"data": str(args.data), "seed": 1, "train_subset": "train"}
        unset = {"decodes_with": None, "tensorboard_logdir": None, "distributed_world_size": 1}
        task = AVPretrainingTask(AVPretrainingConfig(**{**defaults, **required, **unset}))
        model = AVPretrainingModel.build_model(AVPretrainingModelConfig(), task)
        task.patch_grid = model.video_encoder.patches.grid
        task.load_dataset("train")
    if torch.cuda.is_available():
        model.cuda()
    waited, total = times(task, model, args.updates, args.workers, args.max_tokens)
    print(f"{machine()}; base, {args.max_tokens} tokens per batch, {args.workers} loader workers")
    print(f"{waited:.2f} s of {total:.1f} s waiting for data: {waited / total:.1%}")


if __name__ == "__main__":
    main()
