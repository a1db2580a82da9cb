"""Recipes on miniatures of their releases, with the faults of real copies."""

import numpy as np
import pytest

from manifests.errors import InputError
from manifests.splits import is_held_out
from mmpt_fairseq.data.video import read_frames
from mmpt_fairseq.data.waveform import read_waveform
from tests.helpers import frame_number, noise, write_audio
from tests.manifests.corpora import (
    check_lengths,
    empty,
    m4a,
    make_audio,
    make_video,
    rows,
    run,
    skipped,
    text,
    truncated,
)
from tests.manifests.learning import learn_by_the_recipe, learn_to_reconstruct, learn_to_write


def test_librispeech(tmp_path):
    corpus = tmp_path / "LibriSpeech"
    chapter = corpus / "train-clean-100/19/198"
    for i, seconds in enumerate([1.0, 0.7, 0.5, 0.05]):
        make_audio(chapter / f"19-198-000{i}.flac", seconds, i)
    truncated(make_audio(chapter / "19-198-0004.flac", 1.0))
    empty(chapter / "19-198-0005.flac")
    make_audio(chapter / "19-198-0007.flac", 1.0)
    lines = [f"19-198-000{i} CAFE\u0301 NUMBER {i}" for i in range(6)] + ["19-198-0006 GONE"]
    lines[1] = "19-198-0001 "
    transcripts = text(chapter / "19-198.trans.txt", *lines, end="\r\n")
    make_audio(chapter / "19-198-0008.flac", 1.0)
    transcripts.write_bytes(transcripts.read_bytes() + b"19-198-0008 NA\xcfVE\n")
    test = corpus / "test-other/20/200"
    make_audio(test / "20-200-0000.flac", 1.0, 9)
    text(test / "20-200.trans.txt", "20-200-0000 SOMETHING ELSE")

    summary = run("librispeech", corpus, tmp_path / "out")
    train = rows(tmp_path / "out/train-clean-100.tsv")
    assert [r["id"] for r in train] == ["19-198-0000", "19-198-0002"]
    assert [r["tgt_text"] for r in train] == ["caf\u00e9 number 0", "caf\u00e9 number 2"]
    assert {r["speaker"] for r in train} == {"19"}
    assert [r["id"] for r in rows(tmp_path / "out/test-other.tsv")] == ["20-200-0000"]
    assert skipped(tmp_path / "out") == {
        "19-198-0001": "empty transcript",
        "19-198-0003": "too short",
        "19-198-0004": "unreadable",
        "19-198-0005": "unreadable",
        "19-198-0006": "missing file",
        "19-198-0007": "no transcript",
        "19-198-0008": "unreadable text",
    }
    assert summary["splits"]["train-clean-100"]["clips"] == 2
    check_lengths(tmp_path / "out/train-clean-100.tsv")
    learn_to_write(tmp_path / "out", "train-clean-100")


@pytest.fixture
def mustc(tmp_path):
    """An en-de pair of two talks at 44.1 kHz."""
    pair = tmp_path / "en-de"
    for split, talk in [("train", "ted_1"), ("tst-COMMON", "ted_9")]:
        folder = pair / "data" / split
        (folder / "wav").mkdir(parents=True)
        write_audio(folder / "wav" / f"{talk}.wav", noise(5, rate=44_100), 44_100)
        times = [(0.5, 1.25), (2.0, 0.5), (3.0, 2.04), (4.0, 9.0)]
        text(
            folder / "txt" / f"{split}.yaml",
            *(
                f"- {{duration: {d}, offset: {o}, rW: 3, speaker_id: spk.1, wav: {talk}.wav}}"
                for o, d in times
            ),
        )
        english = [
            "(Applause)",
            "Chris Anderson: I &amp; you\u2028too.",
            "Thank you. (Laughter)",
            "Past",
        ]
        german = ["(Applaus)", "Ich &amp; du", "Danke.", "Vorbei"]
        text(folder / "txt" / f"{split}.en", *english, end="\r\n")
        text(folder / "txt" / f"{split}.de", *german, end="\r\n")
    return pair


def test_mustc_reads_segments_from_the_talks(mustc, tmp_path):
    run("mustc", mustc, tmp_path / "out")
    train = rows(tmp_path / "out/train.tsv")
    assert [r["tgt_text"] for r in train] == ["(Applaus)", "Ich & du", "Danke."]
    assert train[1]["src_text"] == "Chris Anderson: I & you too."
    assert {(r["src_lang"], r["tgt_lang"]) for r in train} == {("en", "de")}
    wav = mustc / "data/train/wav/ted_1.wav"
    # The third ends 0.04 s after the talk, by rounding: it is cut there.
    expected = [(22050, 55125), (88200, 22050), (132300, 88200)]
    assert [r["audio"] for r in train] == [f"{wav}:{o}:{n}" for o, n in expected]
    assert skipped(tmp_path / "out") == {"ted_1_3": "past the end of its recording"} | {
        "ted_9_3": "past the end of its recording"
    }
    check_lengths(tmp_path / "out/tst-COMMON.tsv")
    learn_to_write(tmp_path / "out")


