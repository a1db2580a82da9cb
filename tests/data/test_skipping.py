import logging

import pytest
from torch.utils.data import DataLoader, Dataset

from manifests.errors import InputError, UnreadableClip
from mmpt_fairseq.data.skipping import SkippedClips


def skipped_clips(tolerate, read, skipped):
    clips = SkippedClips(2000, tolerate)
    for i in range(read):
        clips.count_read(i)
    for i in range(skipped):
        clips.report(i, f"a.tsv, line {i}", UnreadableClip("gone"))
    return clips


def test_a_skipped_clip_is_counted_and_named_once(caplog):
    with caplog.at_level(logging.WARNING):
        clips = skipped_clips(True, read=4, skipped=2)
        for _ in range(20):
            clips.count_read(1)
            clips.report(1, "a.tsv, line 1", UnreadableClip("gone"))
    assert (clips.read, clips.skipped) == (4, 2)
    assert caplog.text.count("a.tsv, line 1: gone (2 so far)") == 1


class CountingDataset(Dataset):
    """Counts every clip as read and one in four as unusable."""

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
def test_concurrent_workers_lose_no_counts(start):
    data = CountingDataset()
    list(DataLoader(data, batch_size=40, num_workers=3, multiprocessing_context=start))
    assert (data.clips.read, data.clips.skipped) == (4000, 1000)


def test_training_uses_the_usable_clips():
    clips = skipped_clips(True, 3, 0)
    error = clips.report(1, "line 2", UnreadableClip("gone"))
    assert clips.split_usable([1, error, 3]) == ([1, 3], None)
    assert clips.split_usable([error]) == ([], {})
    assert clips.split_usable([]) == ([], {})


def test_evaluation_returns_the_error():
    clips = skipped_clips(False, 3, 0)
    error = clips.report(1, "a.tsv, line 2", UnreadableClip("gone"))
    usable, replacement = clips.split_usable([1, error, 3])
    assert usable == []
    assert replacement["unreadable"] == ["a.tsv, line 2: gone"]
    assert clips.split_usable([1, 3]) == ([1, 3], None)


@pytest.mark.parametrize(
    ("read", "skipped", "passes", "stops"),
    [
        (10, 10, 1, False),
        (11, 11, 1, True),
        (1000, 50, 1, False),
        (1000, 51, 1, True),
        (0, 0, 1, False),
        (7, 7, 1, False),
        (7, 7, 9, True),
        (15, 3, 9, False),
        (15, 4, 9, True),
        (40, 10, 9, False),
        (5, 3, 3, False),
    ],
)
def test_too_many_unusable_clips_stop_training(read, skipped, passes, stops):
    """Also for few rows, once they have been read several times."""
    clips = SkippedClips(2000, True)
    for _ in range(passes):
        for row in range(read):
            clips.count_read(row)
            if row < skipped:
                clips.report(row, f"a.tsv, line {row}", UnreadableClip("gone"))
    if stops:
        for _ in range(2):
            with pytest.raises(InputError, match=f"{skipped} of {read} clips could not be used"):
                clips.check()
    else:
        clips.check()
        assert clips.skipped == skipped


def test_repeated_validations_do_not_add_up():
    clips = skipped_clips(True, 15, 1)
    for _ in range(100):
        for row in range(15):
            clips.count_read(row)
        clips.report(0, "a.tsv, line 0", UnreadableClip("gone"))
        clips.check()


def test_check_does_not_stop_evaluation():
    clips = skipped_clips(False, 20, 20)
    clips.check()
    assert clips.skipped == 20
