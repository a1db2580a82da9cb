"""Tiers of ELAN and Praat."""

import pytest

from manifests.annotations import NoSuchTier, chosen, read_elan, read_textgrid
from manifests.captions import Cue
from tests.manifests.annotations import ELAN, PRAAT, SHIFTED, SHORT


def test_tiers_of_elan():
    tiers = read_elan(ELAN)
    assert list(tiers) == ["text@A", "french@A", "words", "text@B", "notes"]
    assert tiers["text@A"] == [Cue(0.1, 0.45, "bóra"), Cue(0.5, 1.5, "wa yali & bo")]
    assert tiers["french@A"] == [Cue(0.5, 1.5, "ils sont là")]
    assert tiers["words"] == [Cue(0.5, 1.5, "they stay")]
    assert tiers["notes"] == []
    empty, unaligned = tiers["text@B"]
    assert empty == Cue(0.45, 0.5, "")
    assert unaligned.text == "eh"
    assert unaligned.start != unaligned.start  # NaN: its first time slot has no time


@pytest.mark.parametrize(
    ("url", "media", "start"),
    [
        ("file:///home/ann/talk.wav", ["talk.wav"], 0.75),
        ("file:///home/ann/talk.wav", ["talk.mp4"], 0.75),  # the audio, extracted from the video
        ("file:///C:/Ann/My%20talk.WAV", ["my talk.wav", "my talk.mp4"], 0.75),
        ("C:\\Ann\\e\u0301t\u00e9.wav", ["\u00e9te\u0301.wav"], 0.75),
        ('" RELATIVE_MEDIA_URL="./talk.wav', ["talk.wav"], 0.75),
        ("file:///home/ann/talk.wav", [], 0.5),
    ],
)
def test_media_that_elan_shifts(url, media, start):
    """ELAN's times begin at TIME_ORIGIN of that file, however its name is written."""
    document = SHIFTED.replace(b"file:///home/ann/talk.wav", url.encode())
    [cue] = read_elan(document, media)["french@A"]
    assert (cue.start, cue.end) == (start, start + 1)


def test_media_that_elan_shifts_apart_are_refused():
    other = b'<MEDIA_DESCRIPTOR MEDIA_URL="file:///talk.mp4" MIME_TYPE="video/mp4"/>'
    both = SHIFTED.replace(b"</HEADER>", other + b"</HEADER>")
    assert read_elan(both, ["talk.wav"])["french@A"][0].start == 0.75
    assert read_elan(both, ["talk.mp4"])["french@A"][0].start == 0.5
    with pytest.raises(ValueError, match=r"gives talk\.wav and talk\.mp4 different times"):
        read_elan(both, ["talk.wav", "talk.mp4"])
    with pytest.raises(ValueError, match=r"shifts other media in time .*, but names no walk.wav"):
        read_elan(SHIFTED, ["walk.wav"])


def test_references_in_a_circle_have_no_time():
    circle = ELAN.replace(b'ANNOTATION_REF="a1"', b'ANNOTATION_REF="a3"')
    [cue] = read_elan(circle)["french@A"]
    assert cue.start != cue.start


def test_tiers_of_praat():
    assert read_textgrid(PRAAT) == {
        "text": [Cue(0.25, 1.5, 'she said "3 ! <b>"\nand left')],
        "french": [Cue(0.25, 1.5, "dit-elle")],
    }
    assert read_textgrid(SHORT) == {"text": [Cue(0.125, 2, "bóra")]}


def test_a_pattern_chooses_several_tiers():
    tiers = {"text@A": [Cue(1, 2, "b")], "text@B": [Cue(0, 1, "a")], "x": [], "[x]": []}
    assert [cue.text for cue in chosen(tiers, ["text@*"])] == ["a", "b"]
    assert [cue.text for cue in chosen(tiers, ["text", "text@B", "text@A"])] == ["a"]
    assert chosen(tiers, ["[x]"]) == []
    with pytest.raises(
        NoSuchTier, match=r"no tier 'text' of intervals, but 'text@A', 'text@B', 'x'"
    ):
        chosen(tiers, ["text"])


def test_names_of_tiers_in_another_form_of_unicode():
    """As typed on macOS; spaces around a name are invisible."""
    tiers = read_elan(ELAN.replace(b"text@B", "franc\u0327ais ".encode()))
    assert [cue.text for cue in chosen(tiers, ["fran\u00e7ais"])] == ["", "eh"]
