"""Any tree of recordings, with subtitles, texts or a table."""

import json

import numpy as np
import pytest

from manifests.captions import Cue, read_cues
from manifests.common import CorpusError
from manifests.folder import RECIPE
from manifests.prepare import main
from mmpt_fairseq.data.waveform import read_waveform
from tests.manifests.corpora import check_lengths, film, rows, run, skipped, sound, text

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
def test_cues(suffix, content, end):
    assert list(read_cues(content.replace("\n", end))) == [
        Cue(0.5, 1.5, "Hello there\nyou"),
        Cue(2.0, 2.5, "♪ (music) ♪"),
        Cue(2.6, 9.0, "Far too late"),
    ]


def test_cues_whose_times_are_rounded():
    cues = "1\n00:00:01,5 --> 00:00:02,05\nOne\n\n2\n00:00:03.00 --> 00:00:04.5\nTwo\n"
    assert list(read_cues(cues)) == [Cue(1.5, 2.05, "One"), Cue(3, 4.5, "Two")]


def test_cues_that_no_blank_line_parts():
    cues = "1\n00:00:00,000 --> 00:00:01,000\nOne\n2\n00:00:01,000 --> 00:00:02,000\n2\nTwo\n"
    assert list(read_cues(cues)) == [Cue(0, 1, "One"), Cue(1, 2, "2\nTwo")]


def test_cues_with_blank_lines_within():
    """As some SubRip files have; in WebVTT they end a cue."""
    cues = (
        "1\n00:00:00,000 --> 00:00:01,000\nOne\n\nmore\n\n2\n00:00:01,000 --> 00:00:02,000\n\nTwo"
    )
    assert list(read_cues(cues)) == [Cue(0, 1, "One\nmore"), Cue(1, 2, "Two")]
    count = (f"00:00:0{i},000 --> 00:00:0{i},900\n{text}\n\n" for i, text in enumerate(("10", "9")))
    assert [cue.text for cue in read_cues("".join(count))] == ["10", "9"]  # no numbers of cues
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


def test_cues_that_roll():
    """As YouTube's automatic ones: what still stands there from before is not said again."""
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
def test_subtitles_of_any_encoding(tmp_path, capsys, encoding, mark, note):
    film(tmp_path / "c/a.mp4", 3.0)
    subtitles = mark + SRT.replace("Hello</i> there", "Café</i>,")
    (tmp_path / "c/a.SRT").write_bytes(subtitles.encode(encoding, "ignore"))
    run("folder", tmp_path / "c", tmp_path / "out", "--valid-every", "0")
    assert rows(tmp_path / "out/train.tsv")[0]["tgt_text"] == "Café, you"
    assert note in capsys.readouterr().err


def test_subtitles_without_use_are_told(tmp_path):
    for name in "abcd":
        film(tmp_path / f"c/{name}.mp4", 1.0)
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


def test_subtitles_of_a_language_that_was_not_named(tmp_path, capsys):
    film(tmp_path / "c/a.mp4", 2.0)
    text(tmp_path / "c/a.en.srt", SRT, end="")
    run("folder", tmp_path / "c", tmp_path / "out")
    assert "a.en.srt is left alone; take it with --target-lang en" in capsys.readouterr().err


