import pytest

from manifests.errors import InputError
from mmpt_fairseq.data.segments import format_segments, parse_segments, speaker_activity


def test_formatted_segments_are_parsed_back():
    segments = [("anna", 0.31, 2.5), ("d:1", 2.1, 4.02)]
    assert format_segments(segments) == "anna:0.31-2.50;d:1:2.10-4.02"
    assert list(parse_segments(format_segments(segments), "here")) == segments
    assert list(parse_segments("", "here")) == []


def test_overlapping_segments_of_one_speaker_are_merged():
    active = speaker_activity("a:0-0.3;a:0.2-0.4", 50, "here")
    assert active.shape == (50, 1)
    assert active.sum() == 40


@pytest.mark.parametrize("cell", ["a:0-inf", "a:nan-1", "a:1-0.5", "a:-1-2", ":0-1", "a"])
def test_malformed_segments_are_refused(cell):
    with pytest.raises(InputError, match=r"row 3: .* is not speaker:start-end in seconds"):
        speaker_activity(cell, 50, "row 3")
