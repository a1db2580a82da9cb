"""The three stages by fairseq's own commands: one and two processes, resumed, decoded."""

import json
import re
import shutil

import pytest
import torch

from manifests.vocabulary import build_vocabulary
from mmpt_fairseq.checkpoint import encoder_state, load_checkpoint
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from mmpt_fairseq.report.scores import read_hypotheses, score
from tests.commands import generate, losses, refused, succeeded, train

DATA = {"pretraining": "av", "midtraining": "st", "finetuning": "asr"}


def weights(folder) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "checkpoint_last.pt")["model"]


def largest_difference(a: dict, b: dict) -> float:
    assert a.keys() == b.keys()
    return max((a[k].float() - b[k].float()).abs().max().item() for k in a)


def test_the_encoder_moves_on_and_nothing_else(stages, corpora, tmp_path):
    """With a learning rate of 0 stage 3's encoder is stage 2's to the bit, its decoder is new."""
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
    assert re.search(rf"took {len(taken)} tensors", output)
    assert "left behind: decoder" in output


def test_frozen_encoder_stays_the_same_to_the_bit(stages, corpora, tmp_path):
    start = stages / "pretraining" / "checkpoint_last.pt"
    options = [f"model.init_encoder_from={start}", "+model.freeze_encoder=true"]
    succeeded(train("finetuning", corpora / "asr", tmp_path, *options, "model.dropout=0.1"))
    before, after = encoder_state(weights(stages / "pretraining")), encoder_state(weights(tmp_path))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_tensorboard_has_the_losses(stages):
    for name in DATA:
        events = list((stages / name / "tensorboard" / "train").glob("events.out.tfevents.*"))
        assert events
        assert any(b"loss" in path.read_bytes() for path in events)
    [pictures] = (stages / "pretraining" / "tensorboard" / "reconstruction").iterdir()
    for name in (b"reconstruction/sound", b"reconstruction/frames", b"PNG"):
        assert name in pictures.read_bytes()


@pytest.mark.parametrize("name", DATA)
def test_two_processes_train_like_one_that_sees_their_batches(name, corpora, tmp_path):
    """Two processes of one batch each equal one that sums two batches per update."""
    data, common = corpora / DATA[name], ["dataset.max_tokens=null", "+dataset.batch_size=2"]
    common.append("optimization.max_update=3")
    one = train(name, data, tmp_path / "one", *common, "optimization.update_freq=[2]")
    two = train(name, data, tmp_path / "two", *common, processes=2)
    assert losses(succeeded(one), "train_loss") == losses(succeeded(two), "train_loss")
    difference = largest_difference(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert difference < 2e-5


@pytest.mark.parametrize("name", DATA)
def test_two_processes_resume(name, corpora, tmp_path):
    data = corpora / DATA[name]
    succeeded(train(name, data, tmp_path, processes=2))
    output = succeeded(train(name, data, tmp_path, "optimization.max_update=4", processes=2))
    assert "Loaded checkpoint" in output
    assert losses(output, "train_num_updates")[-1] == "4"


@pytest.mark.parametrize("name", ["pretraining", "finetuning"])
def test_resumed_training_is_the_uninterrupted_one(name, corpora, tmp_path):
    """With dropout, SpecAugment, masks and crops, and another number of loader workers."""
    data = corpora / DATA[name]
    common = ["optimization.max_update=6", "model.dropout=0.1", "dataset.max_tokens=null"]
    common += ["+dataset.batch_size=2", "checkpoint.save_interval_updates=3"]
    succeeded(train(name, data, tmp_path / "whole", *common))
    (tmp_path / "resumed").mkdir()
    [middle] = (tmp_path / "whole").glob("checkpoint_*_3.pt")
    shutil.copy(middle, tmp_path / "resumed" / "checkpoint_last.pt")
    output = train(name, data, tmp_path / "resumed", *common, "dataset.num_workers=2")
    assert "Loaded checkpoint" in succeeded(output)
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "resumed")
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


@pytest.mark.parametrize(
    ("criterion", "key"),
    [
        ("mmpt_contrastive", "train_clr"),
        ("mmpt_masked_reconstruction_and_contrastive", "train_mae_video"),
    ],
)
def test_other_objectives_train_on_two_processes(criterion, key, corpora, tmp_path):
    """Three batches on two processes, so that one of them has a dummy batch at the end."""
    options = [f"criterion._name={criterion}", "dataset.max_tokens=null", "+dataset.batch_size=3"]
    output = succeeded(train("pretraining", corpora / "av", tmp_path, *options, processes=2))
    assert all(float(value) > 0 for value in losses(output, key))
    assert losses(output, key)
    for name in ("audio_to_video", "video_to_audio"):
        first, fifth = (losses(output, f"valid_{name}_recall_{k}")[-1] for k in (1, 5))
        # Of all eight clips, although a batch holds three.
        assert float(first) * 8 == int(float(first) * 8)
        assert float(first) <= float(fifth) <= 1


@pytest.mark.parametrize("decoding", ["attention", "ctc"])
def test_checkpoint_alone_decodes_every_row(decoding, stages, corpora, tmp_path):
    """A folder with a manifest and nothing else; seven rows, which no multiple of 8 divides."""
    data = tmp_path / "elsewhere"
    data.mkdir()
    for wav in (corpora / "asr").glob("*.wav"):
        shutil.copy(wav, data)
    lines = (corpora / "asr" / "test.tsv").read_text().splitlines()[:8]
    (data / "test.tsv").write_text("\n".join(lines) + "\n")
    checkpoint = shutil.copy(stages / "finetuning" / "checkpoint_last.pt", data / "model.pt")
    options = ["--decoding", decoding, "--results-path", data / "out", "--scoring", "wer"]
    succeeded(generate(checkpoint, data, "test", *options, "--max-len-b", "20", cwd=data))
    output = data / "out" / "generate-test.txt"
    assert "WER" in output.read_text()
    rates = score(data / "test.tsv", output, "wer")
    printed = float(re.search(r"WER: ([\d.]+)", output.read_text())[1])
    assert rates["wer"] == pytest.approx(printed, abs=0.01)


