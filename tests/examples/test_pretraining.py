"""The nine configs of stage 1: each composes with existing keys only, and one is trained."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from fairseq.dataclass.initialize import hydra_init
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from mmpt_fairseq.checkpoint import load_checkpoint
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from mmpt_fairseq.models.av_pretraining import AVPretrainingModelConfig
from mmpt_fairseq.tasks.av_pretraining import AVPretrainingConfig
from tests.commands import BIN, ROOT, TINY, losses, run, succeeded

CONFIG = ROOT / "examples" / "pretraining" / "config"
OBJECTIVES = {
    "mae": "mmpt_masked_reconstruction",
    "clr": "mmpt_contrastive",
    "mae_clr": "mmpt_masked_reconstruction_and_contrastive",
}
CORPORA = ("kinetics600", "voxceleb2", "lrs3")
# Hydra's warning about how fairseq passes its schema.
pytestmark = pytest.mark.filterwarnings("ignore:\\s*'.*is validated against ConfigStore")
NAMES = [f"{objective}_{corpus}" for objective in OBJECTIVES for corpus in CORPORA]


@pytest.fixture(scope="module")
def hydra():
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG), version_base="1.1"):
        yield
    GlobalHydra.instance().clear()


def composed(name, *overrides):
    hydra_init(name)  # as fairseq-hydra-train does: its schema has the config's name
    return compose(name, overrides=["checkpoint.save_dir=runs/x", *overrides])


def test_there_is_a_config_for_every_objective_and_corpus():
    assert sorted(path.stem for path in CONFIG.glob("*.yaml")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_config_composes_with_existing_keys_only(name, hydra):
    objective, corpus = name.rsplit("_", 1)
    cfg = composed(name, "optimization.max_update=7")
    assert cfg.optimization.max_update == 7
    assert cfg.criterion._name == OBJECTIVES[objective]
    assert cfg.task.data == f"data/{corpus}"
    for part, known in ((cfg.task, AVPretrainingConfig), (cfg.model, AVPretrainingModelConfig)):
        assert set(part) <= {"_name", *(field.name for field in fields(known))}
    text = (CONFIG / f"{name}.yaml").read_text()
    assert f"--config-name {name} " in text.splitlines()[1]
    assert f"task.data={cfg.task.data} " in text


def test_base_has_the_papers_sizes_and_the_others_are_smaller(hydra):
    sizes = []
    for size in ("base", "small", "tiny"):
        cfg = composed("mae_lrs3", f"size={size}")
        task = AVPretrainingConfig(**{k: v for k, v in cfg.task.items() if k != "_name"})
        model = AVPretrainingModelConfig(**{k: v for k, v in cfg.model.items() if k != "_name"})
        patches = task.video_num_frames // model.video_patch_frames
        patches *= (task.video_size // model.video_patch_size) ** 2
        sizes.append(
            (model.encoder_layers, model.video_embed_dim, model.decoder_embed_dim, patches)
        )
        if size == "base":
            conformer = (model.encoder_embed_dim, model.encoder_layers)
            assert conformer == (256, 16)
            assert (model.encoder_attention_heads, model.depthwise_conv_kernel_size) == (4, 31)
            assert (model.video_layers, model.decoder_layers) == (12, 4)
            assert (model.video_patch_frames, model.video_patch_size) == (2, 16)
            assert (task.video_num_frames, task.video_size, task.video_stride) == (16, 224, 4)
            assert (task.audio_mask_ratio, task.video_mask_ratio) == (0.6, 0.6)
            assert task.max_audio_frames == 1000
    assert sizes == [(16, 768, 512, 1568), (12, 384, 256, 392), (4, 128, 128, 64)]


def mixed(av: Path, folder: Path) -> Path:
    """Clips of ``av`` in LRS3's splits: four complete, two without audio, two without video."""
    manifest = Manifest(av / "train.tsv")
    rows = []
    for i in range(8):
        row = dict(zip(manifest.columns, manifest.fields(i), strict=True))
        row |= {"audio": manifest.resolve("audio", i), "video": manifest.resolve("video", i)}
        if i in (1, 6):
            row |= {"audio": "", "n_frames": ""}
        elif i in (2, 5):
            row |= {"video": "", "video_frames": ""}
        rows.append(row)
    for split, part in (("pretrain", rows[:5]), ("trainval", rows[5:]), ("valid", rows)):
        write_manifest(folder / f"{split}.tsv", part)
    return folder


def test_a_config_trains_on_clips_that_lack_a_modality(corpora, tmp_path):
    """One update at size tiny, with options that no other test trains with."""
    data = mixed(corpora / "av", tmp_path / "data")
    options = [*TINY, "optimization.max_update=1", "size=tiny", "dataset.max_tokens=null"]
    options += ["+dataset.batch_size=3", "task.video_size=32", "model.video_layers=1"]
    options += ["model.encoder_layers=1", "+model.joint_decoding=true", "common.bf16=true"]
    options += ["+model.contrast_masked=true", "+model.pooling=attention"]
    options += ["+task.audio_mask_span=3", "+task.video_tubes=true", "+task.modality_dropout=0.5"]
    command = [BIN / "fairseq-hydra-train", "--config-dir", CONFIG, "--config-name", "mae_clr_lrs3"]
    folder = tmp_path / "run"
    command += [f"task.data={data}", f"checkpoint.save_dir={folder}", *options]
    output = succeeded(run(command))
    assert "4 rows with audio and video, 2 with audio alone, 2 with video alone" in output
    assert re.search(r"tried the most expensive batch \(3 clips, cost \d+\) first", output)
    recall = float(losses(output, "valid_audio_to_video_recall_1")[-1])
    assert 4 * recall == int(4 * recall)  # of four pairs
    assert 0 < float(losses(output, "valid_clr")[-1]) < 10
    assert 0 < float(losses(output, "valid_mae_audio")[-1]) < 10
    assert "pool_audio.query" in load_checkpoint(folder / "checkpoint_last.pt")["model"]
