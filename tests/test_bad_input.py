"""Bad input makes fairseq's commands fail with one sentence that names the error and remedy."""

import shutil

import numpy as np
import pytest
import soundfile

from manifests.vocabulary import build_vocabulary
from mmpt_fairseq.data.manifest import write_manifest
from mmpt_fairseq.report.discovery import find
from mmpt_fairseq.tasks.speech_to_text import ManifestSpeechToTextTask, SpeechToTextConfig
from tests.commands import (
    BIN,
    ROOT,
    USER_DIR,
    generate,
    losses,
    refused,
    run,
    succeeded,
    train,
    train_command,
)
from tests.helpers import write_video


@pytest.fixture
def asr(corpora, tmp_path):
    """A copy of the recognition data that a test may corrupt."""
    return shutil.copytree(corpora / "asr", tmp_path / "asr")


def test_missing_data_folder(tmp_path):
    for name in ("pretraining", "finetuning"):
        sentence = refused(train(name, tmp_path / "nowhere", tmp_path / "run"))
        assert "there is no data folder" in sentence
        assert "task.data" in sentence


def test_missing_and_empty_manifest(asr, tmp_path):
    (asr / "valid.tsv").write_text("")
    assert "valid.tsv is empty" in refused(train("finetuning", asr, tmp_path / "run"))
    (asr / "valid.tsv").unlink()
    assert "there is no manifest" in refused(train("finetuning", asr, tmp_path / "run"))


def test_missing_column(asr, tmp_path):
    text = (asr / "train.tsv").read_text().replace("tgt_text", "text", 1)
    (asr / "train.tsv").write_text(text)
    assert "lacks the column tgt_text" in refused(train("finetuning", asr, tmp_path / "run"))


def test_unreadable_clips(asr, stages, tmp_path):
    """Zero bytes, text named .wav, a video without audio: each reported with file and line."""
    (asr / "0.wav").write_bytes(b"")
    (asr / "1.wav").write_text("this is no audio")
    write_video(asr / "2.mp4", 10)
    faults = [("0.wav", "zero bytes"), ("1.wav", "cannot be read as audio")]
    for name, fault in [*faults, ("2.mp4", "no audio track")]:
        row = {"id": "x", "audio": name, "n_frames": 50, "tgt_text": "a"}
        write_manifest(asr / "bad.tsv", [row])
        checkpoint = stages / "finetuning" / "checkpoint_last.pt"
        sentence = refused(generate(checkpoint, asr, "bad"))
        assert fault in sentence
        assert "bad.tsv, line 2 (x)" in sentence
        assert name in sentence


def test_missing_validation_clip_is_reported_before_training(asr, tmp_path):
    rows = [{"id": "x", "audio": "none.wav", "n_frames": 50, "tgt_text": "a"}]
    write_manifest(asr / "valid.tsv", rows)
    result = train("finetuning", asr, tmp_path / "run")
    assert "valid.tsv, line 2 (x): there is no audio file" in refused(result)
    assert not losses(result.stdout, "train_num_updates")


def test_validation_skips_a_damaged_clip_and_stops_at_many(asr, corpora, tmp_path):
    """Also if it is a batch of its own, and no other clip is counted twice instead.

    fairseq-generate stops at it.
    """
    (asr / "bad.wav").write_text("this is no audio")
    bad = {"id": "x", "audio": "bad.wav", "n_frames": 3000, "tgt_text": "a"}
    lines = (asr / "valid.tsv").read_text()
    write_manifest(asr / "bad.tsv", [bad])
    line = (asr / "bad.tsv").read_text().splitlines()[1]
    (asr / "valid.tsv").write_text(f"{lines}{line}\n")
    options = ["dataset.max_tokens=3000", "optimization.max_update=2", "+task.eval_wer=true"]
    options += ["+task.decoding=ctc", "dataset.batch_size_valid=2"]
    result = train("finetuning", asr, tmp_path / "run", *options)
    assert "bad.wav cannot be read as audio" in succeeded(result)
    whole = succeeded(train("finetuning", corpora / "asr", tmp_path / "whole", *options))
    for name in ("valid_loss", "valid_ctc_loss", "valid_wer"):
        assert losses(result.stdout, name) == losses(whole, name) != []
    checkpoint = tmp_path / "run" / "checkpoint_best.pt"
    assert "an evaluation skips no rows" in refused(generate(checkpoint, asr, "valid"))
    write_manifest(asr / "valid.tsv", [{**bad, "id": str(i), "n_frames": 9} for i in range(20)])
    sentence = refused(train("finetuning", asr, tmp_path / "other", *options))
    assert "clips could not be used" in sentence


