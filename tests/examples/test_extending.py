"""A user's own task and criterion in a --user-dir train and work with the package's tools."""

import sys
from dataclasses import dataclass

import numpy as np
import pytest

import mmpt_fairseq
from examples.extending import GapOptions
from mmpt_fairseq.checkpoint import load_checkpoint
from mmpt_fairseq.data.av_dataset import ClipOptions
from mmpt_fairseq.report.discovery import find
from mmpt_fairseq.tasks.av_pretraining import AVPretrainingConfig
from tests.commands import BIN, ROOT, losses, refused, run, succeeded, train

CUSTOM = [
    f"common.user_dir={ROOT / 'examples' / 'extending'}",
    "task._name=gap_pretraining",
    "criterion._name=fading_reconstruction",
]


@pytest.mark.parametrize(("length", "ratio"), [(10, 0.6), (7, 0.5), (1, 0.6), (5, 0.0), (4, 1.0)])
def test_the_mask_is_one_contiguous_span(length, ratio):
    starts = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        mask = GapOptions(audio_mask_ratio=ratio).mask_audio(length, rng)
        at_random = ClipOptions(audio_mask_ratio=ratio).mask_audio(length, rng)
        assert mask.sum() == at_random.sum()
        assert np.abs(np.diff(np.pad(mask.astype(int), 1))).sum() in (0, 2)
        starts.add(int(mask.argmax()))
    assert len(starts) == (length - mask.sum() + 1 if mask.any() else 1)


def test_clip_options_may_have_fields_that_the_config_lacks():
    @dataclass
    class ExtendedOptions(ClipOptions):
        gaps: int = 3

    options = ExtendedOptions.from_config(AVPretrainingConfig(audio_mask_ratio=0.3), (1, 2, 3))
    assert (options.gaps, options.audio_mask_ratio, options.patch_grid) == (3, 0.3, (1, 2, 3))


def test_a_custom_task_and_criterion_train_and_export(corpora, tmp_path):
    """Reports and exports include them; a tool that has not imported them says what is missing."""
    output = succeeded(
        train("pretraining", corpora / "av", tmp_path / "own", *CUSTOM, "+criterion.half_life=1")
    )
    assert losses(output)
    assert (tmp_path / "own" / "tensorboard" / "reconstruction").is_dir()
    checkpoint = tmp_path / "own" / "checkpoint_last.pt"
    assert load_checkpoint(checkpoint)["cfg"]["task"]["_name"] == "gap_pretraining"
    [known], _ = find([tmp_path / "own"])  # this process has imported the --user-dir
    assert known.kind == "pre-training"
    report = tmp_path / "folders.html"
    succeeded(run([BIN / "mmpt-report", tmp_path / "own", "--out", report]))
    note = "its task gap_pretraining is not registered, so its clips are not shown"
    assert note in report.read_text()
    assert mmpt_fairseq.load(checkpoint).encoder
    export = [sys.executable, "-m", "mmpt_fairseq.export", checkpoint, tmp_path / "exported"]
    assert "of the task gap_pretraining, which is not registered" in refused(run(export))
    user_dir = ["--user-dir", ROOT / "examples" / "extending"]
    succeeded(run([*export, *user_dir]))
    clip = next((corpora / "av").rglob("*.mp4"))
    page = tmp_path / "page.html"
    succeeded(run([BIN / "mmpt-report", checkpoint, clip, "--out", page, *user_dir]))
    assert "masked" in page.read_text()
    options = [f"model.init_encoder_from={checkpoint}", "optimization.max_update=1"]
    output = succeeded(train("midtraining", corpora / "st", tmp_path / "st", *options))
    assert "of the encoder" in output


def test_a_custom_objective_without_a_mask_is_refused(corpora, tmp_path):
    options = [*CUSTOM, "+task.audio_mask_ratio=0", "+task.video_mask_ratio=0"]
    assert "nothing is masked" in refused(train("pretraining", corpora / "av", tmp_path, *options))


def test_a_user_dir_that_cannot_be_imported_is_refused(tmp_path):
    command = [
        sys.executable,
        "-m",
        "mmpt_fairseq.export",
        "x.pt",
        tmp_path,
        "--user-dir",
        "no",
    ]
    assert "--user-dir no cannot be imported" in refused(run(command))