def test_subtitles_beside_videos(tmp_path, capsys):
    corpus = tmp_path / "my vidéos"
    for name in ("a", "b"):
        film(corpus / f"{name}.mp4", 3.0)
    text(corpus / "a.srt", SRT, end="")
    text(corpus / "a.de.srt", SRT.replace("Hello</i> there", "Hallo</i>"), end="")
    text(corpus / "b.txt", "One &lt;text&gt; of", "several lines")
    run("folder", corpus, tmp_path / "out", "--target-lang", "de", "--spoken")
    told = capsys.readouterr().err
    assert (
        "b.txt names no language and is taken for de, as all like it are, beside a.de.srt" in told
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
    """By times: the translator left out a cue and moved none."""
    film(tmp_path / "c/a.mp4", 3.0)
    text(tmp_path / "c/a.srt", SRT, end="")
    text(tmp_path / "c/a.de.srt", SRT.replace("Hello</i> there", "Hallo</i>"), end="")
    languages = ("--target-lang", "de", "--source-lang", "en", "--valid-every", "0")
    run("folder", tmp_path / "c", tmp_path / "out", *languages)
    [first, second] = rows(tmp_path / "out/train.tsv")
    assert (first["src_text"], first["tgt_text"]) == ("Hello there you", "Hallo you")
    assert (first["src_lang"], first["tgt_lang"]) == ("en", "de")
    assert second["src_text"] == second["tgt_text"] == "♪ (music) ♪"


def test_a_film_without_texts_among_others(tmp_path):
    """What was never transcribed is neither learnt nor scored as if nothing were said there."""
    for name in ("a", "b", "c"):
        film(tmp_path / f"c/{name}.mp4", 3.0, seed=ord(name))
    for name in ("a", "b"):
        text(tmp_path / f"c/{name}.srt", SRT.replace("Hello", name), end="")
    run("folder", tmp_path / "c", tmp_path / "out", "--cut", "1")
    assert skipped(tmp_path / "out")["c"] == "no transcript"
    both = rows(tmp_path / "out/train.tsv") + rows(tmp_path / "out/valid.tsv")
    assert all(row["tgt_text"] for row in both)
    run("folder", tmp_path / "c", tmp_path / "all", "--without-texts")
    both = rows(tmp_path / "all/train.tsv") + rows(tmp_path / "all/valid.tsv")
    assert {row["id"]: row["tgt_text"] for row in both} == {"a": "", "b": "", "c": ""}


def test_split_folders_sound_beside_pictures_and_pieces(tmp_path):
    corpus = tmp_path / "corpus"
    film(corpus / "train/x.mp4", 1.0)
    sound(corpus / "train/x.wav", 1.0)
    sound(corpus / "train/long.flac", 5.2)
    film(corpus / "train/mute.mp4", silent=True)
    sound(corpus / "dev/y.ogg", 1.0)
    run("folder", corpus, tmp_path / "out", "--cut", "2")
    train = {r["id"]: r for r in rows(tmp_path / "out/train.tsv")}
    assert list(train) == ["train/long_0000", "train/long_0001", "train/long_0002", "train/x"]
    assert train["train/x"]["audio"].endswith("x.wav")
    assert train["train/x"]["video"].endswith("x.mp4")
    offsets = [r["audio"].rsplit(":", 2)[1:] for r in list(train.values())[:3]]
    assert sum(int(length) for _, length in offsets) == pytest.approx(5.2 * 16000, abs=2)
    assert [r["id"] for r in rows(tmp_path / "out/valid.tsv")] == ["dev/y"]
    assert skipped(tmp_path / "out") == {"train/mute": "no audio track"}
    check_lengths(tmp_path / "out/train.tsv")


def test_of_a_single_recording_in_pieces_the_end_is_held_out(tmp_path):
    sound(tmp_path / "corpus/a.flac", 24.0)
    run("folder", tmp_path / "corpus", tmp_path / "out", "--cut", "2", "--valid-every", "5")
    train, valid = (rows(tmp_path / f"out/{split}.tsv") for split in ("train", "valid"))
    assert [r["id"] for r in train] == [f"a_{i:04d}" for i in range(10)]
    assert [r["id"] for r in valid] == ["a_0010", "a_0011"]


def test_a_long_recording_among_short_ones_stays_in_train(tmp_path):
    sound(tmp_path / "corpus/day.flac", 24.0)
    sound(tmp_path / "corpus/word.flac", 2.0)
    run("folder", tmp_path / "corpus", tmp_path / "out", "--cut", "2")
    assert [r["id"] for r in rows(tmp_path / "out/valid.tsv")] == ["word"]
    assert len(rows(tmp_path / "out/train.tsv")) == 12


def test_of_two_texts_one_is_chosen_and_what_is_not_used_is_told(tmp_path, capsys):
    for name in "ab":
        sound(tmp_path / f"corpus/{name}.wav", 2.0)
    header = "file,start,stop,transcript,translation,split"
    lines = ["a.wav,0,1,moto,feu,train", "b.wav,0,1,mai,eau,valid"]
    table = str(text(tmp_path / "t.csv", header, *lines))
    arguments = [str(tmp_path / "corpus"), str(tmp_path / "out"), "--csv", table]
    assert main(RECIPE, arguments) == 1
    told = capsys.readouterr().err
    assert "has the columns translation and transcript" in told
    assert "--text-column transcript" in told
    run("folder", *arguments, "--text-column", "transcript")
    assert "no use for the column stop; known are file" in capsys.readouterr().err
    assert rows(tmp_path / "out/train.tsv")[0]["tgt_text"] == "moto"
    run("folder", *arguments, "--text-column", "translation", "--restart")
    [row] = rows(tmp_path / "out/train.tsv")
    assert (row["src_text"], row["tgt_text"]) == ("moto", "feu")
    assert main(RECIPE, [*arguments, "--text-column", "words", "--restart"]) == 1
    assert "has no column words; it has file, start" in capsys.readouterr().err


def test_a_table_that_is_not_utf_8_is_told(tmp_path, capsys):
    sound(tmp_path / "corpus/a.wav", 1.0)
    (tmp_path / "t.csv").write_bytes("file,text\na.wav,привет\n".encode("cp1251"))
    table = ["--csv", str(tmp_path / "t.csv")]
    run("folder", tmp_path / "corpus", tmp_path / "out", *table, "--encoding", "cp1251")
    assert "is read as cp1251, not UTF-8" in capsys.readouterr().err


def test_files_of_unknown_kinds_are_told(tmp_path, capsys):
    sound(tmp_path / "corpus/a.flac", 1.0)
    for name in ("b.dss", "c.DSS", "notes.txt", "cover.jpg", ".hidden.dss"):
        (tmp_path / "corpus" / name).write_text("x")
    run("folder", tmp_path / "corpus", tmp_path / "out", "--without-texts")
    assert "no sound or video by name are left alone: 2 .dss\n" in capsys.readouterr().err


@pytest.mark.parametrize("cut", ["nan", "0", "-1"])
def test_pieces_that_cannot_be_are_refused(cut, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(RECIPE, [str(tmp_path), str(tmp_path / "out"), "--cut", cut])
    assert f"{cut} is no length in seconds" in capsys.readouterr().err


def test_linked_folders_are_walked_once(tmp_path):
    sound(tmp_path / "elsewhere/deep/a.wav", 0.5)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/deep/back").symlink_to(tmp_path / "elsewhere")
    run("folder", tmp_path / "corpus", tmp_path / "out", "--valid-every", "0")
    assert [r["id"] for r in rows(tmp_path / "out/train.tsv")] == ["linked/deep/a"]


def test_speakers_are_held_out_whole(tmp_path):
    for speaker in ("ann", "ben", "cem"):
        for i in range(2):
            sound(tmp_path / f"corpus/{speaker}/{i}.wav", 0.5)
    run("folder", tmp_path / "corpus", tmp_path / "out", "--speaker", "folder")
    train, valid = speakers(tmp_path / "out/train.tsv"), speakers(tmp_path / "out/valid.tsv")
    assert not train & valid
    assert train
    assert valid
    assert train | valid == {"ann", "ben", "cem"}


def speakers(path):
    return {row["speaker"] for row in rows(path)}


def test_of_a_single_film_the_last_cues_are_held_out(tmp_path):
    film(tmp_path / "c/a.mp4", 4.0)
    cue = "{0}\n00:00:0{0}.000 --> 00:00:0{1}.000\nThank you very much\n"
    text(tmp_path / "c/a.vtt", "WEBVTT", *(cue.format(i, i + 1) for i in range(4)))
    run("folder", tmp_path / "c", tmp_path / "out")
    assert [r["id"] for r in rows(tmp_path / "out/train.tsv")] == ["a_0000", "a_0001", "a_0002"]
    assert [r["id"] for r in rows(tmp_path / "out/valid.tsv")] == ["a_0003"]


def test_nothing_to_validate_on_is_warned_of(tmp_path, capsys):
    text(film(tmp_path / "c/a.mp4", 2.0).with_suffix(".txt"), "all of it")
    assert main(RECIPE, [str(tmp_path / "c"), str(tmp_path / "out"), "--jobs", "1"]) == 0
    assert "there is no valid.tsv" in capsys.readouterr().err
    assert len(rows(tmp_path / "out/train.tsv")) == 1
    assert main(RECIPE, [str(tmp_path / "c"), str(tmp_path / "two"), "--valid-every", "0"]) == 0
    assert "there is no valid.tsv" in capsys.readouterr().err
    text(film(tmp_path / "d/valid/a.mp4", 2.0).with_suffix(".txt"), "all of it")
    assert main(RECIPE, [str(tmp_path / "d"), str(tmp_path / "three"), "--jobs", "1"]) == 0
    assert "there is no train.tsv" in capsys.readouterr().err


def test_films_that_share_a_phrase(tmp_path):
    for name in "abc":
        film(tmp_path / f"c/{name}.mp4", 1.0)
        cue = "00:00:00,000 --> 00:00:01,000"
        text(tmp_path / f"c/{name}.srt", "1", cue, "Thank you very much")
    summary = run("folder", tmp_path / "c", tmp_path / "out")
    assert summary["leaks"]["sentence"]["count"] == 1
    assert summary["splits"].keys() == {"train", "valid"}


def table(path, header, *lines):
    return str(text(path, header, *lines))


def test_rows_of_no_use_are_left_out(tmp_path):
    for name in "ab":
        sound(tmp_path / f"c/{name}.wav", 1.0)
    lines = ["a.wav,good,,", "a.wav,,,", "", ",no file,,", "a.wav,odd,x,2", "b.wav,good,,,"]
    lines += ["b.wav,one,,,two"]
    path = table(tmp_path / "t.csv", "file,text,start,end", *lines)
    run("folder", tmp_path / "c", tmp_path / "out", "--csv", path, "--valid-every", "0")
    assert [r["id"] for r in rows(tmp_path / "out/train.tsv")] == ["a", "b"]
    told = (tmp_path / "out/skipped.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[3] for line in told] == [
        "empty transcript",
        "unusable row",
        "unusable times",
        "unusable row",
    ]
    assert "t.csv, line 5\t" in told[1]
    assert "t.csv, line 8\t" in told[3]
    assert "more cells than the header" in told[3]


def test_a_file_under_two_spellings_is_one(tmp_path):
    sound(tmp_path / "c/wav/a.wav", 1.0)
    lines = ["wav/a.wav,good", "wav/../wav/a.wav,again", "../c/wav/a.wav,again"]
    path = table(tmp_path / "t.csv", "file,text", *lines)
    run("folder", tmp_path / "c", tmp_path / "out", "--csv", path, "--valid-every", "0")
    assert [r["id"] for r in rows(tmp_path / "out/train.tsv")] == ["wav/a"]
    assert skipped(tmp_path / "out") == {"wav/a": "duplicate id"}


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"file,text\na.wav,caf\x81", "t.csv is not cp1252 text; save it as UTF-8"),
        (b'file,text\na.wav,b\na.wav,"' + b"x" * 200_000, "t.csv, behind line 2: .*a quote open"),
    ],
)
def test_tables_that_are_none(tmp_path, data, complaint):
    sound(tmp_path / "c/a.wav", 1.0)
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(CorpusError, match=complaint):
        run("folder", tmp_path / "c", tmp_path / "out", "--csv", str(tmp_path / "t.csv"))