def test_audio_longer_than_its_manifest_states(asr, stages):
    row = {"id": "x", "audio": "0.wav", "n_frames": 3, "tgt_text": "a"}
    write_manifest(asr / "bad.tsv", [row])
    sentence = refused(generate(stages / "finetuning" / "checkpoint_last.pt", asr, "bad"))
    assert "0.wav lasts" in sentence
    assert "not 3 as column n_frames says" in sentence


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("\tvocab_filename: dict.txt", "Failed to load"),
        ("feature_transforms: {_train: }", "TypeError"),
        ("feature_transforms: {_train: [specaugmen]}", "specaugmen"),
        ("bpe_tokenizer: x", "AttributeError"),
        (
            "specaugment: {freq_mask_N: 1}\nfeature_transforms: {_train: [specaugment]}",
            "Assertion",
        ),
    ],
)
def test_invalid_data_config(asr, line, fault):
    """The message names the file; checked on the task, which every command sets up."""
    with (asr / "config.yaml").open("a") as config:
        config.write(line + "\n")
    with pytest.raises(SystemExit, match=rf"config\.yaml cannot be used \(.*{fault}.*fix it"):
        ManifestSpeechToTextTask.setup_task(SpeechToTextConfig(data=str(asr)))


def test_invalid_dictionary(asr):
    (asr / "dict.txt").write_text("a 1\na 1\n")
    with pytest.raises(SystemExit, match=r"dict\.txt is not a fairseq vocabulary"):
        ManifestSpeechToTextTask.setup_task(SpeechToTextConfig(data=str(asr)))


def test_many_bad_clips_stop_a_training_early(asr, tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(40):
        if i % 2:
            soundfile.write(asr / f"n{i}.wav", 0.1 * rng.standard_normal(9000), 16000)
        else:
            (asr / f"n{i}.wav").write_bytes(b"RIFF")
        rows.append({"id": f"n{i}", "audio": f"n{i}.wav", "n_frames": 54, "tgt_text": "a boat"})
    write_manifest(asr / "train.tsv", rows)
    options = ["optimization.max_update=100"]
    sentence = refused(train("finetuning", asr, tmp_path / "run", *options))
    assert "clips could not be used" in sentence


def test_vocabulary_that_differs_from_the_checkpoint(asr, stages, tmp_path):
    """When decoding, and when resuming in the folder of another training."""
    extra = [{"id": "y", "audio": "0.wav", "n_frames": 48, "tgt_text": "xyz jkl qvw"}]
    write_manifest(asr / "train.tsv", extra)
    build_vocabulary(asr, "char")
    checkpoint = stages / "finetuning" / "checkpoint_last.pt"
    sentence = refused(generate(checkpoint, asr, "test"))
    assert "is not the checkpoint's" in sentence
    shutil.copytree(stages / "finetuning", tmp_path / "run")
    options = ["optimization.max_update=9"]
    assert "vocabulary" in refused(train("finetuning", asr, tmp_path / "run", *options))


def test_vocabulary_of_the_same_size_in_another_order(asr, stages, tmp_path):
    """Only the meaning of the tokens differs; resuming must be rejected nevertheless."""
    lines = (asr / "dict.txt").read_text().splitlines()
    (asr / "dict.txt").write_text("\n".join(reversed(lines)) + "\n")
    shutil.copytree(stages / "finetuning", tmp_path / "run")
    options = ["optimization.max_update=9"]
    sentence = refused(train("finetuning", asr, tmp_path / "run", *options))
    assert "is not the checkpoint's" in sentence


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (
            "criterion._name=mmpt_contrastive",
            "(Criterion does not match: criterion._name=mmpt_contrastive "
            "(checkpoint: mmpt_masked_reconstruction)",
        ),
        (
            "model.encoder_embed_dim=24",
            "(Cannot load model parameters: model.encoder_embed_dim=24 (checkpoint: 16))",
        ),
    ],
)
def test_folder_of_a_training_with_other_settings(stages, corpora, tmp_path, option, reason):
    shutil.copytree(stages / "pretraining", tmp_path / "run")
    options = ["optimization.max_update=9", option]
    sentence = refused(train("pretraining", corpora / "av", tmp_path / "run", *options))
    last = tmp_path / "run" / "checkpoint_last.pt"
    assert f"{last}, from which this training would start" in sentence
    assert reason in sentence
    assert "another checkpoint.save_dir" in sentence
    if reason.startswith("(Cannot"):  # fairseq checks no criterion if it loads weights only
        options = [option, f"checkpoint.finetune_from_model={last}"]
        sentence = refused(train("pretraining", corpora / "av", tmp_path / "new", *options))
        assert "give one with the same" in sentence
        assert "save_dir" not in sentence
        assert "init_encoder_from" not in sentence  # stage 1 lacks this option


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ("criterion._name=mae", "use one of mmpt_contrastive, "),
        ("optimizer._name=adamm", "did you mean adam?"),
        ("model._name=mmpt_av_pretrain", "did you mean mmpt_av_pretraining?"),
        ("task._name=mmpt_av", "use one of mmpt_av_pretraining, "),
    ],
)
def test_unregistered_name(corpora, tmp_path, option, remedy):
    sentence = refused(train("pretraining", corpora / "av", tmp_path / "run", option))
    assert f"{option} is not registered; {remedy}" in sentence


