"""One training update on all rows of a recipe's manifests, which shows that training reads them."""

from pathlib import Path

import torch
from omegaconf import OmegaConf

from manifests.vocabulary import build_vocabulary
from mmpt_fairseq.criterions.label_smoothed_cross_entropy import ManifestLabelSmoothedCrossEntropy
from mmpt_fairseq.criterions.superb import SuperbCriterion
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.models.speech_to_text import SpeechToTextModel
from mmpt_fairseq.models.superb import SuperbModelConfig
from mmpt_fairseq.tasks.av_pretraining import AVPretrainingConfig, AVPretrainingTask
from mmpt_fairseq.tasks.speech_to_text import ManifestSpeechToTextTask, SpeechToTextConfig
from mmpt_fairseq.tasks.superb import SuperbConfig, SuperbTask
from tests.commands import ROOT
from tests.helpers import av_model, small_speech_config

OBJECTIVES = {
    "mae": {"_name": "mmpt_masked_reconstruction", "video_weight": 1.0},
    "clr": {"_name": "mmpt_contrastive"},
    "mae_clr": {
        "_name": "mmpt_masked_reconstruction_and_contrastive",
        "video_weight": 1.0,
        "contrastive_weight": 1.0,
    },
}
RESOLVED = {"seed": 1, "decodes_with": None, "distributed_world_size": 1}


def learn_to_reconstruct(out: Path, split: str = "train", objective: str = "mae") -> dict:
    """Train stage 1; returns the logged values."""
    cfg = {**RESOLVED, "train_subset": split, "tensorboard_logdir": None}
    sizes = {"video_num_frames": 4, "video_size": 16, "video_stride": 1, "max_audio_frames": 200}
    task = AVPretrainingTask.setup_task(AVPretrainingConfig(data=str(out), **cfg, **sizes))
    model = av_model()
    task.patch_grid = model.video_encoder.patches.grid
    criterion = task.build_criterion(OmegaConf.create(OBJECTIVES[objective]))
    return update(task, split, model, criterion)


def learn_by_the_recipe(out: Path, corpus: str) -> None:
    """Train stage 1 on the splits that ``examples/pretraining`` sets for a corpus."""
    config = ROOT / "examples" / "pretraining" / "config"
    parts = (config / "recipe" / "pretraining.yaml", config / "corpus" / f"{corpus}.yaml")
    splits = OmegaConf.merge(*(OmegaConf.load(path).dataset for path in parts))
    learn_to_reconstruct(out, splits.train_subset)
    assert len(Manifest(out / f"{splits.valid_subset}.tsv"))


def learn_to_write(out: Path, split: str = "train") -> None:
    """Train a speech-to-text model (stages 2 and 3)."""
    build_vocabulary(out, splits=[split])
    cfg = {**RESOLVED, "train_subset": split, "lm_path": None}
    task = ManifestSpeechToTextTask.setup_task(SpeechToTextConfig(data=str(out), **cfg))
    model = SpeechToTextModel.build_model(small_speech_config(), task)
    update(task, split, model, ManifestLabelSmoothedCrossEntropy(task, False, 0.1, 0, True, 0.3))


def learn_a_task_of_superb(out: Path, kind: str) -> None:
    """Train a SUPERB head on filterbanks."""
    cfg = {**RESOLVED, "train_subset": "train", "save_dir": "nowhere"}
    cfg |= {
        "restore_file": "checkpoint_last.pt",
        "finetune_from_model": None,
        "continue_once": None,
        "checkpoint_suffix": "",
    }
    task = SuperbTask.setup_task(SuperbConfig(data=str(out), kind=kind, **cfg))
    head = SuperbModelConfig(_name="mmpt_superb", lstm_dim=8)
    update(task, "train", task.build_model(OmegaConf.structured(head)), SuperbCriterion(task))


def update(task, split: str, model: torch.nn.Module, criterion) -> dict:
    """One step of gradient descent on all rows; none may be skipped.

    Returns:
        The values that the criterion logs.
    """
    task.load_dataset(split)
    dataset = task.dataset(split)
    batch = dataset.collater([dataset[row] for row in range(len(dataset))])
    assert batch["nsentences"] == len(dataset) > 0
    before = [parameter.detach().clone() for parameter in model.parameters()]
    loss, size, logs = criterion(model.train(), batch)
    assert torch.isfinite(loss)
    (loss / size).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert any(changed)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    return logs
