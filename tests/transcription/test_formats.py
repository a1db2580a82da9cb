"""Each format read back by something that knows nothing of ours."""

import json
import re
from itertools import pairwise

import pytest

from manifests.tables import describe, read_table
from mmpt_fairseq.transcription.formats import HEADERS, as_dict, clock, render, render_failure
from mmpt_fairseq.transcription.transcript import Segment, Transcript, Word


def word(text: str, start: float, length: float = 0.3) -> Word:
    return Word(text, start, start + length, 0.5)


TRANSCRIPT = Transcript(
    "a b.wav",
    [
        Segment(0, 10, [word("bɔ̀", 0.5), word("<b>", 1.0), word("&", 3661.5 - 3660)]),
        Segment(10, 20, []),
        Segment(20, 3700, [word("late", 3661.5)]),
    ],
)
SRT = re.compile(r"(\d+)\n(\S+) --> (\S+)\n(.*)\n")


def test_text():
    assert render(TRANSCRIPT, "text") == "bɔ̀ <b> & late\n"


def test_json():
    [line] = render(TRANSCRIPT, "json").splitlines()
    found = json.loads(line)
    assert found["file"] == "a b.wav"
    assert found["text"] == "bɔ̀ <b> & late"
    assert found["duration"] == 3700
    assert [(s["start"], s["end"], s["text"]) for s in found["segments"]] == [
        (0, 10, "bɔ̀ <b> &"),
        (10, 20, ""),
        (20, 3700, "late"),
    ]
    assert found["segments"][2]["words"] == [
        {"word": "late", "start": 3661.5, "end": 3661.8, "confidence": 0.5}
    ]


def test_tsv_is_a_table_that_manifests_are_made_of(tmp_path):
    table = tmp_path / "heard.tsv"
    quoted = Transcript("c.wav", [Segment(0, 1.5, [word('"oh"', 0.1), word("well,", 0.5)])])
    table.write_text(
        HEADERS["tsv"] + render(TRANSCRIPT, "tsv") + render(quoted, "tsv"), encoding="utf-8"
    )
    found = [(r["file"], r["start"], r["end"], r["text"]) for r in read_table(table)]
    assert found == [
        ("a b.wav", "0.000", "10.000", "bɔ̀ <b> &"),
        ("a b.wav", "20.000", "3700.000", "late"),
        ("c.wav", "0.000", "1.500", '"oh" well,'),
    ]
    [told] = describe(table)
    assert "unknown column confidence is ignored;" in told


def test_confidence_of_a_segment():
    words = [Word("a", 0, 1, 0.2), Word("b", 1, 2, 0.8)]
    assert Segment(0, 2, words).confidence == pytest.approx(0.4)
    assert Segment(0, 2, [*words, Word("c", 2, 3, 0.0)]).confidence == 0
    assert Segment(0, 2, []).confidence is None


def test_srt():
    assert SRT.findall(render(TRANSCRIPT, "srt")) == [
        ("1", "00:00:00,500", "00:00:01,800", "bɔ̀ <b> &"),
        ("2", "01:01:01,500", "01:01:02,500", "late"),
    ]


def test_vtt():
    header, *cues = (HEADERS["vtt"] + render(TRANSCRIPT, "vtt")).split("\n\n")
    assert header == "WEBVTT"
    assert cues == [
        "00:00:00.500 --> 00:00:01.800\nbɔ̀ &lt;b&gt; &amp;",
        "01:01:01.500 --> 01:01:02.500\nlate\n",
    ]


def test_cues_are_short():
    """By pause, by length in seconds and in characters; no word is lost or torn."""
    words = [word("steady", 0.5 * i) for i in range(40)]
    words += [word("pause", 22.0), word("x" * 60, 22.4), word("y" * 60, 22.8)]
    cues = SRT.findall(render(Transcript("a", [Segment(0, 30, words)]), "srt"))
    assert " ".join(text for *_, text in cues).split() == [w.text for w in words]
    assert all(len(text) <= 84 for *_, text in cues)
    assert [start for _, start, _, text in cues if text[:1] in "py"] == [
        "00:00:22,000",
        "00:00:22,800",
    ]
    assert {start for _, start, _, text in cues if text[0] == "s"} == {
        f"00:00:{second:02d},000" for second in (0, 6, 12, 18)
    }


