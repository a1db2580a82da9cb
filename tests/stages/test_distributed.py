"""Training with two processes matches training with one, and resumes from its checkpoints."""

import shutil
import subprocess
from pathlib import Path

import pytest

from mmpt_fairseq.data.manifest import Manifest, write_manifest
from tests.commands import (
    largest_difference,
    losses,
    refused,
    scalars,
    succeeded,
    train,
    weights,
)

DATA = {"pretraining": "av", "finetuning": "asr"}  # stage 2 is the same as stage 3 here


# Adam and gradient clipping would hide gradients that are off by a factor.
SGD = ["optimizer._name=sgd", "~optimizer.adam_betas", "+optimizer.momentum=0.9"]
SGD += ["+optimizer.lr=[0.01]", "optimization.lr=[0.01]", "++optimizer.weight_decay=0.0"]
SGD += ["lr_scheduler.warmup_updates=1", "optimization.clip_norm=0"]


# The guide decays with every update, so processes must agree on the update number.
GUIDE = ["++criterion.ctc_guide_updates=5"]


def compare(one: subprocess.CompletedProcess, two: subprocess.CompletedProcess, folder: Path):
    """Check that both logged the same losses and gradient norms, and have the same weights."""
    assert losses(succeeded(one), "train_loss") == losses(succeeded(two), "train_loss")
    first, second = (
        [float(norm) for norm in losses(result.stdout, "train_gnorm")] for result in (one, two)
    )
    assert first == pytest.approx(second, rel=1e-3, abs=2e-3)
    assert min(first) > 0.01
    assert largest_difference(weights(folder / "one"), weights(folder / "two")) < 2e-5


@pytest.mark.parametrize("name", DATA)
def test_two_processes_match_one_with_gradient_accumulation(name, corpora, tmp_path):
    """One batch on each of two processes equals two batches per update on one."""
    data, common = corpora / DATA[name], ["dataset.max_tokens=null", "+dataset.batch_size=2", *SGD]
    common.append("optimization.max_update=3")
    common += GUIDE if name == "finetuning" else []
    one = train(name, data, tmp_path / "one", *common, "optimization.update_freq=[2]")
    two = train(name, data, tmp_path / "two", *common, processes=2)
    compare(one, two, tmp_path)


def write_subset(av: Path, folder: Path, rows: int, with_video: int) -> Path:
    """Write manifests of the first clips of ``av``, with video for the first ``with_video``."""
    manifest, written = Manifest(av / "train.tsv"), []
    for i in range(rows):
        row = dict(zip(manifest.columns, manifest.fields(i), strict=True))
        row |= {"audio": manifest.resolve("audio", i), "video": manifest.resolve("video", i)}
        written.append(row if i < with_video else row | {"video": "", "video_frames": ""})
    for split in ("train", "valid"):
        write_manifest(folder / f"{split}.tsv", written)
    return folder


@pytest.mark.parametrize("batches", [3, 4])
def test_two_processes_match_one_if_some_clips_lack_video(batches, corpora, tmp_path):
    """Some updates do not use the ViT; with three batches, one process gets an empty fourth."""
    data = write_subset(corpora / "av", tmp_path / "data", 2 * batches, 4)
    common = ["dataset.max_tokens=null", "+dataset.batch_size=2", *SGD]
    common.append("optimization.max_update=6")
    update_batches = 4 if batches == 3 else 2
    one, two = (
        train(
            "pretraining",
            data,
            tmp_path / name,
            *common,
            f"optimization.update_freq=[{update_batches // processes}]",
            processes=processes,
        )
        for name, processes in (("one", 1), ("two", 2))
    )
    compare(one, two, tmp_path)


@pytest.mark.parametrize(
    "criterion", ["mmpt_contrastive", "mmpt_masked_reconstruction_and_contrastive"]
)
def test_two_processes_share_negatives_like_one_with_the_whole_batch(criterion, corpora, tmp_path):
    data = write_subset(corpora / "av", tmp_path / "data", 4, 4)
    common = [f"criterion._name={criterion}", "dataset.max_tokens=null", *SGD]
    common.append("optimization.max_update=3")
    one = train("pretraining", data, tmp_path / "one", *common, "+dataset.batch_size=4")
    two = train(
        "pretraining", data, tmp_path / "two", *common, "+dataset.batch_size=2", processes=2
    )
    compare(one, two, tmp_path)


@pytest.mark.parametrize("name", DATA)
def test_two_processes_resume(name, corpora, tmp_path):
    """Resuming halfway gives the weights of the uninterrupted training."""
    data, common = corpora / DATA[name], ["dataset.max_tokens=null", "+dataset.batch_size=2"]
    common.append("optimization.max_update=4")
    saved = [*common, "checkpoint.save_interval_updates=3"]
    succeeded(train(name, data, tmp_path / "whole", *saved, processes=2))
    [middle] = (tmp_path / "whole").glob("checkpoint_*_3.pt")
    (tmp_path / "resumed").mkdir()
    shutil.copy(middle, tmp_path / "resumed" / "checkpoint_last.pt")
    output = succeeded(train(name, data, tmp_path / "resumed", *common, processes=2))
    assert "Loaded checkpoint" in output
    assert losses(output, "train_num_updates")[-1] == "4"
    assert largest_difference(weights(tmp_path / "whole"), weights(tmp_path / "resumed")) == 0


@pytest.mark.parametrize(
    ("criterion", "key"),
    [
        ("mmpt_contrastive", "train_clr"),
        ("mmpt_masked_reconstruction_and_contrastive", "train_mae_video"),
    ],
)
def test_other_objectives_train_on_two_processes(criterion, key, corpora, tmp_path):
    """Three batches on two processes, so that one process has a dummy batch at the end.

    The best checkpoint is selected by recall, which is compared from the second validation on.
    """
    options = [f"criterion._name={criterion}", "dataset.max_tokens=null", "+dataset.batch_size=3"]
    options += ["checkpoint.best_checkpoint_metric=audio_to_video_recall_1"]
    options += ["checkpoint.maximize_best_checkpoint_metric=true"]
    options += ["dataset.validate_interval_updates=1", "checkpoint.save_interval_updates=1"]
    output = succeeded(train("pretraining", corpora / "av", tmp_path, *options, processes=2))
    assert len(losses(output, "valid_best_audio_to_video_recall_1")) >= 1
    assert all(float(value) > 0 for value in losses(output, key))
    assert losses(output, key)
    logged = scalars(tmp_path / "tensorboard" / "valid")
    if key == "train_mae_video":  # a single event file for all validations
        assert len(list((tmp_path / "tensorboard" / "reconstruction").iterdir())) == 1
    for name in ("audio_to_video", "video_to_audio"):
        first, fifth = (losses(output, f"valid_{name}_recall_{k}")[-1] for k in (1, 5))
        # Over all eight clips, although a batch has three.
        assert float(first) * 8 == int(float(first) * 8)
        assert float(first) <= float(fifth) <= 1
        last = [logged[f"{name}_recall_{k}"][-1] for k in (1, 5)]
        assert last == pytest.approx([float(first), float(fifth)], abs=1e-3)


def test_a_single_process_config_under_a_launcher_is_rejected(corpora, tmp_path):
    env = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    message = refused(train("finetuning", corpora / "asr", tmp_path, env=env))
    assert "+distributed=torchrun" in message
    assert not list(tmp_path.glob("*.pt"))
