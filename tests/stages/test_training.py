"""The three stages with fairseq-hydra-train: encoder initialisation, freezing and resuming."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch

from mmpt_fairseq.checkpoint import encoder_state, load_checkpoint
from mmpt_fairseq.data.manifest import Manifest
from tests.commands import (
    ROOT,
    largest_difference,
    losses,
    refused,
    run,
    scalars,
    succeeded,
    train,
    train_command,
    two_languages,
    weights,
)

DATA = {"pretraining": "av", "midtraining": "st", "finetuning": "asr"}


def test_only_the_encoder_is_taken_over(stages, corpora, tmp_path):
    """At learning rate 0, stage 3's encoder is stage 2's bit for bit, and its decoder is new."""
    midtrained = stages / "midtraining" / "checkpoint_last.pt"
    output = succeeded(
        train(
            "finetuning",
            corpora / "asr",
            tmp_path,
            f"model.init_encoder_from={midtrained}",
            "optimization.lr=[0.0]",
        )
    )
    before, after = weights(stages / "midtraining"), weights(tmp_path)
    taken = encoder_state(before)
    assert taken
    assert all(torch.equal(taken[k], v) for k, v in encoder_state(after).items())
    left = {k for k in after if k not in before or not torch.equal(after[k], before[k])}
    assert any(k.startswith("decoder.") for k in left)
    assert all(k.startswith(("decoder.", "encoder.ctc_projection")) for k in left)
    assert re.search(rf"loaded {len(taken)} tensors", output)
    assert "not loaded: decoder" in output


def test_a_frozen_encoder_is_unchanged_bit_for_bit(stages, corpora, tmp_path):
    start = stages / "pretraining" / "checkpoint_last.pt"
    options = [f"model.init_encoder_from={start}", "+model.freeze_encoder=true"]
    succeeded(train("finetuning", corpora / "asr", tmp_path, *options, "model.dropout=0.1"))
    before, after = encoder_state(weights(stages / "pretraining")), encoder_state(weights(tmp_path))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_frozen_layers_are_unchanged_bit_for_bit(stages, corpora, tmp_path):
    start = stages / "pretraining" / "checkpoint_last.pt"
    options = [f"model.init_encoder_from={start}", "+model.freeze_encoder_layers=1"]
    succeeded(train("finetuning", corpora / "asr", tmp_path, *options, "model.dropout=0.1"))
    before, after = encoder_state(weights(stages / "pretraining")), encoder_state(weights(tmp_path))
    same = {key for key in before if torch.equal(before[key], after[key])}
    assert same == {key for key in before if key.startswith(("subsample.", "layers.0."))}


def test_tensorboard_has_losses_and_reconstructions(stages):
    wanted = {
        "pretraining": {"loss", "mae_audio", "mae_video", "wps"},
        "midtraining": {"loss", "nll_loss", "ctc_loss", "wps"},
        "finetuning": {"loss", "nll_loss", "ctc_loss", "wps"},
    }
    for name, tags in wanted.items():
        logged = scalars(stages / name / "tensorboard" / "train_inner")
        assert tags <= logged.keys()
        assert all(np.isfinite(values).all() for values in logged.values())
    [events] = (stages / "pretraining" / "tensorboard" / "reconstruction").iterdir()
    for name in (b"reconstruction/sound", b"reconstruction/frames", b"PNG"):
        assert name in events.read_bytes()


@pytest.mark.parametrize("name", ["pretraining", "finetuning"])
def test_resumed_training_matches_the_uninterrupted_one(name, corpora, tmp_path):
    """With dropout, SpecAugment, masks, crops, a CTC guide halfway through its decay, and another
    number of data loader workers."""
    data = corpora / DATA[name]
    common = ["optimization.max_update=6", "model.dropout=0.1", "dataset.max_tokens=null"]
    common += ["+dataset.batch_size=2", "checkpoint.save_interval_updates=3"]
    common += ["++criterion.ctc_guide_updates=5"] if name == "finetuning" else []
    succeeded(train(name, data, tmp_path / "whole", *common))
    (tmp_path / "resumed").mkdir()
    [middle] = (tmp_path / "whole").glob("checkpoint_*_3.pt")
    shutil.copy(middle, tmp_path / "resumed" / "checkpoint_last.pt")
    output = train(name, data, tmp_path / "resumed", *common, "dataset.num_workers=2")
    assert "Loaded checkpoint" in succeeded(output)
    assert "resumes with changed settings" not in output.stdout
    assert "different data" not in output.stdout
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "resumed")
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


@pytest.mark.parametrize("name", ["pretraining", "finetuning"])
def test_an_update_without_a_usable_clip_is_harmless(name, corpora, tmp_path):
    """With batches of one clip, one of which is not audio."""
    data = shutil.copytree(corpora / DATA[name], tmp_path / "data")
    (data / "0.wav").write_text("this is not audio")
    shutil.copy(data / "train.tsv", data / "valid.tsv")
    options = ["dataset.max_tokens=null", "+dataset.batch_size=1", "optimization.max_update=8"]
    options += ["dataset.disable_validation=true"]
    output = succeeded(train(name, data, tmp_path / "run", *options))
    assert "0.wav cannot be read as audio" in output
    assert losses(output, "train_num_updates")[-1] == "8"
    assert 0 < float(losses(output, "train_loss")[-1]) < 100


def test_a_finished_training_is_not_changed(stages, corpora, tmp_path):
    """Even if another encoder is given to start from."""
    shutil.copytree(stages / "finetuning", tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.pt")}
    other = f"model.init_encoder_from={stages / 'pretraining' / 'checkpoint_last.pt'}"
    output = succeeded(train("finetuning", corpora / "asr", tmp_path / "run", other))
    assert "done: 2 of 2 updates; raise optimization.max_update to continue" in output
    assert "is ignored: the run resumes from" in output
    assert {path: path.read_bytes() for path in (tmp_path / "run").glob("*.pt")} == before


def test_resuming_with_other_settings_is_logged(stages, corpora, tmp_path):
    shutil.copytree(stages / "finetuning", tmp_path / "run")
    options = ["optimization.max_update=3", "optimization.lr=[0.0123]"]
    output = succeeded(train("finetuning", corpora / "asr", tmp_path / "run", *options))
    settings = re.search("resumes with changed settings: (.*)", output)[1]
    assert "optimization.lr=[0.0123] (checkpoint: [" in settings
    assert "optimization.max_update=3 (checkpoint: 2)" in settings
    assert "model." not in settings.replace("model.init_encoder_from", "")


def test_resuming_with_other_data_is_logged(stages, corpora, tmp_path):
    shutil.copytree(stages / "finetuning", tmp_path / "run")
    data = shutil.copytree(corpora / "asr", tmp_path / "data")
    lines = (data / "train.tsv").read_text().splitlines(keepends=True)
    (data / "train.tsv").write_text("".join(lines[:-1]))
    output = succeeded(train("finetuning", data, tmp_path / "run", "optimization.max_update=3"))
    rows = len(lines) - 1
    assert re.search(f"different data: {rows - 1} rows, .* previously {rows} rows", output)


def test_the_plugin_may_be_imported_before_fairseqs_commands(stages, corpora, tmp_path):
    """Its patches of fairseq apply then too; here: a finished training makes no further update."""
    shutil.copytree(stages / "finetuning", tmp_path / "run")
    command = train_command("finetuning", corpora / "asr", tmp_path / "run")
    start = "import mmpt_fairseq; from fairseq_cli.hydra_train import cli_main; cli_main()"
    output = succeeded(run([sys.executable, "-c", start, *command[1:]]))
    assert "done: 2 of 2 updates" in output


def test_an_interrupted_training_ends_with_a_message(corpora, tmp_path):
    command = train_command("finetuning", corpora / "asr", tmp_path, "optimization.max_update=9999")
    # SIGINT is ignored in background jobs of a shell, and the tests' commands would inherit that.
    with subprocess.Popen(
        ["env", "--default-signal=INT", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    ) as started:
        timeout = threading.Timer(240, started.kill)
        timeout.start()
        lines = list(until_trained(started.stdout))
        started.send_signal(signal.SIGINT)
        lines += started.stdout
        timeout.cancel()
    assert started.returncode == -signal.SIGINT, lines[-20:]  # a shell shows 130
    assert lines[-1].startswith("mmpt_fairseq: interrupted; the same command resumes from the last")
    assert "Traceback" not in "".join(lines)


def until_trained(lines: Iterable[str]) -> Iterator[str]:
    """Lines of a training's output, up to that of its first update."""
    for line in lines:
        yield line
        if "[train_inner]" in line:
            return


