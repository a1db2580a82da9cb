"""Any tree of recordings, with subtitles, texts or a table."""

import numpy as np
import pytest

from manifests.captions import Cue, read_cues
from manifests.common import CorpusError
from mmpt_fairseq.data.waveform import read_waveform
from tests.manifests.corpora import check_lengths, film, rows, run, skipped, sound, text

SRT = """\ufeff1
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
def test_cues(tmp_path, suffix, content, end):
    path = text(tmp_path / f"talk.{suffix}", content.replace("\n", end), end="")
    assert read_cues(path) == [
        Cue(0.5, 1.5, "Hello there you"),
        Cue(2.0, 2.5, "♪ (music) ♪"),
        Cue(2.6, 9.0, "Far too late"),
    ]


def test_subtitles_beside_videos(tmp_path):
    corpus = tmp_path / "my vidéos"
    for name in ("a", "b"):
        film(corpus / f"{name}.mp4", 3.0)
    text(corpus / "a.srt", SRT, end="")
    text(corpus / "a.de.srt", SRT.replace("Hello</i> there", "Hallo</i>"), end="")
    text(corpus / "b.txt", "One &lt;text&gt; of", "several lines")
    run("folder", corpus, tmp_path / "out", "--target-lang", "de", "--spoken")
    [segment] = rows(tmp_path / "out/train.tsv")
    assert segment["audio"] == f"{corpus / 'a.mp4'}:8000:16000"
    assert segment["video"] == f"{corpus / 'a.mp4'}:12:25"
    assert (segment["tgt_text"], segment["tgt_lang"]) == ("Hallo you", "de")
    whole = read_waveform(str(corpus / "a.mp4"))
    np.testing.assert_allclose(read_waveform(segment["audio"]), whole[8000:24000], atol=1e-6)
    [valid] = rows(tmp_path / "out/valid.tsv")
    assert (valid["id"], valid["tgt_text"]) == ("b", "One <text> of several lines")
    assert skipped(tmp_path / "out") == {
        "a_0001": "empty transcript",
        "a_0002": "past the end of its recording",
    }


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
    assert {r["speaker"] for r in rows(tmp_path / "out/train.tsv")} == {"ann", "ben"}
    assert {r["speaker"] for r in rows(tmp_path / "out/valid.tsv")} == {"cem"}


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
    run("folder", tmp_path / "corpus", tmp_path / "out", "--csv", str(path))
    first, second = rows(tmp_path / "out/train.tsv")
    assert (first["tgt_text"], first["speaker"]) == ("first part", "ann")
    assert second["audio"].endswith("wav/a.wav:24000:24000")
    assert skipped(tmp_path / "out") == {"wav/b": "missing file"}


def test_a_table_without_files_is_refused(tmp_path):
    (tmp_path / "corpus").mkdir()
    path = text(tmp_path / "clips.csv", "clip,text", "a.wav,b")
    with pytest.raises(CorpusError, match=r"clips.csv, row 1 names no file"):
        run("folder", tmp_path / "corpus", tmp_path / "out", "--csv", str(path))


def test_an_empty_folder_and_unusable_clips_are_told(tmp_path):
    (tmp_path / "corpus").mkdir()
    with pytest.raises(CorpusError, match="holds no clip"):
        run("folder", tmp_path / "corpus", tmp_path / "out")
    (tmp_path / "corpus/a.wav").write_bytes(b"no sound at all")
    with pytest.raises(CorpusError, match="the corpus has changed"):
        run("folder", tmp_path / "corpus", tmp_path / "out")
    with pytest.raises(CorpusError, match=r"not one clip .* \(1 unreadable\)"):
        run("folder", tmp_path / "corpus", tmp_path / "out", "--restart")


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
