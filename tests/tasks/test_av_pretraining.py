"""Stage 1's task: refused configs, warnings, the dry run and the plotted reconstruction."""

import re
import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fairseq.optim.adam import FairseqAdam, FairseqAdamConfig
from omegaconf import OmegaConf

from mmpt_fairseq.models.av_pretraining import AVPretrainingModel
from mmpt_fairseq.report.reconstruction import GREY, first_clip, reconstruct_batch
from mmpt_fairseq.report.tensorboard import reconstruction_pixels
from mmpt_fairseq.tasks.av_pretraining import AVPretrainingConfig, AVPretrainingTask
from tests.helpers import av_batch, av_model, write_clips

MAE = {"_name": "mmpt_masked_reconstruction", "video_weight": 1.0}


def config(data, **options):
    """Config as fairseq passes it to ``setup_task``, with interpolations resolved."""
    resolved = {"seed": 1, "train_subset": "train", "decodes_with": None}
    resolved |= {"tensorboard_logdir": None, "distributed_world_size": 1}
    sizes = {"video_num_frames": 4, "video_size": 16, "video_stride": 1}
    return AVPretrainingConfig(data=str(data), **{**resolved, **sizes, **options})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("task"), [0.2, 0.3, 0.9, 0.25], video=True).parent


def loaded(folder, **options) -> AVPretrainingTask:
    """A task with its training data and the patch grid of :func:`av_model`."""
    task = AVPretrainingTask.setup_task(config(folder, **options))
    task.patch_grid = av_model().video_encoder.patches.grid
    task.load_dataset("train")
    return task


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"audio_mask_ratio": 1.0}, r"audio_mask_ratio=1.0 must be at least 0 .* and below 1"),
        ({"video_mask_ratio": -0.1}, r"video_mask_ratio=-0.1 must be at least 0 .* and below 1"),
        ({"audio_mask_span": 0}, "audio_mask_span=0 must be at least 1"),
        ({"video_stride": 0}, "video_stride=0 must be at least 1"),
        ({"max_audio_frames": -5}, "max_audio_frames=-5 must be at least 1"),
        ({"video_crop_scale": 2.0}, "video_crop_scale=2.0 must be above 0 and at most 1"),
        ({"modality_dropout": 1.5}, "modality_dropout=1.5 must be from 0 to 1"),
    ],
)
def test_options_out_of_range_are_refused(folder, options, message):
    with pytest.raises(SystemExit, match=message):
        AVPretrainingTask.setup_task(config(folder, **options))


def test_warns_if_cutting_clips_discards_much_audio(tmp_path, caplog):
    """Half of the audio is beyond ``max_audio_frames``: the warning says what to do."""
    write_clips(tmp_path, [0.5, 0.5])
    caplog.set_level("INFO")
    loaded(tmp_path, use_video=False, max_audio_frames=24)
    [record] = [r for r in caplog.records if "hours of audio" in r.message]
    assert record.levelname == "WARNING"
    assert "the first 0.24 s of a clip are used; to use the rest" in record.message
    for options in ({"max_audio_frames": 24, "random_start": True}, {"max_audio_frames": 100}):
        caplog.clear()
        loaded(tmp_path, use_video=False, **options)
        [record] = [r for r in caplog.records if "hours of audio" in r.message]
        assert record.levelname == "INFO"


def test_warns_if_batches_contrast_few_clips(folder, caplog, monkeypatch):
    for contrasts, size, min_clips, warned in (
        (False, 2, 16, False),
        (True, 2, 2, False),
        (True, 4, 16, False),  # one batch with all clips
        (True, 2, 3, True),
    ):
        monkeypatch.setattr("mmpt_fairseq.tasks.av_pretraining.FEW_CLIPS", min_clips)
        task = loaded(folder)
        task.contrasts = contrasts
        task.get_batch_iterator(task.dataset("train"), max_sentences=size)
        assert ("half of the batches contrast no more than 2 clips" in caplog.text) is warned


def test_warns_if_validation_contrasts_few_clips(folder, caplog):
    """With a single clip the loss would be 0 and recall perfect."""
    (folder / "valid.tsv").write_text((folder / "train.tsv").read_text())
    for contrasts in (False, True):
        task = loaded(folder)
        task.contrasts = contrasts
        task.load_dataset("valid")
        message = "valid: no more than 4 clips are contrasted with one another"
        assert (message in caplog.text) is contrasts
    assert "train: no more than" not in caplog.text