def test_training_on_several_language_pairs_resumes(corpora, tmp_path):
    """In the middle of an epoch with temperature sampling."""
    data = tmp_path / "data"
    options = [*two_languages(corpora, data), "model.dropout=0.1", "optimization.max_update=11"]
    options += ["dataset.max_tokens=null", "+dataset.batch_size=2"]
    options += ["checkpoint.save_interval_updates=8"]
    succeeded(train("midtraining", data, tmp_path / "whole", *options))
    (tmp_path / "resumed").mkdir()
    [middle] = (tmp_path / "whole").glob("checkpoint_*_8.pt")
    assert "checkpoint_1_" not in middle.name, "sampling changes per epoch"
    shutil.copy(middle, tmp_path / "resumed" / "checkpoint_last.pt")
    output = succeeded(train("midtraining", data, tmp_path / "resumed", *options))
    assert "Loaded checkpoint" in output
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "resumed")
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_short_clips_come_first(corpora, tmp_path):
    """Two epochs on clips of up to 0.75 s, then on all; resuming in between changes nothing."""
    options = [
        "+task.short_first_epochs=2",
        "+task.short_first_frames=75",
        "dataset.max_tokens=10000",
        "+dataset.batch_size=1",
    ]
    short = int((Manifest(corpora / "asr" / "train.tsv").n_frames <= 75).sum())
    assert 0 < short < 8
    updates = 2 * short + 8
    whole = [*options, f"optimization.max_update={updates}"]
    output = succeeded(train("finetuning", corpora / "asr", tmp_path / "whole", *whole))
    entries = [json.loads(line) for line in re.findall(r'\{"epoch".*?\}', output)]
    ends = {e["epoch"]: int(e["train_num_updates"]) for e in entries if "train_num_updates" in e}
    assert ends == {1: short, 2: 2 * short, 3: updates}
    part = [*options, f"optimization.max_update={short + 1}"]
    succeeded(train("finetuning", corpora / "asr", tmp_path / "resumed", *part))
    succeeded(train("finetuning", corpora / "asr", tmp_path / "resumed", *whole))
    difference = largest_difference(weights(tmp_path / "whole"), weights(tmp_path / "resumed"))
    assert difference < 1e-6