def test_mustc_transcripts_contain_only_speech(mustc, tmp_path):
    run("mustc", mustc, tmp_path / "out", "--task", "asr")
    train = rows(tmp_path / "out/train.tsv")
    assert [r["tgt_text"] for r in train] == ["I & you too.", "Thank you."]
    assert {r["tgt_lang"] for r in train} == {"en"}
    assert skipped(tmp_path / "out")["ted_1_0"] == "empty transcript"


def test_invalid_mustc_segments_are_left_out(mustc, tmp_path):
    path = mustc / "data/train/txt/train.yaml"
    lines = path.read_text().splitlines()
    lines[0], lines[2] = "- {duration: much, offset: 0, wav: ted_1.wav}", "- {dur"
    text(path, *lines)
    run("mustc", mustc, tmp_path / "out")
    assert [r["tgt_text"] for r in rows(tmp_path / "out/train.tsv")] == ["Ich & du"]
    reasons = skipped(tmp_path / "out")
    assert reasons["train.yaml, line 1"] == reasons["train.yaml, line 3"] == "unusable row"


def test_mustc_lists_of_different_lengths_are_refused(mustc, tmp_path):
    path = mustc / "data/train/txt/train.de"
    path.write_text(path.read_text() + "one more\n")
    lengths = r"differ in length \(train.yaml 4, train.en 4, train.de 5 lines\)"
    with pytest.raises(InputError, match=lengths):
        run("mustc", mustc, tmp_path / "out")
    with pytest.raises(InputError, match="give a folder such as"):
        run("mustc", mustc.parent, tmp_path / "out2")


def test_lrs3(tmp_path):
    corpus = tmp_path / "lrs3"
    clip = make_video(corpus / "pretrain/videoA/00001.mp4", 17.0)
    # The last word ends after the clip: its utterance ends with the clip, as in AV-HuBERT.
    words = ["AND 0.10 0.40 9.1", "THEN 0.50 0.90 8.0", "WE 1.50 1.80 7", "GO{NS} 1.90 17.60 7"]
    header = ["Text:  AND THEN WE GO{NS}", "Conf:  4", ""]
    text(clip.with_suffix(".txt"), *header, "WORD START END ASDSCORE", *words)
    short = make_video(corpus / "pretrain/videoA/00002.mp4", 1.0)
    text(short.with_suffix(".txt"), "Text:  SHORT", "Conf:  3", "WORD START END ASDSCORE")
    for split, video in [("trainval", "videoB"), ("test", "videoC")]:
        text(
            make_video(corpus / split / video / "00001.mp4").with_suffix(".txt"), "Text:  IT'S ONE"
        )
    make_video(corpus / "trainval/videoB/00002.mp4")
    text(
        make_video(corpus / "trainval/videoB/00003.mp4", silent=True).with_suffix(".txt"), "Text: A"
    )

    run("lrs3", corpus, tmp_path / "out", "--valid-every", "0")
    first, second, third = rows(tmp_path / "out/pretrain.tsv")
    # Half-way through the pause from 0.9 to 1.5 s.
    assert first["audio"] == f"{clip}:0:{round(1.2 * 16000)}"
    assert first["video"] == f"{clip}:0:30"
    assert first["tgt_text"] == "and then"
    assert second["audio"] == f"{clip}:19200:{len(read_waveform(str(clip))) - 19200}"
    assert second["video"] == f"{clip}:30:395"
    assert second["tgt_text"] == "we go"
    assert (third["id"], third["tgt_text"]) == ("pretrain/videoA/00002", "short")
    whole = read_waveform(str(clip))
    np.testing.assert_allclose(read_waveform(first["audio"]), whole[:19200], atol=1e-6)
    frames = read_frames(second["video"], np.array([0, 5]))
    assert [frame_number(p) for p in frames] == [30, 35]
    assert skipped(tmp_path / "out") == {
        "trainval/videoB/00002": "no transcript",
        "trainval/videoB/00003": "no audio track",
    }
    assert rows(tmp_path / "out/test.tsv")[0]["tgt_text"] == "it's one"
    check_lengths(tmp_path / "out/trainval.tsv")
    learn_to_reconstruct(tmp_path / "out", "pretrain")
    learn_to_write(tmp_path / "out", "pretrain")


def test_lrs3_holds_out_whole_videos(tmp_path):
    for video in ("a", "b", "c", "d", "e", "f"):
        for part in ("pretrain", "trainval"):
            path = make_video(tmp_path / "lrs3" / part / video / "00001.mp4", 0.5)
            text(path.with_suffix(".txt"), f"Text:  {video} {part}")
    run("lrs3", tmp_path / "lrs3", tmp_path / "out", "--valid-every", "3")
    found = {s: rows(tmp_path / f"out/{s}.tsv") for s in ("pretrain", "trainval", "valid")}
    videos = {split: {r["id"].split("/")[1] for r in table} for split, table in found.items()}
    assert videos["valid"]
    assert not videos["valid"] & (videos["pretrain"] | videos["trainval"])
    assert sum(map(len, found.values())) == 12
    learn_by_the_recipe(tmp_path / "out", "lrs3")