def test_resuming_with_fewer_rows(asr, tmp_path):
    """The training had processed more batches of its epoch than there are now."""
    options = ["+dataset.batch_size=1", "checkpoint.save_interval_updates=1"]
    succeeded(train("finetuning", asr, tmp_path / "run", *options, "optimization.max_update=3"))
    rows = (asr / "train.tsv").read_text().splitlines(keepends=True)
    (asr / "train.tsv").write_text("".join(rows[:3]))
    options.append("optimization.max_update=5")
    sentence = refused(train("finetuning", asr, tmp_path / "run", *options))
    assert "had processed 3 batches of epoch 1, which now has 2" in sentence
    options.append("checkpoint.reset_dataloader=true")
    succeeded(train("finetuning", asr, tmp_path / "run", *options))


@pytest.mark.parametrize("data", ["asr", "nowhere"])
def test_language_model_without_training_data(asr, tmp_path, data):
    options = ["--config-dir", ROOT / "examples/own/config", "--config-name", "language_model"]
    options += [f"common.user_dir={USER_DIR}", f"task.data={tmp_path}/{data}"]
    options.append(f"checkpoint.save_dir={tmp_path}/lm")
    sentence = refused(run([BIN / "fairseq-hydra-train", *options]))
    assert f"{tmp_path}/{data} does not contain language model training data" in sentence


@pytest.mark.parametrize(("name", "data"), [("pretraining", "av"), ("finetuning", "asr")])
def test_non_finite_gradients(corpora, tmp_path, name, data):
    """The message is also in the log, from which the report reads what ended a training."""
    options = ["optimization.lr=[1e30]", "lr_scheduler.warmup_updates=0"]
    options += ["optimization.max_update=9"]
    sentence = refused(train(name, corpora / data, tmp_path, *options))
    assert "gradients are Nan/Inf; lower" in sentence
    assert "lower optimization.lr" in sentence
    [run], _ = find([tmp_path])
    assert run.state == "stopped"
    assert run.log.tail[-1] == sentence
    assert (tmp_path / "crash.pt").is_file()


def test_training_without_a_save_dir(asr, tmp_path):
    """fairseq's default, relative to the working directory, replaces ``save_dir: ???``."""
    command = train_command("finetuning", asr, tmp_path / "run", "common.tensorboard_logdir=null")
    command = [part for part in command if not str(part).startswith("checkpoint.save_dir=")]
    sentence = refused(run(command, cwd=tmp_path))
    assert "checkpoint.save_dir is not set" in sentence
    assert not list(tmp_path.glob("checkpoints/*.pt"))
    named = [*command, "checkpoint.save_dir=./checkpoints"]
    succeeded(run(named, cwd=tmp_path))
    assert (tmp_path / "checkpoints" / "checkpoint_last.pt").is_file()