def test_a_sentence_without_spaces_is_parted():
    """The recogniser tells of one word: each part is shown while it should be said."""
    text = "".join(chr(0x4E00 + i) for i in range(120))
    said = Transcript("a", [Segment(0, 20, [word(text, 0.2, 19.6), word("b", 19.85)])])
    cues = SRT.findall(render(said, "srt"))
    assert "".join(text for *_, text in cues) == f"{text} b"
    assert [(start, len(text)) for _, start, _, text in cues] == [
        ("00:00:00,200", 30),
        ("00:00:05,100", 30),
        ("00:00:10,000", 30),
        ("00:00:14,900", 32),
    ]


def test_a_word_that_lasts_long_stays_whole():
    said = Transcript(
        "a", [Segment(0, 30, [word("Yes", 0.0, 14.0), word("certainly", 14.0, 16.0)])]
    )
    assert [text for *_, text in SRT.findall(render(said, "srt"))] == ["Yes", "certainly"]
    untimed = Transcript("a", [Segment(0, 20, [Word("Hello", None, None, 1.0)])])
    assert [text for *_, text in SRT.findall(render(untimed, "srt"))] == ["Hello"]


@pytest.mark.parametrize("style", ["srt", "vtt"])
def test_a_word_of_one_piece_can_be_read(style):
    """It lasts 40 ms, and is shown for a second or until the next cue; what it lasts stays told."""
    first = [word("a", 0.5, 0.04), word("b", 2.0, 0.04)]
    second = [word("c", 2.4, 0.04), word("d", 8.42, 0.04), word("e", 9.7, 1.23)]  # a frame too far
    last = [word("f", 10.9, 0.04)]
    said = Transcript("a", [Segment(0, 2.2, first), Segment(2.2, 10.9, second)])
    said.segments.append(Segment(10.9, 10.94, last))
    cues = re.findall(r"^00:00:(\S+) --> 00:00:(\S+)\n(.*)$", render(said, style), re.MULTILINE)
    times = [tuple(float(time.replace(",", ".")) for time in cue[:2]) for cue in cues]
    assert [text for *_, text in cues] == list("abcdef")
    assert times == [(0.5, 1.5), (2.0, 2.4), (2.4, 3.4), (8.42, 9.42), (9.7, 10.9), (10.9, 11.9)]
    assert all(end <= start for (_, end), (start, _) in pairwise(times))
    assert [w["end"] for s in as_dict(said)["segments"] for w in s["words"]][:2] == [0.54, 2.04]


def test_words_without_times_are_spread_over_their_segment():
    said = Segment(3, 9, [Word(text, None, None, 1.0) for text in ("a", "bcd", "ef")])
    assert SRT.findall(render(Transcript("a", [said]), "srt")) == [
        ("1", "00:00:03,000", "00:00:09,000", "a bcd ef")
    ]
    longer = Transcript("a", [Segment(3, 15, said.words)])
    assert SRT.findall(render(longer, "srt")) == [  # nine letters and spaces in twelve seconds
        ("1", "00:00:03,000", "00:00:05,667", "a"),
        ("2", "00:00:05,667", "00:00:11,000", "bcd"),
        ("3", "00:00:11,000", "00:00:15,000", "ef"),
    ]
    assert '"start": null' in render(Transcript("a", [said]), "json")


def test_silence_and_failure():
    silence = Transcript("a", [Segment(0, 1, [])])
    assert render(silence, "text") == "\n"
    assert render(silence, "srt") == ""
    assert render(silence, "vtt") == render(silence, "tsv") == ""
    assert render_failure("a", "why", "text") == "\n"
    assert json.loads(render_failure("a", "why", "json")) == {"file": "a", "error": "why"}
    assert render_failure("a", "why", "srt") == ""


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "00:00:00,000"), (59.9996, "00:01:00,000"), (3599.999, "00:59:59,999")],
)
def test_clock(seconds, expected):
    assert clock(seconds, ",") == expected
