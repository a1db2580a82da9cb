"""Cues of SubRip and WebVTT, labels of Audacity, and recordings with such files beside them."""

import unicodedata

import numpy as np
import pytest

from manifests.captions import Cue, read_cues, read_labels
from mmpt_fairseq.data.waveform import read_waveform
from tests.manifests.corpora import make_audio, make_video, rows, run, skipped, text

SRT = """1
00:00:00,500 --> 00:00:01,500
<i>Hello</i> there
you

2
00:00:02,000 --> 00:00:02,500
♪ (music) ♪

3
00:00:02,600 --> 00:00:09,000
Far too late
"""


VTT = """WEBVTT - a title

NOTE times without hours

intro
00:00.500 --> 00:01.500 align:start position:0%
<v Ann>Hello there
you

00:00:02.000 --> 00:00:02.500
♪ (music) ♪

00:02.600 --> 00:09.000
Far too late"""


@pytest.mark.parametrize(("suffix", "content"), [("srt", SRT), ("vtt", VTT)])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_cues_are_parsed(suffix, content, end):
    assert list(read_cues(content.replace("\n", end))) == [
        Cue(0.5, 1.5, "Hello there\nyou"),
        Cue(2.0, 2.5, "♪ (music) ♪"),
        Cue(2.6, 9.0, "Far too late"),
    ]


def test_cues_with_rounded_times():
    cues = "1\n00:00:01,5 --> 00:00:02,05\nOne\n\n2\n00:00:03.00 --> 00:00:04.5\nTwo\n"
    assert list(read_cues(cues)) == [Cue(1.5, 2.05, "One"), Cue(3, 4.5, "Two")]


def test_numbers_in_the_text_stay_if_cues_are_not_numbered():
    said = ["How many?", "42", "When was that?", "1984"]
    srt = "".join(f"00:00:0{i},000 --> 00:00:0{i + 1},000\n{s}\n\n" for i, s in enumerate(said))
    assert [cue.text for cue in read_cues(srt)] == said


@pytest.mark.parametrize("first", ["", "1.\n", "\ufeff1\n"])
def test_one_damaged_cue_number_does_not_affect_the_others(first):
    cues = "00:00:00,000 --> 00:00:01,000\nOne\n\n2\n00:00:01,000 --> 00:00:02,000\nTwo\n\n"
    cues += "3\n00:00:02,000 --> 00:00:03,000\nThree\n"
    assert [cue.text for cue in read_cues("\ufeff" + first + cues)] == ["One", "Two", "Three"]


def test_cues_without_blank_lines_between():
    cues = "1\n00:00:00,000 --> 00:00:01,000\nOne\n2\n00:00:01,000 --> 00:00:02,000\n2\nTwo\n"
    assert list(read_cues(cues)) == [Cue(0, 1, "One"), Cue(1, 2, "2\nTwo")]


def test_cues_with_blank_lines_within():
    """As in some SubRip files; in WebVTT a blank line ends a cue."""
    cues = (
        "1\n00:00:00,000 --> 00:00:01,000\nOne\n\nmore\n\n2\n00:00:01,000 --> 00:00:02,000\n\nTwo"
    )
    assert list(read_cues(cues)) == [Cue(0, 1, "One\nmore"), Cue(1, 2, "Two")]
    count = (f"00:00:0{i},000 --> 00:00:0{i},900\n{text}\n\n" for i, text in enumerate(("10", "9")))
    assert [cue.text for cue in read_cues("".join(count))] == ["10", "9"]  # not cue numbers
    noted = cues.replace("1\n", "WEBVTT\n\n1\n", 1).replace("more", "NOTE more")
    assert list(read_cues(noted)) == [Cue(0, 1, "One"), Cue(1, 2, "")]


ROLLING = """WEBVTT
Kind: captions

00:00:00.160 --> 00:00:02.470 align:start position:0%
SPACE
welcome<00:00:00.480><c> to</c><00:00:00.640><c> my</c>

00:00:02.470 --> 00:00:02.480 align:start position:0%
welcome to my
SPACE

00:00:02.480 --> 00:00:04.750 align:start position:0%
welcome to my
channel<00:00:02.800><c> today</c>

00:00:04.750 --> 00:00:04.760 align:start position:0%
channel today
SPACE

00:00:05.000 --> 00:00:06.000 align:start position:0%
channel today
channel today
""".replace("SPACE", " ")


def test_rolling_cues_keep_only_new_lines():
    """As in YouTube's automatic subtitles: lines still displayed are not repeated."""
    assert [(cue.start, cue.text) for cue in read_cues(ROLLING)] == [
        (0.16, "welcome to my"),
        (2.48, "channel today"),
        (5.0, "channel today"),
    ]
    said_twice = "1\n00:00:00,000 --> 00:00:01,000\nNo\n\n2\n00:00:01,000 --> 00:00:02,000\nNo\n"
    assert len(read_cues(said_twice)) == 2


