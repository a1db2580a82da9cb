import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fairseq.data import FairseqDataset
from fairseq.data.iterators import GroupedIterator
from omegaconf import OmegaConf

from manifests.errors import InputError
from mmpt_fairseq.tasks import _iterator
from mmpt_fairseq.tasks._iterator import DummyMarkingIterator
from mmpt_fairseq.tasks._memory import peak_memory_gb
from mmpt_fairseq.tasks._speech_to_text_config import SpeechToTextConfig
from mmpt_fairseq.tasks._start import check_start, checkpoint_to_load


def test_missing_data_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"task\.data is not set"):
        check_start(OmegaConf.create({"data": "???"}))
    with pytest.raises(InputError, match=r"no data folder .*/none; check task\.data"):
        check_start(SpeechToTextConfig(data=str(tmp_path / "none")))


def test_default_ddp_backend_is_refused_on_cpus(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    several = SpeechToTextConfig(data=str(tmp_path), distributed_world_size=2)
    several.ddp_backend, several.decodes_with = "pytorch_ddp", None
    with pytest.raises(InputError, match=r"ddp_backend=pytorch_ddp needs GPUs; .*=legacy_ddp"):
        check_start(several)
    several.ddp_backend = "legacy_ddp"
    check_start(several)
    several.ddp_backend, several.distributed_world_size = "pytorch_ddp", 1
    check_start(several)
    several.distributed_world_size, several.decodes_with = 2, "model.pt"  # nothing is wrapped
    check_start(several)


@pytest.mark.parametrize(
    ("metric", "maximised", "needed"),
    [
        ("bleu", False, "true"),
        ("accuracy", False, "true"),
        ("clr_accuracy", False, "true"),
        ("video_to_audio_recall_5", False, "true"),
        ("wer", True, "false"),
        ("loss", True, "false"),
        ("clr", True, "false"),
        ("ppl", True, "false"),
        ("mae_audio", True, "false"),
    ],
)
def test_wrong_direction_of_the_checkpoint_metric_is_refused(tmp_path, metric, maximised, needed):
    cfg = SpeechToTextConfig(data=str(tmp_path), distributed_world_size=1, decodes_with=None)
    cfg.best_checkpoint_metric, cfg.maximize_best_checkpoint_metric = metric, maximised
    with pytest.raises(InputError, match=f"maximize_best_checkpoint_metric={needed}"):
        check_start(cfg)
    for name, value in {
        "decodes_with": "model.pt",
        "disable_validation": True,
        "maximize_best_checkpoint_metric": not maximised,
        "best_checkpoint_metric": "of_ones_own",
    }.items():
        check_start(replace(cfg, **{name: value}))


class Numbers(FairseqDataset):
    """Items 0 to 99."""

    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return 100

    def collater(self, samples: list[int]) -> list[int]:
        return samples


@pytest.mark.parametrize(("limit", "kept"), [(4, [0, 33, 66, 99]), (200, list(range(100)))])
def test_a_limited_iteration_leaves_no_waiting_thread(limit, kept):
    """Nor what that thread has read ahead."""
    before, dataset = threading.active_count(), Numbers()
    iterator = DummyMarkingIterator(
        dataset, dataset.collater, [[i] for i in range(100)], buffer_size=2
    )
    iterator.limit = limit
    for _ in range(3):
        batches = list(iterator.next_epoch_itr(shuffle=False))
        assert batches == [[i] for i in kept]
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def iterator_of(processes: int, rank: int) -> DummyMarkingIterator:
    dataset = Numbers()
    batches = [[i] for i in range(len(dataset))]
    return DummyMarkingIterator(
        dataset, dataset.collater, batches, num_shards=processes, shard_id=rank
    )


@pytest.mark.parametrize("update_freq", [1, 2])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3), (3, 3)])
def test_an_epoch_is_continued_by_another_number_of_processes(
    before, after, update_freq, monkeypatch
):
    """Each batch is seen, few of them twice, and the epoch ends."""
    monkeypatch.setattr(_iterator, "data_size", lambda _: [100, 1000])
    seen, state = [], {}
    for rank in range(before):
        iterator = iterator_of(before, rank)
        updates = GroupedIterator(iterator.next_epoch_itr(), update_freq)
        seen += [batch[0] for _ in range(7) for batch in next(updates)]
        state = iterator.state_dict()
    for rank in range(after):
        iterator = iterator_of(after, rank)
        iterator.update_freq = [5, update_freq][-1:]
        iterator.load_state_dict(state)
        updates = GroupedIterator(iterator.next_epoch_itr(), update_freq)
        seen += [batch[0] for update in updates for batch in update if batch]
        assert iterator.end_of_epoch()
        assert iterator.next_epoch_idx == 2
    assert set(seen) == set(range(100))
    assert len(seen) - 100 == 7 * update_freq * before % (update_freq * after)


def test_epochs_of_a_curriculum_are_shuffled_after_it(monkeypatch):
    """``dataset.curriculum=1``: in order in epoch 1, and then as in a run that resumes there."""
    monkeypatch.setattr(_iterator, "data_size", lambda _: [100, 1000])
    dataset, orders = Numbers(), []
    for first_shuffled in (False, True):
        batches = [[i] for i in range(100)]
        iterator = DummyMarkingIterator(
            dataset, dataset.collater, batches, seed=1, reuse_dataloader=True
        )
        list(iterator.next_epoch_itr(shuffle=first_shuffled))
        orders.append(list(iterator.next_epoch_itr(shuffle=True)))
    assert orders[0] == orders[1] != batches


def test_batches_that_grouped_shuffling_leaves_out_are_counted(caplog):
    dataset = Numbers()
    iterator = DummyMarkingIterator(
        dataset, dataset.collater, [[i] for i in range(100)], num_shards=3, grouped_shuffling=True
    )
    iterator.next_epoch_itr()
    assert "grouped_shuffling leaves 1 batches out of epoch 1" in caplog.text


def test_a_checkpoint_with_a_suffix_is_found(tmp_path):
    (tmp_path / "checkpoint_last_x.pt").touch()
    (tmp_path / "other_x.pt").touch()
    cfg = SimpleNamespace(
        save_dir=str(tmp_path),
        restore_file="checkpoint_last.pt",
        checkpoint_suffix="_x",
        continue_once=None,
        finetune_from_model=None,
    )
    assert checkpoint_to_load(cfg) == str(tmp_path / "checkpoint_last_x.pt")
    cfg.restore_file = str(tmp_path / "other.pt")
    assert checkpoint_to_load(cfg) == str(tmp_path / "other_x.pt")


def test_peak_memory_grows_with_allocations_and_is_kept_after_release():
    """Checked with an allocation of 0.5 GB above the previous peak."""
    peak = peak_memory_gb()
    block = np.ones(int((peak - resident_gb() + 0.5) * 1e9), np.uint8)
    assert peak_memory_gb() == pytest.approx(peak + 0.5, abs=0.15)
    del block
    assert resident_gb() < peak + 0.2
    assert peak_memory_gb() > peak + 0.3


def resident_gb() -> float:
    """Current resident memory of this process, from ``/proc``."""
    [line] = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in x]
    return 1024 * int(line.split()[1]) / 1e9