def test_voxceleb2(tmp_path):
    corpus = tmp_path / "vox2"
    make_video(corpus / "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4")
    make_video(corpus / "dev/mp4/id00012/21Uxsk56VDQ/00002.mp4", silent=True)
    m4a(corpus / "dev/aac/id00012/21Uxsk56VDQ/00002.m4a", 0.8)
    truncated(make_video(corpus / "dev/mp4/id00012/21Uxsk56VDQ/00003.mp4"))
    empty(corpus / "dev/mp4/id00012/21Uxsk56VDQ/00004.mp4")
    make_video(corpus / "dev/mp4/id00013/-x/00001.mp4", silent=True)
    make_video(corpus / "test/mp4/id00017/Ünïcode/00001.mp4")
    run("voxceleb2", corpus, tmp_path / "out", "--valid-every", "0")
    first, second = rows(tmp_path / "out/dev.tsv")
    assert first["audio"] == first["video"]
    assert second["audio"].endswith("aac/id00012/21Uxsk56VDQ/00002.m4a")
    assert (second["video_frames"], second["speaker"]) == ("25", "id00012")
    assert rows(tmp_path / "out/test.tsv")[0]["id"] == "id00017/Ünïcode/00001"
    assert skipped(tmp_path / "out") == {
        "id00012/21Uxsk56VDQ/00003": "unreadable",
        "id00012/21Uxsk56VDQ/00004": "unreadable",
        "id00013/-x/00001": "no audio track",
    }
    check_lengths(tmp_path / "out/dev.tsv")
    learn_to_reconstruct(tmp_path / "out", "dev")


def test_voxceleb2_audio_under_other_suffixes(tmp_path):
    for number, suffix in enumerate((".m4a", ".M4A", ".wav")):
        name = f"id00001/video{number}/00001"
        video = make_video(tmp_path / f"vox2/dev/mp4/{name}.mp4", 0.5, silent=True)
        audio = tmp_path / f"vox2/dev/aac/{name}{suffix}"
        if suffix == ".wav":
            make_audio(audio, 0.5)
        else:
            m4a(audio.with_suffix(".m4a"), 0.5).rename(audio)
    video.rename(video.with_suffix(".MP4"))
    run("voxceleb2", tmp_path / "vox2", tmp_path / "out", "--valid-every", "0")
    found = [row["audio"].rpartition(".")[2] for row in rows(tmp_path / "out/dev.tsv")]
    assert found == ["m4a", "M4A", "wav"]


def test_voxceleb2_shares_no_video_between_dev_and_valid(tmp_path):
    dev = tmp_path / "vox2/dev/mp4"
    names = [f"id{i:05d}" for i in range(40)]
    held = next(name for name in names if is_held_out(name, 3))
    other, third = [name for name in names if not is_held_out(name, 3)][:2]
    for clip in (f"{held}/vidX", f"{other}/vidX", f"{other}/vidY"):
        make_video(dev / clip / "00001.mp4", 0.5)
    make_video(tmp_path / f"vox2/test/mp4/{third}/vidY/00001.mp4", 0.5)
    # If the m4a is broken, the mp4's own audio is used.
    truncated(m4a(tmp_path / f"vox2/dev/aac/{other}/vidY/00001.m4a", 0.5), 0.3)
    summary = run("voxceleb2", tmp_path / "vox2", tmp_path / "out", "--valid-every", "3")
    [row] = rows(tmp_path / "out/dev.tsv")
    assert row["id"] == f"{other}/vidY/00001"
    assert row["audio"] == row["video"]
    assert [r["id"] for r in rows(tmp_path / "out/valid.tsv")] == [f"{held}/vidX/00001"]
    assert skipped(tmp_path / "out") == {f"{other}/vidX/00001": "video of a speaker held out"}
    # Videos shared by the official splits are counted, for any speaker.
    assert summary["leaks"]["source"]["examples"] == ["'vidY' in dev and test"]
    learn_by_the_recipe(tmp_path / "out", "voxceleb2")


def test_a_folder_beside_the_corpus_is_suggested(tmp_path):
    chapter = tmp_path / "downloads/LibriSpeech/dev-clean/19/198"
    make_audio(chapter / "19-198-0000.flac", 1.0)
    (tmp_path / "downloads/music").mkdir()
    for folder in (tmp_path / "downloads", chapter.parents[1]):
        with pytest.raises(InputError, match=r"found no clip in .*; give .*/LibriSpeech, which"):
            run("librispeech", folder, tmp_path / "out", "--restart")
    with pytest.raises(InputError, match=r"it expects: ``<split>/<speaker>/<chapter>/.*\. See"):
        run("librispeech", tmp_path / "downloads/music", tmp_path / "out", "--restart")


@pytest.mark.real_data
def test_real_librispeech(real_data, tmp_path):
    summary = run("librispeech", real_data / "librispeech/LibriSpeech", tmp_path / "out")
    assert summary["splits"]["test-other"]["speakers"] == 4
    assert summary["skipped"] == {}
    check_lengths(tmp_path / "out/test-clean.tsv")
    assert rows(tmp_path / "out/test-clean.tsv")[0]["id"] == "1089-134686-0000"