def test_patience_survives_a_restart(corpora, tmp_path):
    """At learning rate 0, no validation (one per epoch) improves on the first. A training that ran
    out of patience does not continue; one initialised with its weights starts counting anew."""
    options = ["optimization.lr=[0.0]", "checkpoint.patience=3", "optimization.max_update=99"]
    options += ["dataset.validate_interval=1", "checkpoint.save_interval=1"]

    def validations(name: str, epochs: int, *more: str) -> int:
        until = f"optimization.max_epoch={epochs}"
        command = [corpora / "asr", tmp_path / name, *options, until, *more]
        output = succeeded(train("finetuning", *command))
        assert ("done: 3 validations without improvement" in output) == (not more and not remaining)
        return len(losses(output, "valid_loss"))

    remaining = True
    assert validations("first", 2) == 2
    assert validations("first", 9) == 2  # the fourth in total is the third without improvement
    remaining = False
    assert validations("first", 9) == 0
    taken_over = f"checkpoint.finetune_from_model={tmp_path / 'first' / 'checkpoint_last.pt'}"
    assert validations("second", 9, taken_over) == 4


def test_a_training_goes_on_by_another_metric(corpora, tmp_path):
    """A lowest loss of some bits must not be compared with error rates of some dozens of percent;
    nor what was counted towards its patience."""
    options = ["optimization.lr=[0.0]", "checkpoint.patience=1", "optimization.max_update=99"]
    options += ["dataset.validate_interval=1", "checkpoint.save_interval=1"]
    command = ["finetuning", corpora / "asr", tmp_path, *options]
    succeeded(train(*command, "optimization.max_epoch=1"))
    by_wer = ["++task.eval_wer=true", "generation.max_len_b=5"]
    by_wer += ["checkpoint.best_checkpoint_metric=wer", "optimization.max_epoch=3"]
    output = succeeded(train(*command, *by_wer))
    assert "resumes with checkpoint.best_checkpoint_metric=wer instead of loss" in output
    best = load_checkpoint(tmp_path / "checkpoint_best.pt")["extra_state"]["best"]
    assert best == pytest.approx(float(losses(output, "valid_wer")[0]), abs=0.01)
    assert len(losses(output, "valid_wer")) == 2
    again = train(*command, *by_wer, "optimization.max_epoch=9")
    assert "instead of loss" not in succeeded(again)