@pytest.mark.parametrize(
    ("encoding", "mark", "note"),
    [
        ("utf-8", "\ufeff", ""),
        ("utf-16-le", "\ufeff", ""),
        ("utf-16-be", "\ufeff", ""),
        ("cp1252", "", "a.SRT is read as cp1252, not UTF-8"),
    ],
)
def test_subtitles_in_several_encodings(tmp_path, capsys, encoding, mark, note):
    make_video(tmp_path / "c/a.mp4", 3.0)
    subtitles = mark + SRT.replace("Hello</i> there", "Café</i>,")
    (tmp_path / "c/a.SRT").write_bytes(subtitles.encode(encoding, "ignore"))
    run("folder", tmp_path / "c", tmp_path / "out", "--valid-every", "0")
    assert rows(tmp_path / "out/train.tsv")[0]["tgt_text"] == "Café, you"
    assert note in capsys.readouterr().err


def test_unusable_subtitles_are_reported(tmp_path):
    for name in "abcd":
        make_video(tmp_path / f"c/{name}.mp4", 1.0)
    text(tmp_path / "c/a.srt", "")
    (tmp_path / "c/b.srt").write_bytes(b"1\n00:00:00,000 --> 00:00:01,000\n\x81\xff\n")
    text(tmp_path / "c/d.txt", "a text")
    run("folder", tmp_path / "c", tmp_path / "out", "--valid-every", "0")
    assert [r["id"] for r in rows(tmp_path / "out/train.tsv")] == ["d"]
    assert skipped(tmp_path / "out") == {
        "a": "empty transcript",
        "b": "unreadable text",
        "c": "no transcript",
    }
    assert "b.srt is neither Unicode nor cp1252" in (tmp_path / "out/skipped.tsv").read_text()


def test_subtitles_in_a_language_not_asked_for_are_reported(tmp_path, capsys):
    make_video(tmp_path / "c/a.mp4", 2.0)
    for language in ("en", "de"):
        text(tmp_path / f"c/a.{language}.srt", SRT, end="")
    run("folder", tmp_path / "c", tmp_path / "out")
    assert "the texts of a are ignored; choose a language with --target-lang: de, en" in (
        capsys.readouterr().err
    )
    run("folder", tmp_path / "c", tmp_path / "en", "--source-lang", "en")  # transcripts
    assert "ignored" not in capsys.readouterr().err
    assert rows(tmp_path / "en/train.tsv")[0]["tgt_lang"] == "en"


def test_texts_may_be_named_after_the_file_with_its_suffix(tmp_path):
    """As whisper.cpp writes them."""
    make_video(tmp_path / "c/a.mp4", 2.0)
    make_audio(tmp_path / "c/b.wav", 2.0)
    text(tmp_path / "c/a.mp4.srt", SRT, end="")
    text(tmp_path / "c/b.wav.txt", "hello")
    run("folder", tmp_path / "c", tmp_path / "out", "--valid-every", "0")
    found = rows(tmp_path / "out/train.tsv")
    assert found[0]["id"] == "a_0000"
    assert (found[-1]["id"], found[-1]["tgt_text"]) == ("b", "hello")


def test_subtitles_beside_videos(tmp_path, capsys):
    corpus = tmp_path / "my vidéos"
    for name in ("a", "b"):
        make_video(corpus / f"{name}.mp4", 3.0)
    text(corpus / "a.srt", SRT, end="")
    text(corpus / "a.de.srt", SRT.replace("Hello</i> there", "Hallo</i>"), end="")
    text(corpus / "b.txt", "One &lt;text&gt; of", "several lines")
    run("folder", corpus, tmp_path / "out", "--target-lang", "de", "--spoken")
    output = capsys.readouterr().err
    assert (
        "b.txt names no language and is taken as de, like all such files, beside a.de.srt" in output
    )
    [train], [valid] = (rows(tmp_path / f"out/{split}.tsv") for split in ("train", "valid"))
    segment, whole = sorted((train, valid), key=lambda row: row["audio"])
    assert segment["audio"] == f"{corpus / 'a.mp4'}:8000:16000"
    assert segment["video"] == f"{corpus / 'a.mp4'}:12:25"
    assert (segment["tgt_text"], segment["tgt_lang"]) == ("Hallo you", "de")
    film_sound = read_waveform(str(corpus / "a.mp4"))
    np.testing.assert_allclose(read_waveform(segment["audio"]), film_sound[8000:24000], atol=1e-6)
    assert (whole["id"], whole["tgt_text"]) == ("b", "One <text> of several lines")
    assert skipped(tmp_path / "out") == {
        "a_0001": "empty transcript",
        "a_0002": "past the end of its recording",
    }