def test_recall_as_checkpoint_metric_needs_a_contrastive_criterion(folder):
    task = loaded(
        folder,
        best_checkpoint_metric="audio_to_video_recall_1",
        maximize_best_checkpoint_metric=True,
    )
    with pytest.raises(SystemExit, match="recall_1 is not measured by mmpt_masked_reconstruction;"):
        task.build_criterion(OmegaConf.create(MAE))


def test_recall_needs_pairs_in_every_validation_split(folder, tmp_path):
    """fairseq looks up the metric after each split."""
    write_clips(tmp_path, [0.3, 0.3])
    shutil.copy(tmp_path / "train.tsv", tmp_path / "valid.tsv")
    for metric in ("loss", "audio_to_video_recall_1"):
        task = AVPretrainingTask.setup_task(
            config(tmp_path, best_checkpoint_metric=metric, maximize_best_checkpoint_metric=True)
            if metric != "loss"
            else config(tmp_path)
        )
        task.patch_grid = av_model().video_encoder.patches.grid
        task.contrasts = task.reconstructs = True
        refused = pytest.raises(SystemExit, match=r"recall_1 cannot be measured on .*valid\.tsv")
        with nullcontext() if metric == "loss" else refused:
            task.load_dataset("valid")


def test_clips_beyond_max_tokens_are_left_out(folder, caplog):
    task = loaded(folder)
    dataset = task.dataset("train")
    limit = int(sorted(dataset.sizes)[2])
    rows = dataset.ordered_indices()
    kept = task.filter_indices_by_size(rows, dataset, limit, ignore_invalid_inputs=True)
    assert set(kept) == {row for row in rows if dataset.sizes[row] <= limit}
    [message] = [r.message for r in caplog.records if "left out" in r.message]
    costs = f"{max(dataset.sizes)} filterbank frames and video patches"
    assert f"left out 1 of 4 rows beyond the limits ({folder}/train.tsv" in message
    assert f"a cost of {costs}, the limits are {limit})" in message
    with pytest.raises(SystemExit, match=r"no row is within .* raise dataset\.max_tokens"):
        task.filter_indices_by_size(rows, dataset, 1, ignore_invalid_inputs=True)


def test_validation_splits_are_combined(folder, tmp_path):
    for name in ("train", "valid", "valid_more"):
        (tmp_path / f"{name}.tsv").write_text((folder / "train.tsv").read_text())
    task = loaded(tmp_path, audio_root=str(folder))
    task.load_dataset("train", combine=True)  # fairseq sets combine for training too
    task.load_dataset("valid", combine=True)
    assert [len(task.dataset(name)) for name in ("train", "valid")] == [4, 8]


def test_comma_separated_splits_are_concatenated(folder):
    one = loaded(folder).dataset("train")
    task = AVPretrainingTask.setup_task(config(folder, train_subset="train,more"))
    task.patch_grid = av_model().video_encoder.patches.grid
    (folder / "more.tsv").write_text((folder / "train.tsv").read_text())
    task.load_dataset("train,more")
    both = task.dataset("train,more")
    assert both.training
    assert len(both) == 2 * len(one)
    assert both.sizes.tolist() == one.sizes.tolist() * 2
    assert torch.equal(both[len(one) + 2].audio_unmasked, one[2].audio_unmasked)
    assert both.hours == tuple(2 * hours for hours in one.hours)


def test_reconstruction_without_masking_is_refused(folder):
    options = {"audio_mask_ratio": 0.0, "video_mask_ratio": 0.0}
    cfg = OmegaConf.create(MAE)
    with pytest.raises(SystemExit, match="nothing is masked"):
        loaded(folder, **options).build_criterion(cfg)
    options = {"audio_mask_ratio": 0.0, "video_mask_ratio": 0.6}
    loaded(folder, **options).build_criterion(cfg)
    with pytest.raises(SystemExit, match="nothing is masked"):
        loaded(folder, use_video=False, **options).build_criterion(cfg)