def test_a_metric_that_is_not_measured_costs_no_updates(corpora, tmp_path):
    options = ["model.decoder_layers=0", "criterion.ctc_weight=1", "dataset.validate_interval=1"]
    command = ["finetuning", corpora / "asr", tmp_path, *options]
    sentence = refused(train(*command, "checkpoint.best_checkpoint_metric=nll_loss"))
    assert "best_checkpoint_metric=nll_loss is not measured; set it to one of " in sentence
    assert "ctc_loss, " in sentence
    assert "raise optimization.max_update, and run the command again" in sentence
    done = load_checkpoint(tmp_path / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"]
    assert done == 2
    assert "done: 2 of 2 updates" in succeeded(train(*command))
    succeeded(train(*command, "optimization.max_update=3"))
    assert (tmp_path / "checkpoint_best.pt").is_file()


def test_trainings_of_a_sweep_know_nothing_of_each_other(corpora, tmp_path):
    """Hydra runs them in one process. At rate 0 each is out of patience after two validations."""
    options = ["optimization.lr=[0.0]", "checkpoint.patience=1", "optimization.max_update=99"]
    options += ["dataset.validate_interval=1", "common.seed=1,2"]
    options += ["hydra.sweep.dir=${checkpoint.save_dir}", "-m"]
    folder = f"{tmp_path}/${{common.seed}}"
    output = succeeded(train("finetuning", corpora / "asr", folder, *options))
    assert len(losses(output, "valid_loss")) == 2 * 2
    for seed in "12":
        assert (tmp_path / seed / "checkpoint_best.pt").is_file()
        assert len(list((tmp_path / seed / "tensorboard" / "valid").iterdir())) == 1


@pytest.mark.parametrize("stage", ["pretraining", "finetuning"])
def test_a_missing_or_incomplete_start_is_refused(stage, corpora, tmp_path):
    """fairseq would start at update 0 again."""
    command = [stage, corpora / DATA[stage], tmp_path, "optimization.max_update=1"]
    sentence = refused(train(*command, f"checkpoint.restore_file={tmp_path}/none.pt"))
    assert "none.pt (checkpoint.restore_file)" in sentence
    incomplete = [*command, "++checkpoint.no_save_optimizer_state=true"]
    succeeded(train(*incomplete))
    assert "checkpoint_last.pt has no optimizer state" in refused(train(*incomplete))


def test_a_task_learns_where_checkpoints_are_saved(corpora, tmp_path):
    """fairseq calls ``post_save`` with what ``Trainer.save_checkpoint`` returns."""
    user_dir = tmp_path / "saving"
    user_dir.mkdir()
    (user_dir / "__init__.py").write_text(
        "from fairseq.tasks import register_task\n"
        "import mmpt_fairseq\n"
        "from mmpt_fairseq.tasks.speech_to_text import *\n"
        "@register_task('saving', dataclass=SpeechToTextConfig)\n"
        "class Saving(ManifestSpeechToTextTask):\n"
        "    def post_save(self, path, num_updates):\n"
        "        print('saved', path, num_updates)\n"
    )
    options = [f"common.user_dir={user_dir}", "task._name=saving", "optimization.max_update=1"]
    output = succeeded(train("finetuning", corpora / "asr", tmp_path / "run", *options))
    assert f"saved {tmp_path / 'run'}" in output


def test_short_first_without_short_clips_is_rejected(corpora, tmp_path):
    options = ["+task.short_first_epochs=1", "+task.short_first_frames=3"]
    message = refused(train("finetuning", corpora / "asr", tmp_path, *options))
    assert "short_first_frames" in message
