"""Annotations of ELAN and Praat beside recordings become segments."""

import pytest

from manifests.annotations import NoSuchTier, chosen, read_elan, read_textgrid
from manifests.captions import Cue
from manifests.errors import InputError
from manifests.folder import RECIPE
from manifests.prepare import main
from tests.manifests.corpora import make_audio, make_video, rows, run, skipped, text

# Two speakers; the second tier translates the first, "words" subdivides it.
ELAN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-05-01T10:00:00+01:00" FORMAT="3.0" VERSION="3.0">
  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///home/ann/talk.wav" MIME_TYPE="audio/x-wav"{origin}/>
  </HEADER>
  <TIME_ORDER>
    <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="500"/><TIME_SLOT TIME_SLOT_ID="ts2"/>
    <TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="1500"/>
    <TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="100"/>
    <TIME_SLOT TIME_SLOT_ID="ts5" TIME_VALUE="450"/>
  </TIME_ORDER>
  <TIER LINGUISTIC_TYPE_REF="utterance" PARTICIPANT="Ann" TIER_ID="text@A">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts3">
      <ANNOTATION_VALUE>wa yali &amp; bo</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts4" TIME_SLOT_REF2="ts5">
      <ANNOTATION_VALUE>bóra</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="translation" PARENT_REF="text@A" TIER_ID="french@A">
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a1">
      <ANNOTATION_VALUE>ils sont là</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="words" PARENT_REF="french@A" TIER_ID="words">
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a4" ANNOTATION_REF="a3">
      <ANNOTATION_VALUE>they</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a5" ANNOTATION_REF="a3" PREVIOUS_ANNOTATION="a4">
      <ANNOTATION_VALUE>stay</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="utterance" TIER_ID="text@B">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a6" TIME_SLOT_REF1="ts5" TIME_SLOT_REF2="ts1">
      <ANNOTATION_VALUE/></ALIGNABLE_ANNOTATION></ANNOTATION>
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a7" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
      <ANNOTATION_VALUE>eh</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="notes" TIER_ID="notes"/>
</ANNOTATION_DOCUMENT>
"""
SHIFTED = ELAN.format(origin=' TIME_ORIGIN="250"').encode()
ELAN = ELAN.format(origin="").encode()

PRAAT = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "text"
        xmin = 0
        xmax = 2
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 1.5
            text = "she said ""3 ! <b>""
and left"
        intervals [3]:
            xmin = 1.5
            xmax = 2
            text = " "
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 2
        points: size = 1
        points [1]:
            number = 0.7
            mark = "click"
    item [3]:
        class = "IntervalTier"
        name = "french"
        xmin = 0
        xmax = 2
        intervals: size = 1
        intervals [1]:
            xmin = 0.25
            xmax = 1.5
            text = "dit-elle"
"""
SHORT = """File type = "ooTextFile short"
"TextGrid"

0 ! seconds
2
<exists>
1
"IntervalTier"
"text"
0
2
2
0
1.25e-1
""
1.25e-1
2
"bóra"
"""


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


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".eaf", ELAN),
        (".TextGrid", PRAAT.replace("text", "text@A").replace("french", "french@A").encode()),
        (".TextGrid", PRAAT.replace("text", "text@A").encode("utf-16")),
    ],
)
def test_a_tier_of_annotations_beside_a_recording(tmp_path, suffix, content):
    make_video(tmp_path / "c" / "talk.mp4", seconds=2)
    (tmp_path / "c" / f"talk{suffix}").write_bytes(content)
    text(tmp_path / "c" / "talk.txt", "is not used")
    run("folder", tmp_path / "c", tmp_path / "out", "--tier", "text@A", "--valid-every", "0")
    found = rows(tmp_path / "out" / "train.tsv")
    if suffix == ".eaf":
        assert [row["tgt_text"] for row in found] == ["bóra", "wa yali & bo"]
        assert [int(row["n_frames"]) for row in found] == [33, 98]  # 350 ms and 1 s
        assert [row["video"].rpartition("/")[2] for row in found] == [
            "talk.mp4:2:9",
            "talk.mp4:12:25",
        ]
    else:
        assert [row["tgt_text"] for row in found] == ['she said "3 ! <b>" and left']


def test_translations_and_transcripts_of_two_tiers(tmp_path, capsys):
    make_audio(tmp_path / "c" / "talk.wav", 2)
    (tmp_path / "c" / "talk.eaf").write_bytes(ELAN)
    tiers = ["--tier", "text@*", "--source-tier", "french@A", "--valid-every", "0"]
    run("folder", tmp_path / "c", tmp_path / "out", *tiers, "--target-lang", "mdw")
    found = rows(tmp_path / "out" / "train.tsv")
    assert [(row["tgt_text"], row["src_text"]) for row in found] == [
        ("bóra", ""),
        ("wa yali & bo", "ils sont là"),
    ]
    assert skipped(tmp_path / "out") == {
        "talk_0001": "empty transcript",
        "talk_0003": "unusable times",
    }
    assert (
        "3 of 4 texts of talk.eaf have the times of no text in the spoken"
        in capsys.readouterr().err
    )