@torch.no_grad()
def test_mask_ratio_of_zero_masks_nothing_and_gives_zero_error(folder):
    task = loaded(folder, audio_mask_ratio=0.0)
    batch = task.dataset("train").collater([task.dataset("train")[i] for i in range(2)])
    result, _ = av_model()(**batch["net_input"])
    assert result.audio_error.tolist() == [0.0, 0.0]
    assert (result.video_error > 0).all()


@pytest.mark.parametrize(("weights", "used"), [({}, 3), ({"contrastive_weight": 1.0}, 4)])
def test_clr_alone_uses_only_audio_visual_clips(folder, tmp_path, caplog, weights, used):
    """With MAE a clip without audio is used too."""
    lines = (folder / "train.tsv").read_text()
    (tmp_path / "train.tsv").write_text(lines.replace("\t0.wav\t", "\t\t"))
    task = AVPretrainingTask.setup_task(config(tmp_path))
    task.patch_grid = av_model().video_encoder.patches.grid
    name = "mmpt_contrastive"
    if weights:
        name = "mmpt_masked_reconstruction_and_contrastive"
        weights = {"video_weight": 1.0, **weights}
    task.build_criterion(OmegaConf.create({"_name": name, **weights}))
    task.load_dataset("train")
    batches = task.get_batch_iterator(task.dataset("train"), max_sentences=1).frozen_batches
    assert len(batches) == used
    assert ("1 rows are not contrasted" in caplog.text) is (used == 3)


def test_validation_without_pairs_measures_reconstruction_only(tmp_path):
    """For example on held-out videos without audio."""
    lines = write_clips(tmp_path, [0.2, 0.3, 0.9, 0.25], video=True).read_text()
    (tmp_path / "valid.tsv").write_text(re.sub(r"\t\d\.wav\t", "\t\t", lines))
    task = AVPretrainingTask.setup_task(config(tmp_path))
    task.patch_grid = av_model().video_encoder.patches.grid
    both = {"_name": "mmpt_masked_reconstruction_and_contrastive"}
    both |= {"video_weight": 1.0, "contrastive_weight": 1.0}
    criterion = task.build_criterion(OmegaConf.create(both))
    task.load_dataset("valid")
    batch = task.dataset("valid").collater([task.dataset("valid")[i] for i in range(4)])
    loss, _, logs = criterion.eval()(av_model().eval(), batch)
    assert loss > 0
    assert "clr" not in logs or not logs["clr_clips"]
    assert criterion.retrieval.recalls() == {}
    task.build_criterion(OmegaConf.create({"_name": "mmpt_contrastive"}))
    with pytest.raises(SystemExit, match=r"no row of .*valid\.tsv has both"):
        task.load_dataset("valid")


def test_batches_of_an_epoch_are_the_same_after_resuming(tmp_path):
    """Clips of the same length, which are batched at random."""
    write_clips(tmp_path, [0.3] * 12)

    def iterator(epoch: int):
        task = loaded(tmp_path)
        return task.get_batch_iterator(task.dataset("train"), max_sentences=3, seed=1, epoch=epoch)

    def batches(itr) -> list:
        return [batch["id"].tolist() for batch in itr.next_epoch_itr()]

    whole = iterator(1)
    first, second, third = (batches(whole) for _ in range(3))
    assert {frozenset(ids) for ids in first} != {frozenset(ids) for ids in second}
    assert batches(iterator(2)) == second
    assert batches(iterator(3)) == third


def test_clr_alone_counts_time_slices_as_video_tokens(folder):
    costs = {}
    for criterion in ({"_name": "mmpt_contrastive"}, MAE):
        task = AVPretrainingTask.setup_task(config(folder))
        task.patch_grid = (2, 4, 4)
        task.build_criterion(OmegaConf.create(criterion))
        task.load_dataset("train")
        costs[criterion["_name"]] = task.dataset("train").sizes
    audio = task.dataset("train").manifest.n_frames
    assert (costs["mmpt_contrastive"] - audio == 4 * 2).all()
    assert (costs[MAE["_name"]] - audio == 4 * 32).all()


def test_modality_dropout_needs_joint_decoding(folder):
    task = AVPretrainingTask.setup_task(config(folder, modality_dropout=0.1))
    with pytest.raises(SystemExit, match=r"needs model\.joint_decoding=true"):
        task.build_model(SimpleNamespace(joint_decoding=False))


