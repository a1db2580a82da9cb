from mmpt_fairseq.data.segments import format_segments, parse_segments, speaker_activity


def test_a_cell_is_read_as_it_is_written():
    segments = [("anna", 0.31, 2.5), ("d:1", 2.1, 4.02)]
    assert format_segments(segments) == "anna:0.31-2.50;d:1:2.10-4.02"
    assert list(parse_segments(format_segments(segments), "here")) == segments
    assert list(parse_segments("", "here")) == []


def test_activity_of_overlapping_segments_of_one_speaker():
    active = speaker_activity("a:0-0.3;a:0.2-0.4", 50, "here")
    assert active.shape == (50, 1)
    assert active.sum() == 40