def test_a_single_tier_with_text_needs_no_name(tmp_path):
    make_audio(tmp_path / "c" / "talk.wav", 2)
    text(tmp_path / "c" / "talk.TextGrid", SHORT)
    run("folder", tmp_path / "c", tmp_path / "out", "--valid-every", "0")
    assert [row["tgt_text"] for row in rows(tmp_path / "out" / "train.tsv")] == ["bóra"]


def test_several_tiers_must_be_chosen_from(tmp_path):
    make_audio(tmp_path / "c" / "talk.wav", 2)
    (tmp_path / "c" / "talk.eaf").write_bytes(ELAN)
    message = r"talk.eaf has several tiers with text \(text@A, french@A, words, text@B\); choose"
    with pytest.raises(InputError, match=message):
        run("folder", tmp_path / "c", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "detail"),
    [
        ("talk.eaf", b"<html>", "talk.eaf is no XML document (no element found"),
        ("talk.eaf", ELAN.replace(b"UTF-8", b"foo"), "is no XML document (unknown encoding: foo)"),
        ("talk.eaf", b"<html/>", "talk.eaf is no ELAN document but <html>"),
        ("talk.eaf", ELAN.replace(b'"500"', b'"0,5"'), "holds '0,5' where a number should be"),
        ("talk.TextGrid", b"ooBinaryFile\x08TextGrid\x81", "is binary; save it in Praat as a text"),
        ("talk.TextGrid", b"x", "talk.TextGrid is no TextGrid; save it in Praat as a text file"),
        (
            "talk.TextGrid",
            PRAAT.replace('"TextGrid"', '"Collection"').encode(),
            "a Collection, not",
        ),
        ("talk.TextGrid", PRAAT[:-40].encode(), "talk.TextGrid ends before its last interval"),
        (
            "talk.TextGrid",
            PRAAT.replace("= 0.25", "= 0,25").encode(),
            "holds '0,25' where a number",
        ),
        (
            "talk.TextGrid",
            PRAAT.replace("size = 3", "size = 2", 1).encode(),
            "more intervals or tiers",
        ),
        (
            "talk.TextGrid",
            PRAAT.replace("intervals: size = 3", "intervals: size = 2").encode(),
            "holds '1.5' where tier 2 should begin",
        ),
    ],
)
def test_unusable_annotations_are_reported(tmp_path, name, content, detail):
    for recording in ("talk", "other"):
        make_audio(tmp_path / "c" / f"{recording}.wav", 2)
    (tmp_path / "c" / name).write_bytes(content)
    text(tmp_path / "c" / "other.TextGrid", SHORT)
    run("folder", tmp_path / "c", tmp_path / "out", "--tier", "text", "--valid-every", "0")
    assert skipped(tmp_path / "out") == {"talk": "unreadable text"}
    assert detail in (tmp_path / "out" / "skipped.tsv").read_text(encoding="utf-8")
    assert len(rows(tmp_path / "out" / "train.tsv")) == 1


def test_recordings_whose_tiers_have_other_names(tmp_path, capsys):
    """A missing tier is one clip in the count, but a whole recording: the warning is loud."""
    for recording in ("talk", *(f"other{i}" for i in range(30))):
        make_audio(tmp_path / "c" / f"{recording}.wav", 2)
        text(tmp_path / "c" / f"{recording}.TextGrid", SHORT)
    (tmp_path / "c" / "talk.TextGrid").unlink()
    (tmp_path / "c" / "talk.eaf").write_bytes(ELAN)
    with pytest.raises(
        InputError, match=r"\(31 no such tier; other0.TextGrid has no tier 'french'"
    ):
        run("folder", tmp_path / "c", tmp_path / "out", "--tier", "french")
    main(RECIPE, [str(tmp_path / "c"), str(tmp_path / "one"), "--tier", "text"])
    assert skipped(tmp_path / "one") == {"talk": "no such tier"}
    assert "WARNING: 1 of 31 clips" in capsys.readouterr().err
    both = ["--tier", "text", "--tier", "text@A", "--valid-every", "0"]
    run("folder", tmp_path / "c", tmp_path / "two", *both)
    assert skipped(tmp_path / "two") == {}
    assert len(rows(tmp_path / "two" / "train.tsv")) == 32