def first_updates(folder, try_largest_batch):
    """Weights after two updates on clips 0 and 1, and the audio lengths of each forward pass."""
    task = loaded(folder, try_largest_batch=try_largest_batch)
    criterion = task.build_criterion(OmegaConf.create(MAE))
    model = av_model(dropout=0.3)
    seen = []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["audio_lengths"].tolist()), with_kwargs=True
    )
    dataset = task.dataset("train")
    task.get_batch_iterator(dataset, max_sentences=2)
    cfg = FairseqAdamConfig(lr=[0.01], adam_betas="(0.9, 0.98)", tpu=False, fp16_adam_stats=False)
    optimizer = FairseqAdam(cfg, list(model.parameters()))
    torch.manual_seed(3)
    for update in range(2):
        batch = dataset.collater([dataset[0], dataset[1]])
        task.train_step(batch, model, criterion, optimizer, update)
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict(), seen


def test_dry_run_of_the_largest_batch_does_not_affect_training(folder):
    plain, order = first_updates(folder, False)
    tried, with_trial = first_updates(folder, True)
    assert order == [[18, 28], [18, 28]]
    assert with_trial == [[88, 28], *order]
    assert all(torch.equal(plain[name], tried[name]) for name in plain)


def test_dry_run_includes_each_kind_of_clip(tmp_path, caplog):
    """Audio-only clips may cost fewer tokens but more memory than audio-visual ones."""
    caplog.set_level("INFO")
    path = write_clips(tmp_path, [0.2, 0.3, 0.9, 0.25], video=True)
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    for row in lines[1:3]:
        row[lines[0].index("video")] = row[lines[0].index("video_frames")] = ""
    path.write_text("\n".join("\t".join(row) for row in lines) + "\n")
    plain, order = first_updates(tmp_path, False)
    tried, with_trials = first_updates(tmp_path, True)
    assert with_trials == [[88, 23], [28, 18], *order]
    assert all(torch.equal(plain[name], tried[name]) for name in plain)
    assert len([r for r in caplog.records if "tried the most expensive batch" in r.message]) == 2


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_out_of_memory_in_dry_run_gives_one_sentence(folder, monkeypatch, device):
    def overflow(*args, **kwargs):
        if device == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        torch.empty(10**15)  # raises

    monkeypatch.setattr(AVPretrainingModel, "forward", overflow)
    with pytest.raises(SystemExit, match=r"most expensive batch \(2 clips, cost \d+\) does not"):
        first_updates(folder, True)


@torch.no_grad()
def test_plots_show_the_first_clip_with_video():
    """Clip 0 of the batch has only audio, and clip 1 is padded."""
    model, batch = av_model(), av_batch()
    for name in ("video", "video_mask"):
        batch[name] = batch[name][:1]
    batch["video_rows"] = torch.tensor([1])
    clip = reconstruct_batch(model, batch)
    result, _ = model(**batch)
    audio = batch["audio"][1, :33].numpy()
    hidden = batch["audio_mask"][1].repeat_interleave(4)[:33].numpy()
    assert np.array_equal(clip.filterbank, audio)
    assert np.array_equal(clip.masked, hidden)
    predicted = result.audio[1].reshape(-1, 80)[:33].numpy()
    assert clip.reconstructed[hidden] == pytest.approx(predicted[hidden], abs=1e-5)
    assert np.array_equal(clip.reconstructed[~hidden], audio[~hidden])
    original, masked, filled = clip.frames
    grey = np.isclose(masked, GREY).all(-1)
    assert 0.5 < grey.mean() < 0.7
    assert np.array_equal(masked[~grey], original[~grey])
    assert np.array_equal(filled[~grey], original[~grey])
    assert not np.isclose(filled[grey], original[grey]).all(-1).any()
    pixels = reconstruction_pixels(clip)
    assert pixels["sound"].shape == (460, 800, 3)
    assert pixels["frames"].dtype == np.uint8
    del batch["video"], batch["video_mask"], batch["video_rows"]
    assert first_clip(batch)["audio"].shape == (1, 40, 80)
    assert set(reconstruction_pixels(reconstruct_batch(model, batch))) == {"sound"}