def test_a_table_in_another_encoding(tmp_path):
    sound(tmp_path / "c/a.wav", 1.0)
    (tmp_path / "t.csv").write_bytes("file;text\na.wav;naïve".encode("cp1252"))
    run("folder", tmp_path / "c", tmp_path / "out", "--csv", str(tmp_path / "t.csv"))
    assert rows(tmp_path / "out/train.tsv")[0]["tgt_text"] == "naïve"


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_a_table(tmp_path, delimiter):
    sound(tmp_path / "corpus/wav/a.wav", 3.0)
    table = [
        ["file", "transcript", "speaker", "split", "start", "end"],
        ["wav/a.wav", "first part", "ann", "train", "0", "1.5"],
        ["wav/a.wav", "second part", "ann", "train", "1.5", "3.0"],
        ["wav/b.wav", "gone", "ben", "test", "", ""],
    ]
    path = text(tmp_path / "clips.csv", *(delimiter.join(cells) for cells in table), end="\r\n")
    options = ["--csv", str(path), "--valid-every", "0"]
    run("folder", tmp_path / "corpus", tmp_path / "out", *options)
    first, second = rows(tmp_path / "out/train.tsv")
    assert (first["tgt_text"], first["speaker"]) == ("first part", "ann")
    assert second["audio"].endswith("wav/a.wav:24000:24000")
    assert skipped(tmp_path / "out") == {"wav/b": "missing file"}