def test_translations_are_matched_by_reference_before_time(tmp_path):
    """Two speakers talk at the same time."""
    make_audio(tmp_path / "c" / "talk.wav", 2)
    annotation = (
        '<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="{0}" TIME_SLOT_REF1="s" '
        'TIME_SLOT_REF2="e"><ANNOTATION_VALUE>said {0}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>'
        "</ANNOTATION>"
    )
    reference = (
        '<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="{0}2" ANNOTATION_REF="{0}"><ANNOTATION_VALUE>'
        "meant {0}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
    )
    tiers = "".join(
        f'<TIER TIER_ID="tx@{name}">{annotation.format(name)}</TIER>'
        f'<TIER TIER_ID="ft@{name}">{reference.format(name)}</TIER>'
        for name in "ab"
    )
    slots = (
        '<TIME_SLOT TIME_SLOT_ID="s" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="e" TIME_VALUE="900"/>'
    )
    document = f"<ANNOTATION_DOCUMENT><TIME_ORDER>{slots}</TIME_ORDER>{tiers}</ANNOTATION_DOCUMENT>"
    text(tmp_path / "c" / "talk.eaf", document)
    tiers = ["--tier", "ft@*", "--source-tier", "tx@*"]
    run("folder", tmp_path / "c", tmp_path / "out", *tiers, "--valid-every", "0")
    found = {(row["tgt_text"], row["src_text"]) for row in rows(tmp_path / "out" / "train.tsv")}
    assert found == {("meant a", "said a"), ("meant b", "said b")}


def test_a_missing_source_tier_leaves_the_targets(tmp_path, capsys):
    make_audio(tmp_path / "c" / "talk.wav", 2)
    (tmp_path / "c" / "talk.eaf").write_bytes(ELAN)
    tiers = ["--tier", "text@A", "--source-tier", "spoken", "--valid-every", "0"]
    run("folder", tmp_path / "c", tmp_path / "out", *tiers)
    assert [row["src_text"] for row in rows(tmp_path / "out" / "train.tsv")] == ["", ""]
    assert "2 of 2 texts of talk.eaf have the times of no text" in capsys.readouterr().err


def test_annotations_of_two_languages_in_two_files(tmp_path):
    make_audio(tmp_path / "c" / "talk.wav", 2)
    text(tmp_path / "c" / "talk.mdw.TextGrid", SHORT)
    text(tmp_path / "c" / "talk.fr.TextGrid", SHORT.replace("bóra", "soleil"))
    languages = ["--source-lang", "mdw", "--target-lang", "fr", "--valid-every", "0"]
    run("folder", tmp_path / "c", tmp_path / "out", *languages)
    [row] = rows(tmp_path / "out" / "train.tsv")
    assert (row["tgt_text"], row["src_text"]) == ("soleil", "bóra")


def test_a_chosen_tier_is_preferred_to_other_texts(tmp_path, capsys):
    """And another text is used if annotations have none."""
    for name in ("a", "b"):
        make_audio(tmp_path / "c" / f"{name}.wav", 2)
        text(tmp_path / "c" / f"{name}.fr.txt", "is not used" if name == "a" else "is used")
    text(tmp_path / "c" / "a.TextGrid", SHORT)
    text(tmp_path / "c" / "b.TextGrid", SHORT.replace("bóra", ""))
    run(
        *("folder", tmp_path / "c", tmp_path / "out", "--target-lang", "fr"),
        *("--tier", "text", "--valid-every", "0"),
    )
    assert [row["tgt_text"] for row in rows(tmp_path / "out" / "train.tsv")] == ["bóra", "is used"]
    assert "note: no text in b.TextGrid; b.fr.txt is used instead" in capsys.readouterr().err


def test_annotations_are_named_after_their_recordings(tmp_path, capsys):
    make_audio(tmp_path / "c" / "TALK.WAV", 2)
    text(tmp_path / "c" / "talk.TextGrid", SHORT)
    text(tmp_path / "c" / "talk_v2.TextGrid", SHORT)
    text(tmp_path / "c" / "readme.txt", "of no recording, which is not worth a word")
    run("folder", tmp_path / "c", tmp_path / "out", "--valid-every", "0")
    assert [row["tgt_text"] for row in rows(tmp_path / "out" / "train.tsv")] == ["bóra"]
    message = "ignored: 1 annotations or subtitles without a recording of the same name beside them"
    assert f"{message}, such as talk_v2.TextGrid" in capsys.readouterr().err


def test_a_tier_without_annotations_is_refused(tmp_path):
    make_audio(tmp_path / "c" / "talk.wav", 2)
    text(tmp_path / "c" / "talk.txt", "hello")
    with pytest.raises(InputError, match=r"has an \.eaf or \.TextGrid of its name"):
        run("folder", tmp_path / "c", tmp_path / "out", "--tier", "text")
    table = text(tmp_path / "clips.csv", "file,text", "talk.wav,hello")
    with pytest.raises(InputError, match="a table has columns"):
        run("folder", tmp_path / "c", tmp_path / "out", "--tier", "text", "--csv", str(table))
