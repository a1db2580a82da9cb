import logging

import pytest
from torch.utils.data import DataLoader, Dataset

from manifests.errors import InputError, UnreadableClip
from mmpt_fairseq.data.skipping import SkippedClips


def counted(tolerate, read, skipped, rows=2000):
    clips = SkippedClips(rows, tolerate)
    for i in range(read):
        clips.count_read(i)
    for i in range(skipped):
        clips.report(i, f"a.tsv, line {i}", UnreadableClip("gone"))
    return clips


def test_a_skipped_clip_is_counted_and_named_once(caplog):
    with caplog.at_level(logging.WARNING):
        clips = counted(True, read=4, skipped=2)
        for _ in range(20):
            clips.count_read(1)
            clips.report(1, "a.tsv, line 1", UnreadableClip("gone"))
    assert (clips.read, clips.skipped) == (4, 2)
    assert caplog.text.count("a.tsv, line 1: gone (2 so far)") == 1


class Counting(Dataset):
    """Every clip is read, one in four cannot be used."""

    def __init__(self) -> None:
        self.clips = SkippedClips(4000, True)

    def __len__(self) -> int:
        return 4000

    def __getitem__(self, index: int) -> int:
        self.clips.count_read(index)
        if index % 4 == 0:
            self.clips.report(index, "", UnreadableClip("gone"))
        return index


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_lose_no_count_to_each_other(start):
    data = Counting()
    list(DataLoader(data, batch_size=40, num_workers=3, multiprocessing_context=start))
    assert (data.clips.read, data.clips.skipped) == (4000, 1000)


def test_training_uses_the_others():
    clips = counted(True, 3, 0)
    fault = clips.report(1, "line 2", UnreadableClip("gone"))
    assert clips.sort_out([1, fault, 3]) == ([1, 3], None)
    assert clips.sort_out([fault]) == ([], {})
    assert clips.sort_out([]) == ([], {})


def test_evaluation_names_the_fault():
    clips = counted(False, 3, 0)
    fault = clips.report(1, "a.tsv, line 2", UnreadableClip("gone"))
    usable, instead = clips.sort_out([1, fault, 3])
    assert usable == []
    assert instead["unreadable"] == ["a.tsv, line 2: gone"]
    assert clips.sort_out([1, 3]) == ([1, 3], None)


@pytest.mark.parametrize(
    ("rows", "read", "skipped", "stops"),
    [
        (2000, 10, 10, False),
        (2000, 11, 11, True),
        (2000, 1000, 50, False),
        (2000, 1000, 51, True),
        (2000, 0, 0, False),
        (15, 14, 8, False),
        (15, 15, 7, False),
        (15, 15, 8, True),
        (1, 1, 1, True),
    ],
)
def test_too_large_a_share_stops_training(rows, read, skipped, stops):
    clips = counted(True, read, skipped, rows)
    if stops:
        with pytest.raises(InputError, match=f"{skipped} of the {read} clips read so far"):
            clips.check()
    else:
        clips.check()
        assert clips.skipped == skipped


def test_validation_after_validation_is_passed_as_the_first_one_was():
    clips = counted(True, 15, 1, rows=15)
    for _ in range(100):
        for row in range(15):
            clips.count_read(row)
        clips.report(0, "a.tsv, line 0", UnreadableClip("gone"))
        clips.check()


def test_evaluation_is_not_stopped_by_the_share():
    clips = counted(False, 20, 20)
    clips.check()
    assert clips.skipped == 20
