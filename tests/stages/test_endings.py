"""How trainings end, start again, and are refused: nothing that was learnt is lost."""

import shutil

import pytest
import torch

from mmpt_fairseq.checkpoint import load_checkpoint
from tests.commands import losses, refused, succeeded, train, weights

RARELY = ["checkpoint.save_interval=1000", "dataset.validate_interval=1000"]


def updates(folder) -> int:
    history = load_checkpoint(folder / "checkpoint_last.pt")["optimizer_history"]
    return history[-1]["num_updates"]


@pytest.mark.parametrize("limit", ["max_epoch=1", "stop_min_lr=0.0005"])
def test_the_last_epoch_is_saved(corpora, tmp_path, limit):
    """Where checkpoints are written more rarely, fairseq would lose all updates since the last."""
    options = [*RARELY, f"optimization.{limit}", "optimization.max_update=99"]
    if limit.startswith("stop"):  # reached in the second update
        options += ["lr_scheduler._name=inverse_sqrt", "lr_scheduler.warmup_updates=1"]
        options += ["++lr_scheduler.warmup_init_lr=0.0006", "optimization.lr=[0.0004]"]
    output = succeeded(train("finetuning", corpora / "asr", tmp_path, *options))
    assert len(losses(output, "valid_loss")) == 1
    done = updates(tmp_path)
    assert done == int(losses(output, "train_num_updates")[-1]) > 0
    assert (tmp_path / "checkpoint_best.pt").is_file()
    if limit.startswith("max"):
        options.append("optimization.max_epoch=2")
        succeeded(train("finetuning", corpora / "asr", tmp_path, *options))
        assert updates(tmp_path) == 2 * done


def test_a_new_training_begins_with_no_time_spent(stages, corpora, tmp_path):
    start = load_checkpoint(stages / "finetuning" / "checkpoint_last.pt")
    start["extra_state"]["previous_training_time"] = 7200
    torch.save(start, tmp_path / "start.pt")
    options = [f"checkpoint.finetune_from_model={tmp_path / 'start.pt'}"]
    options += ["optimization.stop_time_hours=1"]
    output = succeeded(train("finetuning", corpora / "asr", tmp_path / "run", *options))
    assert "of 1.00 hours" not in output
    assert updates(tmp_path / "run") == 2


def test_a_moving_average_begins_at_the_weights_of_a_checkpoint_without_one(
    stages, corpora, tmp_path
):
    start = stages / "finetuning" / "checkpoint_last.pt"
    options = [f"checkpoint.finetune_from_model={start}", "ema.store_ema=true"]
    options += ["optimization.lr=[0.0]"]
    succeeded(train("finetuning", corpora / "asr", tmp_path, *options))
    average = load_checkpoint(tmp_path / "checkpoint_last.pt")["extra_state"]["ema"]
    before = weights(stages / "finetuning")
    assert average.keys() == before.keys()
    for name, weight in before.items():
        torch.testing.assert_close(average[name], weight)


def test_a_run_without_its_last_checkpoint_is_not_overwritten(stages, corpora, tmp_path):
    shutil.copy(stages / "finetuning" / "checkpoint_best.pt", tmp_path)
    sentence = refused(train("finetuning", corpora / "asr", tmp_path))
    assert "has checkpoint_best.pt but not checkpoint_last.pt" in sentence
    best = f"checkpoint.restore_file={tmp_path / 'checkpoint_best.pt'}"
    assert "done: 2 of 2" in succeeded(train("finetuning", corpora / "asr", tmp_path, best))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["dataset.max_tokens=null"], "set dataset.max_tokens or dataset.batch_size"),
        (["optimization.update_freq=[0]"], "update_freq counts batches per update"),
        (
            ["optimization.update_freq=[1,2]", "common.bf16=true"],
            "16 bits need common.fp16_scale_window",
        ),
        (["optimization.stop_min_lr=0.00001"], "training would end before it"),
        (
            ["lr_scheduler._name=reduce_lr_on_plateau", "dataset.validate_interval=1000000"],
            "dataset.validate_interval=1000000 makes none; set it to 1",
        ),
        (
            ["checkpoint.finetune_from_model=a.pt", "checkpoint.reset_optimizer=true"],
            "resets everything by itself; leave out checkpoint.reset_optimizer",
        ),
        (
            ["dataset.max_tokens_valid=20"],
            "dataset.max_tokens_valid=20 (default: dataset.max_tokens) is less",
        ),
        (["criterion.ctc_weight=-1"], "criterion.ctc_weight=-1.0 must be a number of 0 or more"),
        (["++criterion.label_smoothing=1.5"], "criterion.label_smoothing=1.5 must be in [0, 1)"),
    ],
)
def test_settings_that_cannot_work_are_refused(options, message, corpora, tmp_path):
    assert message in refused(train("finetuning", corpora / "asr", tmp_path, *options))


def test_weights_of_stage_1_are_checked(corpora, tmp_path):
    command = ["pretraining", corpora / "av", tmp_path]
    sentence = refused(train(*command, "++criterion.video_weight=nan"))
    assert "criterion.video_weight=nan must be a number of 0 or more" in sentence
    sentence = refused(train(*command, "dataset.max_tokens=5"))
    assert "raise dataset.max_tokens" in sentence
    assert "task.max_" not in sentence
