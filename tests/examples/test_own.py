"""The configs for users' own data: their settings, and training of all stages on small corpora."""

import re
import shutil
import sys

import pytest

from examples.mboshi.systems import Settings
from mmpt_fairseq.checkpoint import load_checkpoint
from tests.commands import BIN, ROOT, SIZES, USER_DIR, generate, losses, run, succeeded
from tests.helpers import noise, write_audio
from tests.test_readmes import composed

CONFIG = ROOT / "examples" / "own" / "config"
STAGES = ("pretraining", "midtraining", "finetuning")
# Hydra's warning about how fairseq passes its schema.
pytestmark = pytest.mark.filterwarnings("ignore:\\s*'.*is validated against ConfigStore")


def train(name, data, save_dir, *overrides):
    """Train one update at test size; ``++`` overrides keys whether or not a recipe sets them."""
    sizes = [f"++{size.lstrip('+')}" for size in SIZES[name] if "decoder_layers" not in size]
    return run(
        [
            *(BIN / "fairseq-hydra-train", "--config-dir", CONFIG, "--config-name", name),
            *(f"task.data={data}", f"checkpoint.save_dir={save_dir}"),
            *(f"common.user_dir={USER_DIR}", "common.log_format=json", "common.log_interval=1"),
            *("optimization.max_update=1", "checkpoint.save_interval_updates=1"),
            *("dataset.num_workers=0", *sizes, *overrides),
        ]
    )


def test_settings_are_those_of_the_mboshi_results():
    """Learning rates, updates and batch sizes are those of Mboshi's stages."""
    settings = Settings(updates=(6000, 1500, 3000, 6000))
    first, second, third = (composed("own", name) for name in STAGES)
    probe = composed("probe", "pretraining")
    assert first["model"] == probe["model"]
    assert first["optimization"]["lr"] == probe["optimization"]["lr"]
    assert first["dataset"]["max_tokens"] == probe["dataset"]["max_tokens"]
    assert first["optimization"]["max_update"] == settings.updates[0]
    assert second["optimization"]["lr"] == [settings.rate]
    assert second["model"]["encoder_lr_scale"] == settings.encoder_lr_scale
    model, updates = third["model"], third["optimization"]["max_update"]
    assert third["optimization"]["lr"] == [settings.finetuning_rate]
    assert third["dataset"]["max_tokens"] == settings.size.max_tokens
    assert (model["decoder_layers"], model["dropout"]) == (0, settings.dropout)
    assert updates == settings.finetuning("few")
    assert third["criterion"]["ctc_guide_updates"] == settings.guide
    assert settings.frozen == model.get("freeze_encoder_updates", 0) == 0
    assert third["checkpoint"]["save_interval_updates"] == settings.interval(updates)
    for cfg in (first, second, third):
        assert cfg["checkpoint"]["keep_interval_updates"] == 1
        assert cfg["checkpoint"]["best_checkpoint_metric"] == "loss"
        sizes = ("encoder_embed_dim", "encoder_layers", "depthwise_conv_kernel_size")
        assert [cfg["model"][size] for size in sizes] == [128, 4, 15]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        *(("own", name) for name in STAGES),
        ("probe", "pretraining"),
        ("pretraining", "mae_lrs3"),
        ("midtraining", "mustc_en_de"),
        ("finetuning", "librispeech_100h_free"),
    ],
)
def test_configs_compose_with_distributed_torchrun(folder, name, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    cfg = composed(folder, name, ["+distributed=torchrun"])
    assert cfg["distributed_training"]["distributed_backend"] == "gloo"


def test_a_language_model_changes_the_output_of_a_ctc_recogniser(corpora, tmp_path):
    data, model = corpora / "asr", tmp_path / "model"
    succeeded(run([sys.executable, "-m", "manifests.pieces", data, tmp_path / "data"]))
    short = ["optimization.max_update=3", "common.log_format=json", f"common.user_dir={USER_DIR}"]
    where = [f"task.data={tmp_path / 'data'}", f"checkpoint.save_dir={model}"]
    config = ["--config-dir", CONFIG, "--config-name", "language_model"]
    output = succeeded(run([BIN / "fairseq-hydra-train", *config, *where, *short]))
    assert '"valid_ppl"' in output
    succeeded(train("finetuning", data, tmp_path / "asr"))
    search = ["--decoding", "ctc_beam", "--beam", "3", "--max-len-b", "20", "--scoring", "cer"]
    search += ["--lm-path", model / "checkpoint_best.pt", "--lm-weight"]
    found = []
    for weight in ("0", "9"):
        recogniser = tmp_path / "asr" / "checkpoint_best.pt"
        output = succeeded(generate(recogniser, data, "test", *search, weight))
        found.append(re.findall(r"^D-(\d+)\t\S+\t(.*)", output, re.MULTILINE))
    assert len(found[0]) == len(found[1]) == 8
    assert found[0] != found[1]


def test_three_stages_train_from_one_another_and_decode(corpora, tmp_path):
    """An utterance of 25 s is left out of training but not of validation."""
    asr = shutil.copytree(corpora / "asr", tmp_path / "asr")
    write_audio(asr / "long.wav", noise(25.0))
    for split in ("train", "valid"):
        path = asr / f"{split}.tsv"
        header, *_, last = path.read_text().splitlines()
        row = dict(zip(header.split("\t"), last.split("\t"), strict=True))
        row |= {"id": "long", "audio": "long.wav", "n_frames": "2498"}
        path.write_text(path.read_text() + "\t".join(row.values()) + "\n")

    short = ["dataset.max_valid_steps=1", "+task.pictures=false"]
    output = succeeded(train("pretraining", corpora / "av", tmp_path / "pretrained", *short))
    assert "tried the most expensive batch" in output
    assert len(losses(output)) == 1
    start = f"model.init_encoder_from={tmp_path / 'pretrained' / 'checkpoint_best.pt'}"
    assert len(losses(succeeded(train("midtraining", corpora / "st", tmp_path / "st", start)))) == 1
    start = f"model.init_encoder_from={tmp_path / 'st' / 'checkpoint_best.pt'}"
    output = succeeded(train("finetuning", asr, tmp_path / "run", start))
    assert re.search(r"left out 1 of \d+ rows beyond the limits", output)
    assert 0 < float(losses(output)[0]) < 100
    checkpoint = tmp_path / "run" / "checkpoint_best.pt"
    assert not any("decoder.layers" in name for name in load_checkpoint(checkpoint)["model"])
    options = ["--decoding", "ctc", "--scoring", "wer"]
    assert re.search(r"WER: \d+", succeeded(generate(checkpoint, asr, "test", *options)))
