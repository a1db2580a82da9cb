"""Folders of recordings, with or without text files beside them."""

import pytest

from manifests.errors import InputError
from manifests.folder import RECIPE
from manifests.prepare import main
from tests.manifests.corpora import check_lengths, make_audio, make_video, rows, run, skipped, text


def test_split_folders_separate_audio_files_and_pieces(tmp_path):
    corpus = tmp_path / "corpus"
    make_video(corpus / "train/x.mp4", 1.0)
    make_audio(corpus / "train/x.wav", 1.0)
    make_audio(corpus / "train/long.flac", 5.2)
    make_video(corpus / "train/mute.mp4", silent=True)
    make_audio(corpus / "dev/y.ogg", 1.0)
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


def test_folders_with_similar_names_are_splits(tmp_path, capsys):
    corpus = tmp_path / "corpus"
    for name in ("training", "testing", "test-other", "validation_2", "devices"):
        make_audio(corpus / name / "a.wav", 0.5)
    run("folder", corpus, tmp_path / "out")
    message = capsys.readouterr().err
    assert "the folder test-other is taken as test" in message
    assert "devices" not in message
    ids = {
        s: [r["id"] for r in rows(tmp_path / f"out/{s}.tsv")] for s in ("train", "valid", "test")
    }
    assert ids == {
        "train": ["devices/a", "training/a"],
        "valid": ["validation_2/a"],
        "test": ["test-other/a", "testing/a"],
    }


def test_the_last_pieces_of_a_single_recording_are_held_out(tmp_path):
    make_audio(tmp_path / "corpus/a.flac", 24.0)
    run("folder", tmp_path / "corpus", tmp_path / "out", "--cut", "2", "--valid-every", "5")
    train, valid = (rows(tmp_path / f"out/{split}.tsv") for split in ("train", "valid"))
    assert [r["id"] for r in train] == [f"a_{i:04d}" for i in range(10)]
    assert [r["id"] for r in valid] == ["a_0010", "a_0011"]


def test_a_long_recording_among_short_ones_stays_in_train(tmp_path):
    make_audio(tmp_path / "corpus/day.flac", 24.0)
    make_audio(tmp_path / "corpus/word.flac", 2.0)
    run("folder", tmp_path / "corpus", tmp_path / "out", "--cut", "2")
    assert [r["id"] for r in rows(tmp_path / "out/valid.tsv")] == ["word"]
    assert len(rows(tmp_path / "out/train.tsv")) == 12


def test_files_of_unknown_kinds_are_reported(tmp_path, capsys):
    make_audio(tmp_path / "corpus/a.flac", 1.0)
    for name in ("b.dss", "c.DSS", "notes.txt", "cover.jpg", ".hidden.dss"):
        (tmp_path / "corpus" / name).write_text("x")
    run("folder", tmp_path / "corpus", tmp_path / "out", "--without-texts")
    assert "ignored: files that are not audio or video by name: 2 .dss\n" in capsys.readouterr().err