def test_a_spreadsheets_table(tmp_path, capsys):
    """Its delimiter in a line of its own, and decimal commas; what is no number is quoted."""
    sound(tmp_path / "corpus/a.wav", 3.0)
    lines = ["sep=;", "file;start;end;text", "a.wav;0,00;1,5;one, two", "a.wav;1,5;x;no"]
    path = text(tmp_path / "clips.csv", *lines)
    run("folder", tmp_path / "corpus", tmp_path / "out", "--csv", str(path), "--valid-every", "0")
    [row] = rows(tmp_path / "out/train.tsv")
    assert (row["audio"][-8:], row["tgt_text"]) == (":0:24000", "one, two")
    assert "'x' is not a number" in (tmp_path / "out/skipped.tsv").read_text()


def test_a_table_of_tabs_whose_cells_are_all_quoted(tmp_path):
    sound(tmp_path / "corpus/a.wav", 1.0)
    path = text(tmp_path / "t.tsv", '"file"\t"text"', '"a.wav"\t"yes"')
    run("folder", tmp_path / "corpus", tmp_path / "out", "--csv", str(path), "--valid-every", "0")
    assert [r["tgt_text"] for r in rows(tmp_path / "out/train.tsv")] == ["yes"]


@pytest.mark.parametrize(
    ("cell", "other", "expected"),
    [
        ('"he said ""hi"" there"', "plain", 'he said "hi" there'),
        ('"he said ""hi"" there"', '"so" he said', '"he said ""hi"" there"'),
        ('"what was said"', "plain", '"what was said"'),
    ],
)
def test_quotes_in_a_table_of_tabs(tmp_path, cell, other, expected):
    """Taken off where all that are there are a spreadsheet's; Common Voice has some in texts."""
    for name in "ab":
        sound(tmp_path / f"corpus/{name}.wav", 1.0)
    path = text(tmp_path / "t.tsv", "path\tsentence", f"a.wav\t{cell}", f"b.wav\t{other}")
    run("folder", tmp_path / "corpus", tmp_path / "out", "--csv", str(path), "--valid-every", "0")
    assert [r["tgt_text"] for r in rows(tmp_path / "out/train.tsv")] == [expected, other]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"file": "./", "text": "x"}, "./ is a folder"),
        ({"file": "x/../..", "text": "x"}, "x/../.. is a folder"),
        ({"file": "clips/", "text": "x"}, "clips/ is a folder"),
        ({"file": ".", "id": "x", "text": "x"}, ". is a folder"),
        ({"file": "a.wav", "text": ["x", "y"]}, "its text holds several values"),
    ],
)
def test_a_row_that_cannot_be_used_stops_no_other(tmp_path, row, fault):
    sound(tmp_path / "corpus/a.wav", 1.0)
    lines = [json.dumps(r) for r in ({"file": "a.wav", "text": "yes"}, row)]
    path = text(tmp_path / "t.jsonl", *lines)
    run("folder", tmp_path / "corpus", tmp_path / "out", "--csv", str(path), "--valid-every", "0")
    assert [r["tgt_text"] for r in rows(tmp_path / "out/train.tsv")] == ["yes"]
    assert fault in (tmp_path / "out/skipped.tsv").read_text()


