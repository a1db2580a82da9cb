"""How much of a training's time passes waiting for data: stage 1 with sound and pictures.

    python -m examples.benchmark.waiting data/pretrain

Batches come from fairseq's iterator with as many loader workers as asked for, as in training; the
first updates, before which the workers have to start, are not counted.
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

NOT_COUNTED = 2  # updates


def times(
    task: AVPretrainingTask, model: AVPretrainingModel, updates: int, workers: int, tokens: int
) -> tuple[float, float]:
    """Seconds spent waiting for batches, and in all, over ``updates``."""
    optimiser = Adam(model.parameters(), lr=1e-5)
    batches = task.get_batch_iterator(
        task.dataset("train"), max_tokens=tokens, num_workers=workers, seed=1, epoch=1
    ).next_epoch_itr()
    waited = total = 0.0
    done = 0
    bar = tqdm(total=updates + NOT_COUNTED, desc="updates", leave=False)
    while done < updates + NOT_COUNTED and batches.has_next():
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
        if done >= NOT_COUNTED:
            waited, total = waited + arrived - start, total + time.perf_counter() - start
        done += 1
        bar.update()
    return waited, total


def main() -> None:
    """Print the share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with train.tsv")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=30000)
    args = parser.parse_args()
    with command_line():
        given = {f.name: f.default for f in fields(AVPretrainingConfig)}
        settled = {"data": str(args.data), "seed": 1, "train_subset": "train"}
        absent = {"decodes_with": None, "tensorboard_logdir": None, "distributed_world_size": 1}
        task = AVPretrainingTask(AVPretrainingConfig(**{**given, **settled, **absent}))
        model = AVPretrainingModel.build_model(AVPretrainingModelConfig(), task)
        task.patch_grid = model.video_encoder.patches.grid
        task.load_dataset("train")
    if torch.cuda.is_available():
        model.cuda()
    waited, total = times(task, model, args.updates, args.workers, args.max_tokens)
    print(f"{machine()}; base, {args.max_tokens} tokens a batch, {args.workers} loader workers")
    print(f"{waited:.2f} s of {total:.1f} s waiting for data: {waited / total:.1%}")


if __name__ == "__main__":
    main()