def test_source_texts_from_a_second_subtitle(tmp_path):
    """Matched by times: the translator left out a cue and moved none."""
    make_video(tmp_path / "c/a.mp4", 3.0)
    text(tmp_path / "c/a.srt", SRT, end="")
    text(tmp_path / "c/a.de.srt", SRT.replace("Hello</i> there", "Hallo</i>"), end="")
    languages = ("--target-lang", "de", "--source-lang", "en", "--valid-every", "0")
    run("folder", tmp_path / "c", tmp_path / "out", *languages)
    [first, second] = rows(tmp_path / "out/train.tsv")
    assert (first["src_text"], first["tgt_text"]) == ("Hello there you", "Hallo you")
    assert (first["src_lang"], first["tgt_lang"]) == ("en", "de")
    assert second["src_text"] == second["tgt_text"] == "♪ (music) ♪"


def test_source_cues_match_up_to_rounded_times(tmp_path, capsys):
    """Two milliseconds do not matter, whatever digits change; half a second is another cue."""
    cue = "1\n00:00:00,{} --> 00:00:02,{}\n{}\n"
    for name, times in (("a", (251, 549)), ("b", (749, 551))):
        make_video(tmp_path / f"c/{name}.mp4", 3.0)
        text(tmp_path / f"c/{name}.en.srt", cue.format(249, 551, "Hello"), end="")
        text(tmp_path / f"c/{name}.de.srt", cue.format(*times, "Hallo"), end="")
    languages = ("--target-lang", "de", "--source-lang", "en", "--valid-every", "0")
    run("folder", tmp_path / "c", tmp_path / "out", *languages)
    assert [row["src_text"] for row in rows(tmp_path / "out/train.tsv")] == ["Hello", ""]
    assert "1 of 1 texts of b.de.srt have the times of no text" in capsys.readouterr().err


def test_a_video_without_text_among_others_is_left_out(tmp_path):
    """It must not be trained on or scored as if it contained no speech."""
    for name in ("a", "b", "c"):
        make_video(tmp_path / f"c/{name}.mp4", 3.0, seed=ord(name))
    for name in ("a", "b"):
        text(tmp_path / f"c/{name}.srt", SRT.replace("Hello", name), end="")
    run("folder", tmp_path / "c", tmp_path / "out", "--cut", "1")
    assert skipped(tmp_path / "out")["c"] == "no transcript"
    both = rows(tmp_path / "out/train.tsv") + rows(tmp_path / "out/valid.tsv")
    assert all(row["tgt_text"] for row in both)
    run("folder", tmp_path / "c", tmp_path / "all", "--without-texts")
    both = rows(tmp_path / "all/train.tsv") + rows(tmp_path / "all/valid.tsv")
    assert {row["id"]: row["tgt_text"] for row in both} == {"a": "", "b": "", "c": ""}


def test_labels_of_audacity_are_segments(tmp_path):
    """The lines that begin with a backslash are the frequencies of a spectral selection."""
    make_audio(tmp_path / "c/a.wav", 3.0)
    labels = ["0.000000\t1.500000\tmoto wa", "\\\t100.5\t2000.0", "1.500000\t2.5\t", "2\t3\tmai"]
    text(tmp_path / "c/a.txt", *labels)
    make_audio(tmp_path / "c/b.wav", 1.0)
    text(tmp_path / "c/b.txt", "2\t3 is five")
    run("folder", tmp_path / "c", tmp_path / "out", "--valid-every", "0")
    found = {
        row["id"]: (row["tgt_text"], row["n_frames"]) for row in rows(tmp_path / "out/train.tsv")
    }
    assert found == {
        "a_0000": ("moto wa", "148"),
        "a_0002": ("mai", "98"),
        "b": ("2 3 is five", "98"),
    }
    assert skipped(tmp_path / "out") == {"a_0001": "empty transcript"}
    assert read_labels("1.0\t2.0\n") == [Cue(1.0, 2.0, "")]
    assert read_labels("") is read_labels("moto\n") is None


def test_names_in_another_form_of_unicode_belong_together(tmp_path):
    """As where one of the files comes from macOS."""
    make_audio(tmp_path / "c" / unicodedata.normalize("NFD", "été.wav"), 2.0)
    text(tmp_path / "c" / unicodedata.normalize("NFC", "été.txt"), "one")
    run("folder", tmp_path / "c", tmp_path / "out", "--valid-every", "0")
    assert [row["tgt_text"] for row in rows(tmp_path / "out/train.tsv")] == ["one"]