def test_a_table_without_files_is_refused(tmp_path):
    (tmp_path / "corpus").mkdir()
    path = text(tmp_path / "clips.csv", "clip,text", "a.wav,b")
    with pytest.raises(CorpusError, match=r"clips.csv, line 2 names no file"):
        run("folder", tmp_path / "corpus", tmp_path / "out", "--csv", str(path))


def test_clips_without_texts_are_told(tmp_path, capsys):
    """Before someone looks for what stage 2 says that it lacks."""
    for name in "ab":
        sound(tmp_path / f"corpus/{name}.wav", 0.5)
    path = text(tmp_path / "clips.csv", "file,what is said", "a.wav,yes", "b.wav,no")
    main(RECIPE, [str(tmp_path / "corpus"), str(tmp_path / "table"), "--csv", str(path)])
    told = capsys.readouterr().err
    assert "no clip has a text: stage 1 can learn from these, no other" in told
    assert "clips.csv is called text, tgt_text" in told
    main(RECIPE, [str(tmp_path / "corpus"), str(tmp_path / "folder")])
    assert "no clip has a text: stage 1 can learn from these, no other\n" in capsys.readouterr().err
    main(RECIPE, [str(tmp_path / "corpus"), str(tmp_path / "all"), "--without-texts"])
    assert "no clip has a text" not in capsys.readouterr().err