def test_translation_is_scored_by_sacrebleu(stages, corpora, tmp_path):
    checkpoint = stages / "midtraining" / "checkpoint_last.pt"
    options = ["--scoring", "sacrebleu", "--results-path", tmp_path, "--max-len-b", "20"]
    succeeded(generate(checkpoint, corpora / "st", "test", *options))
    output = tmp_path / "generate-test.txt"
    assert "BLEU" in output.read_text()
    assert 0 <= score(corpora / "st" / "test.tsv", output, "bleu")["bleu"] <= 100


def test_a_bad_clip_stops_an_evaluation_and_not_a_training(stages, corpora, tmp_path):
    """One zero-byte clip: training skips and counts it, a decode names it and stops."""
    data = tmp_path / "data"
    shutil.copytree(corpora / "asr", data)
    (data / "3.wav").write_bytes(b"")
    for split in ("valid",):
        lines = (data / f"{split}.tsv").read_text().splitlines()
        kept = [line for line in lines if "3.wav" not in line]
        (data / f"{split}.tsv").write_text("\n".join(kept) + "\n")
    output = succeeded(train("finetuning", data, tmp_path / "run"))
    assert re.search(r"skipped .*train\.tsv, line 5 \(clip3\).*zero bytes \(1 so far\)", output)
    sentence = refused(generate(stages / "finetuning" / "checkpoint_last.pt", data, "test"))
    assert "test.tsv, line 5 (clip3)" in sentence
    assert "zero bytes" in sentence


def test_one_process_config_under_a_launcher_is_refused(corpora, tmp_path):
    env = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    sentence = refused(train("finetuning", corpora / "asr", tmp_path, env=env))
    assert "+distributed=torchrun" in sentence
    assert not list(tmp_path.glob("*.pt"))


def test_short_clips_come_first(corpora, tmp_path):
    """Two epochs on the clips of up to 0.75 s, then on all; resumed in between, nothing changes."""
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
    """At a rate of 0 nothing gets better after the first of the validations, one an epoch."""
    options = ["optimization.lr=[0.0]", "checkpoint.patience=3", "optimization.max_update=99"]
    options += ["dataset.validate_interval=1", "checkpoint.save_interval=1"]

    def validations(epochs: int) -> int:
        until = f"optimization.max_epoch={epochs}"
        output = succeeded(train("finetuning", corpora / "asr", tmp_path, *options, until))
        return len(losses(output, "valid_loss"))

    assert validations(2) == 2
    assert validations(9) == 2  # the fourth of all is the third without a better one


def test_no_clip_is_short_enough(corpora, tmp_path):
    options = ["+task.short_first_epochs=1", "+task.short_first_frames=3"]
    sentence = refused(train("finetuning", corpora / "asr", tmp_path, *options))
    assert "short_first_frames" in sentence


def test_several_target_languages(corpora, tmp_path):
    """fairseq's language tags and temperature sampling; the tag is no part of what is scored."""
    data = tmp_path / "data"
    shutil.copytree(corpora / "st", data)
    lines = (data / "train.tsv").read_text().splitlines()
    for language, rows in (("de", lines), ("it", lines[:4])):
        text = "\n".join(rows).replace("\tde\t", f"\t{language}\t")
        (data / f"train_{language}.tsv").write_text(text + "\n")
    build_vocabulary(data, "char", splits=["train_de", "train_it"])
    with (data / "config.yaml").open("a") as config:
        config.write("sampling_alpha: 0.5\n")
    options = ["dataset.train_subset='train_de,train_it'"]
    output = succeeded(train("midtraining", data, tmp_path / "run", *options))
    assert "balanced sampling size ratio" in output
    checkpoint = tmp_path / "run" / "checkpoint_last.pt"
    for decoding in ("attention", "ctc"):
        options = ["--decoding", decoding, "--max-len-b", "10"]
        results = ["--results-path", tmp_path / decoding]
        succeeded(generate(checkpoint, data, "test", *options, *results))
        printed = (tmp_path / decoding / "generate-test.txt").read_text()
        assert "T-0\tein rotes boot" in printed
        assert len(read_hypotheses(tmp_path / decoding / "generate-test.txt", 8)) == 8


def test_new_speech_is_decoded_without_text(stages, corpora, tmp_path):
    """A manifest of nothing but names, sound and lengths."""
    rows = [{"id": "new", "audio": corpora / "asr" / "2.wav", "n_frames": 62}]
    write_manifest(tmp_path / "new.tsv", rows)
    text = (tmp_path / "new.tsv").read_text().splitlines()
    (tmp_path / "new.tsv").write_text("\n".join("\t".join(x.split("\t")[:3]) for x in text) + "\n")
    checkpoint = stages / "finetuning" / "checkpoint_last.pt"
    for decoding in ("attention", "ctc"):
        options = ["--decoding", decoding, "--max-len-b", "10"]
        output = succeeded(generate(checkpoint, tmp_path, "new", *options))
        assert re.search(r"^D-0\t", output, re.MULTILINE)