@pytest.mark.parametrize("cut", ["nan", "0", "-1", "10s"])
def test_invalid_piece_lengths_are_refused(cut, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(RECIPE, [str(tmp_path), str(tmp_path / "out"), "--cut", cut])
    assert f"{cut} is not a number of seconds" in capsys.readouterr().err


def test_linked_folders_are_visited_once(tmp_path):
    make_audio(tmp_path / "elsewhere/deep/a.wav", 0.5)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/deep/back").symlink_to(tmp_path / "elsewhere")
    run("folder", tmp_path / "corpus", tmp_path / "out", "--valid-every", "0")
    assert [r["id"] for r in rows(tmp_path / "out/train.tsv")] == ["linked/deep/a"]


def test_speakers_are_held_out_whole(tmp_path):
    for speaker in ("ann", "ben", "cem"):
        for i in range(2):
            make_audio(tmp_path / f"corpus/{speaker}/{i}.wav", 0.5)
    run("folder", tmp_path / "corpus", tmp_path / "out", "--speaker", "folder")
    train, valid = speakers(tmp_path / "out/train.tsv"), speakers(tmp_path / "out/valid.tsv")
    assert not train & valid
    assert train
    assert valid
    assert train | valid == {"ann", "ben", "cem"}


def speakers(path):
    return {row["speaker"] for row in rows(path)}


def test_the_last_cues_of_a_single_video_are_held_out(tmp_path):
    make_video(tmp_path / "c/a.mp4", 4.0)
    cue = "{0}\n00:00:0{0}.000 --> 00:00:0{1}.000\nThank you very much\n"
    text(tmp_path / "c/a.vtt", "WEBVTT", *(cue.format(i, i + 1) for i in range(4)))
    run("folder", tmp_path / "c", tmp_path / "out")
    assert [r["id"] for r in rows(tmp_path / "out/train.tsv")] == ["a_0000", "a_0001", "a_0002"]
    assert [r["id"] for r in rows(tmp_path / "out/valid.tsv")] == ["a_0003"]


def test_a_missing_split_is_warned_of(tmp_path, capsys):
    text(make_video(tmp_path / "c/a.mp4", 2.0).with_suffix(".txt"), "all of it")
    main(RECIPE, [str(tmp_path / "c"), str(tmp_path / "out"), "--jobs", "1"])
    assert "there is no valid.tsv" in capsys.readouterr().err
    assert len(rows(tmp_path / "out/train.tsv")) == 1
    main(RECIPE, [str(tmp_path / "c"), str(tmp_path / "two"), "--valid-every", "0"])
    assert "there is no valid.tsv" not in capsys.readouterr().err
    text(make_video(tmp_path / "d/valid/a.mp4", 2.0).with_suffix(".txt"), "all of it")
    main(RECIPE, [str(tmp_path / "d"), str(tmp_path / "three"), "--jobs", "1"])
    assert "there is no train.tsv" in capsys.readouterr().err


def test_a_phrase_shared_by_videos_is_counted_not_refused(tmp_path):
    for name in "abc":
        make_video(tmp_path / f"c/{name}.mp4", 1.0)
        cue = "00:00:00,000 --> 00:00:01,000"
        text(tmp_path / f"c/{name}.srt", "1", cue, "Thank you very much")
    summary = run("folder", tmp_path / "c", tmp_path / "out")
    assert summary["leaks"]["sentence"]["count"] == 1
    assert summary["splits"].keys() == {"train", "valid"}


def test_missing_texts_are_reported(tmp_path, capsys):
    """So that the user learns of it before stage 2 fails."""
    for name in "ab":
        make_audio(tmp_path / f"corpus/{name}.wav", 0.5)
    path = text(tmp_path / "clips.csv", "file,what is said", "a.wav,yes", "b.wav,no")
    main(RECIPE, [str(tmp_path / "corpus"), str(tmp_path / "table"), "--csv", str(path)])
    message = capsys.readouterr().err
    assert "no clip has a text: only stage 1 can train on these clips" in message
    assert "clips.csv is called text, tgt_text" in message
    main(RECIPE, [str(tmp_path / "corpus"), str(tmp_path / "folder")])
    assert "only stage 1 can train on these clips\n" in capsys.readouterr().err
    main(RECIPE, [str(tmp_path / "corpus"), str(tmp_path / "all"), "--without-texts"])
    assert "no clip has a text" not in capsys.readouterr().err


def test_an_empty_folder_and_unusable_clips_are_reported(tmp_path):
    (tmp_path / "corpus").mkdir()
    with pytest.raises(InputError, match=r"folder found no clip in .*corpus; it expects"):
        run("folder", tmp_path / "corpus", tmp_path / "out")
    (tmp_path / "corpus/a.wav").write_bytes(b"no sound at all")
    # After a run without clips no --restart is needed.
    with pytest.raises(InputError, match=r"not one clip .* \(1 unreadable\)"):
        run("folder", tmp_path / "corpus", tmp_path / "out")


def test_misplaced_files_and_times_in_other_units_are_reported(tmp_path):
    make_audio(tmp_path / "corpus/tapes/a.ogg", 1.0)
    table = text(tmp_path / "t.csv", "file,text", "a.wav,b")
    with pytest.raises(InputError, match=r"there is no .*corpus/a.wav, but .*/tapes/a.ogg\)"):
        run("folder", tmp_path / "corpus", tmp_path / "out", "--csv", str(table))
    for i, row in enumerate(["a.ogg,0:00,0:01,b", "a.ogg,300,900,b"]):
        table = text(tmp_path / f"{i}.csv", "file,start,end,text", row)
        with pytest.raises(InputError, match="times must be in seconds"):
            run("folder", tmp_path / "corpus/tapes", tmp_path / f"o{i}", "--csv", str(table))


def test_plain_removes_case_and_punctuation_and_a_dev_split_is_reported(tmp_path, capsys):
    for name in "ab":
        make_audio(tmp_path / f"corpus/{name}.wav", 1.0)
    lines = ["a.wav,(Oh) It’s me!,train", "b.wav,Who?,dev"]
    table = text(tmp_path / "t.csv", "file,text,split", *lines)
    options = ["--csv", str(table), "--plain", "--spoken"]
    main(RECIPE, [str(tmp_path / "corpus"), str(tmp_path / "out"), *options])
    assert [row["tgt_text"] for row in rows(tmp_path / "out/train.tsv")] == ["it's me"]
    assert "dataset.valid_subset=dev" in capsys.readouterr().err


@pytest.mark.real_data
def test_real_damaged_clips_are_left_out(real_data, tmp_path):
    with pytest.raises(InputError, match="14 unreadable"):
        run("folder", real_data / "broken", tmp_path / "out", "--valid-every", "0")


@pytest.mark.real_data
def test_real_talking_faces_have_exact_lengths(real_data, tmp_path):
    for path in sorted((real_data / "grid/video").glob("*.mp4"))[:6]:
        (tmp_path / path.name).symlink_to(path)
    for path in (real_data / "grid/original").glob("*.mpg"):
        (tmp_path / path.name).symlink_to(path)
        break
    run("folder", tmp_path, tmp_path / "out", "--valid-every", "0")
    check_lengths(tmp_path / "out/train.tsv")
    assert {r["video_frames"] for r in rows(tmp_path / "out/train.tsv")} == {"75"}
