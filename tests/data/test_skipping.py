import logging

import pytest
from torch.utils.data import DataLoader, Dataset

from manifests.errors import InputError, UnreadableClip
from mmpt_fairseq.data.skipping import SkippedClips


def counted(tolerate, read, skipped):
    clips = SkippedClips(tolerate)
    for _ in range(read):
        clips.count_read()
    for i in range(skipped):
        clips.report(f"a.tsv, line {i}", UnreadableClip("gone"))
    return clips


def test_a_skipped_clip_is_counted_and_named(caplog):
    with caplog.at_level(logging.WARNING):
        clips = counted(True, read=4, skipped=2)
    assert (clips.read, clips.skipped) == (4, 2)
    assert "a.tsv, line 1: gone (2 so far)" in caplog.text


class Counting(Dataset):
    """Counts each clip that it is asked for as many times as would collide."""

    def __init__(self) -> None:
        self.clips = SkippedClips(True)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        for _ in range(20_000):
            self.clips.count_read()
        return index


def test_workers_count_apart():
    """Adding to shared memory takes several steps, between which another's number would be lost."""
    data = Counting()
    list(DataLoader(data, batch_size=None, num_workers=3, multiprocessing_context="fork"))
    assert data.clips.read == 80_000
    assert sorted((data.clips._counts[:, 0] // 20_000).tolist())[-3:] == [1, 1, 2]


def test_training_uses_the_others():
    clips = counted(True, 3, 0)
    fault = clips.report("line 2", UnreadableClip("gone"))
    assert clips.sort_out([1, fault, 3]) == ([1, 3], None)
    assert clips.sort_out([fault]) == ([], {})
    assert clips.sort_out([]) == ([], {})


def test_evaluation_names_the_fault():
    clips = counted(False, 3, 0)
    fault = clips.report("a.tsv, line 2", UnreadableClip("gone"))
    usable, instead = clips.sort_out([1, fault, 3])
    assert usable == []
    assert instead["unreadable"] == ["a.tsv, line 2: gone"]
    assert clips.sort_out([1, 3]) == ([1, 3], None)


@pytest.mark.parametrize(
    ("read", "skipped", "stops"),
    [(10, 10, False), (11, 11, True), (1000, 50, False), (1000, 51, True), (0, 0, False)],
)
def test_too_large_a_share_stops_training(read, skipped, stops):
    clips = counted(True, read, skipped)
    if stops:
        with pytest.raises(InputError, match=f"{skipped} of the first {read} clips"):
            clips.check()
    else:
        clips.check()
        assert clips.skipped == skipped


def test_evaluation_is_not_stopped_by_the_share():
    clips = counted(False, 20, 20)
    clips.check()
    assert clips.skipped == 20