def test_contrastive_loss_without_video(corpora, tmp_path):
    options = ["criterion._name=mmpt_contrastive", "+task.use_video=false"]
    sentence = refused(train("pretraining", corpora / "av", tmp_path, *options))
    assert "the contrastive loss needs video" in sentence


def test_generate_with_a_stage_1_checkpoint(stages, corpora):
    checkpoint = stages / "pretraining" / "checkpoint_last.pt"
    assert "not of stage 2 or 3" in refused(generate(checkpoint, corpora / "asr", "test"))


def test_generate_with_a_missing_checkpoint(corpora, tmp_path):
    sentence = refused(generate(tmp_path / "none.pt", corpora / "asr", "test"))
    assert f"there is no checkpoint {tmp_path / 'none.pt'}; correct --path" in sentence


def test_generate_with_the_default_task(stages, corpora):
    checkpoint = stages / "finetuning" / "checkpoint_last.pt"
    default = ["--task", "translation"]
    sentence = refused(generate(checkpoint, corpora / "asr", "test", *default))
    assert "asr contains manifests" in sentence
    assert "add --task mmpt_speech_to_text" in sentence


def test_search_limit_below_the_target_lengths(stages, corpora):
    checkpoint = stages / "finetuning" / "checkpoint_last.pt"
    options = ["--decoding", "attention", "--max-len-b", "2"]
    result = generate(checkpoint, corpora / "asr", "test", *options)
    succeeded(result)
    assert "exceed the search limit --max-len-b=2; raise it" in result.stdout


def test_encoder_of_another_size(stages, corpora, tmp_path):
    start = f"model.init_encoder_from={stages / 'pretraining' / 'checkpoint_last.pt'}"
    options = [start, "model.encoder_embed_dim=32"]
    sentence = refused(train("midtraining", corpora / "st", tmp_path, *options))
    assert "another size" in sentence


def test_frozen_encoder_with_newly_initialised_layers(corpora, stages, tmp_path):
    options = [
        f"model.init_encoder_from={stages / 'midtraining' / 'checkpoint_last.pt'}",
        "+model.freeze_encoder=true",
        "+model.fresh_encoder_layers=1",
    ]
    sentence = refused(train("finetuning", corpora / "asr", tmp_path, *options))
    assert "never trained; set model.fresh_encoder_layers=0" in sentence


def test_invalid_config_keys_and_values(corpora, tmp_path):
    """Hydra's message names an unknown key, ours one that is added with a plus."""
    command = train_command("finetuning", corpora / "asr", tmp_path, "model.encoder_layerz=2")
    result = run(command)
    assert result.returncode == 1
    assert "model.encoder_layerz" in result.stdout
    for option, fault in {
        "+model.dropuot=0.1": "mmpt_speech_to_text has no key dropuot; did you mean dropout?",
        "+criterion.xyzzy=1": "has no key xyzzy; leave it out",
        "+task.short_first_epochs=few": "has an invalid short_first_epochs (Value 'few' ",
        "lr_scheduler.warmup_updates=2": "max_update=2 leaves no updates after the warm-up",
    }.items():
        assert fault in refused(run([*command[:-1], option]))


def test_invalid_video_size_and_mask_ratio(corpora, tmp_path):
    options = {"task.video_size=18": "not a whole number of patches"}
    options["+task.audio_mask_ratio=1.0"] = "must be at least 0 (no masking) and below 1"
    for option, message in options.items():
        assert message in refused(train("pretraining", corpora / "av", tmp_path, option))


def test_max_tokens_below_the_longest_row(corpora, tmp_path):
    options = ["dataset.max_tokens=60"]
    sentence = refused(train("finetuning", corpora / "asr", tmp_path, *options))
    limit = "dataset.max_tokens_valid=60 (default: dataset.max_tokens)"
    assert f"the longest row costs 97 tokens and {limit} is less; raise it" in sentence