def test_an_empty_folder_and_unusable_clips_are_told(tmp_path):
    (tmp_path / "corpus").mkdir()
    with pytest.raises(CorpusError, match=r"folder found no clip in .*corpus; it reads"):
        run("folder", tmp_path / "corpus", tmp_path / "out")
    (tmp_path / "corpus/a.wav").write_bytes(b"no sound at all")
    # Where nothing had been found, nothing has to be forgotten.
    with pytest.raises(CorpusError, match=r"not one clip .* \(1 unreadable\)"):
        run("folder", tmp_path / "corpus", tmp_path / "out")


@pytest.mark.real_data
def test_clips_damaged_in_the_wild(real_data, tmp_path):
    with pytest.raises(CorpusError, match="14 unreadable"):
        run("folder", real_data / "broken", tmp_path / "out", "--valid-every", "0")


@pytest.mark.real_data
def test_real_talking_faces(real_data, tmp_path):
    for path in sorted((real_data / "grid/video").glob("*.mp4"))[:6]:
        (tmp_path / path.name).symlink_to(path)
    for path in (real_data / "grid/original").glob("*.mpg"):
        (tmp_path / path.name).symlink_to(path)
        break
    run("folder", tmp_path, tmp_path / "out", "--valid-every", "0")
    check_lengths(tmp_path / "out/train.tsv")
    assert {r["video_frames"] for r in rows(tmp_path / "out/train.tsv")} == {"75"}
