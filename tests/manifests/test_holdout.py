"""What is held out for ``valid`` if the corpus has no validation split."""

import numpy as np
import pytest

from manifests.errors import InputError
from manifests.holdout import RecordingsHeldOut, SpeakersHeldOut, hold_out
from tests.manifests.corpora import check_lengths, make_audio, rows, run, text


def equal(names):
    """Recordings of equal size."""
    return lambda: ((name, 1) for name in names)


@pytest.mark.parametrize("seed", range(20))
def test_a_recording_that_dominates_is_not_held_out(seed):
    """For any names; of two recordings, the smaller one is held out."""
    rng = np.random.default_rng(seed)
    names = [f"{rng.integers(1 << 30)}" for _ in range(9)]
    parts = [(names[0], 50)] * 4 + [(name, 10) for name in names[1:]]
    rng.shuffle(parts)
    held = RecordingsHeldOut(lambda: parts, 3)
    found = {name for name in names if name in held}
    assert found
    assert names[0] not in found
    two = RecordingsHeldOut(lambda: [(names[0], 600), (names[1], 3)], 20)
    assert [name in two for name in names[:2]] == [False, True]
    alike = RecordingsHeldOut(lambda: [(names[0], 3), (names[1], 3)] * 50, 20)
    assert sum(name in alike for name in names[:2]) == 1


def test_adding_clips_hardly_changes_what_is_held_out():
    names = [f"clip {i}" for i in range(2000)]
    few, many = RecordingsHeldOut(equal(names[:1000]), 20), RecordingsHeldOut(equal(names), 20)
    assert 20 < sum(name in few for name in names[:1000]) < 100
    assert sum((name in few) != (name in many) for name in names[:1000]) <= 2
    assert [name for name in "ab" if name in RecordingsHeldOut(equal("ab"), 20)] in (["a"], ["b"])
    assert "a" not in RecordingsHeldOut(equal("aaa"), 20)
    assert not any(name in RecordingsHeldOut(equal(names), 0) for name in names)


@pytest.mark.parametrize(
    ("clips", "every", "expected"),
    [
        ({"ann": 70, "ben": 25, "cem": 3, "dan": 2}, 20, {"cem", "dan"}),
        (
            {"ann": 70, "ben": 27, "cem": 3},
            20,
            {"cem"},
        ),  # below the target, because the next is far above it
        ({"ann": 2, "ben": 2, "cem": 2}, 20, 1),
        ({"ann": 72, "ben": 28}, 2, {"ben"}),
        ({"ann": 60, "ben": 40}, 20, set()),
        ({"ann": 9}, 20, set()),
        ({"ann": 1, "ben": 9}, 0, set()),
        ({}, 20, set()),
    ],
)
def test_the_smallest_speakers_are_held_out(clips, every, expected):
    held = SpeakersHeldOut([who for who, n in clips.items() for _ in range(n)], every)
    found = {who for who in clips if who in held}
    assert (len(found) if isinstance(expected, int) else found) == expected
    assert held.possible == bool(expected)


def test_recordings_are_held_out_if_any_speaker_is_too_large():
    recordings = [f"clip {i}" for i in range(200)]
    assert hold_out(["ann"] * 190 + ["ben"] * 10, equal(recordings), 20).by_speaker
    held = hold_out(["ann"] * 100 + ["ben"] * 100, equal(recordings), 20)
    assert not held.by_speaker
    assert 1 <= sum(name in held for name in recordings) < 30
    assert not hold_out(None, equal(recordings), 20).by_speaker


@pytest.mark.parametrize("tapes", [2, 3, 5])
def test_the_ends_of_few_long_recordings_are_held_out(tmp_path, tapes):
    """Whole ones would take a fifth to a half; with a table, with subtitles, cut into pieces."""
    lines = []
    cues = [f"{i}\n00:00:{i:02}.000 --> 00:00:{i + 1:02}.000\nsaid {i}\n" for i in range(12)]
    for tape in range(tapes):
        make_audio(tmp_path / f"c/{tape}.wav", 12.0)
        make_audio(tmp_path / f"d/{tape}.wav", 12.0)
        text(tmp_path / f"d/{tape}.vtt", "WEBVTT", *cues)
        lines += [f"{tape}.wav,{i},{i + 1},a" for i in range(12)]
    table = str(text(tmp_path / "t.csv", "file,start,end,text", *lines))
    arguments = [("c", "--csv", table), ("c", "--cut", "1"), ("d",)]
    for number, (folder, *options) in enumerate(arguments):
        summary = run("folder", tmp_path / folder, tmp_path / f"out{number}", *options)
        clips = {split: found["clips"] for split, found in summary["splits"].items()}
        assert clips["train"] + clips["valid"] == 12 * tapes
        assert 1 <= clips["valid"] <= tapes


@pytest.mark.parametrize(("tapes", "clips"), [(11, 2), (5, 4), (7, 3), (2, 2)])
def test_whole_recordings_are_held_out_if_the_ends_are_no_smaller(tapes, clips):
    """For any names, and so for any number of recordings chosen by the hash."""
    for seed in range(20):
        names = [f"{seed} {i}" for i in range(tapes)]
        held = RecordingsHeldOut(equal(names), 20, lambda names=names: ((n, clips) for n in names))
        whole = RecordingsHeldOut(equal(names), 20)
        drawn = [sum(name in parted for name in names) for parted in (held, whole)]
        if drawn[0] == 0:
            assert tapes < clips * drawn[1]
        else:
            assert drawn[0] == drawn[1]


def test_unusable_clips_at_the_end_are_skipped(tmp_path):
    cues = [f"{i}\n00:00:0{i}.000 --> 00:00:0{i + 1}.000\nsaid {i}\n" for i in range(8)]
    cues.append("8\n00:00:08.000 --> 00:00:09.000\n(Applause)\n")
    lines = []
    for tape in range(3):
        make_audio(tmp_path / f"c/{tape}.wav", 9.0)
        text(tmp_path / f"c/{tape}.vtt", "WEBVTT", *cues)
        lines += [f"{tape}.wav,{i},{i + 1},{'a' if i < 8 else ''}" for i in range(9)]
    (tmp_path / "c/2.wav").rename(tmp_path / "c/gone")
    table = str(text(tmp_path / "t.csv", "file,start,end,text", *lines))
    for number, options in enumerate([("--spoken",), ("--csv", table)]):
        summary = run("folder", tmp_path / "c", tmp_path / f"o{number}", *options)
        assert {s: v["clips"] for s, v in summary["splits"].items()} == {"train": 14, "valid": 2}


@pytest.mark.parametrize("seconds", [(3.0, 4.0), (4.0, 3.0)])
def test_of_two_recordings_with_one_usable_clip_each_one_is_held_out(tmp_path, seconds):
    """Whichever is smaller; the other one's second cue is past its end."""
    cues = [f"{i}\n00:00:0{i}.000 --> 00:00:0{i + 1}.000\nsaid {i}\n" for i in (1, 6)]
    for tape, length in enumerate(seconds):
        make_audio(tmp_path / f"c/{tape}.wav", length)
        text(tmp_path / f"c/{tape}.vtt", "WEBVTT", *cues[: 2 - tape])
    lines = ["0.wav,1,2,a", "0.wav,6,7,b", "1.wav,1,2,c"]
    table = str(text(tmp_path / "t.csv", "file,start,end,text", *lines))
    for number, options in enumerate([(), ("--csv", table)]):
        summary = run("folder", tmp_path / "c", tmp_path / f"o{number}", *options)
        assert {s: v["clips"] for s, v in summary["splits"].items()} == {"train": 1, "valid": 1}


def test_few_recordings_of_one_clip_each_are_held_out_whole(tmp_path):
    for i in range(3):
        make_audio(tmp_path / f"c/{i}.wav", 3.0)
    for number, options in enumerate([(), ("--cut", "5"), ("--cut", "2")]):
        run("folder", tmp_path / "c", tmp_path / f"out{number}", *options)
        found = {row["audio"].split(":")[0] for row in rows(tmp_path / f"out{number}/valid.tsv")}
        assert len(found) == 1


def write_table(tmp_path, speaker, *more):
    """A table of eight recordings in two parts each; ``speaker``: number -> name."""
    lines = []
    for i in range(8):
        make_audio(tmp_path / f"c/{i}.wav", 1.0)
        lines += [f"{i}.wav,0,0.5,{speaker(i)},train,a", f"{i}.wav,0.5,,{speaker(i)},,b"]
    header = "file,start,end,speaker,split,text"
    return str(text(tmp_path / "t.csv", header, *lines, *more))


@pytest.mark.parametrize("speakers", [4, 0])
def test_a_table_without_splits_is_split(tmp_path, speakers):
    """By speaker if there are several, else by recording."""
    path = write_table(tmp_path, lambda i: f"s{i % 4}" if speakers else "")
    summary = run("folder", tmp_path / "c", tmp_path / "out", "--csv", path)
    found = {s: rows(tmp_path / f"out/{s}.tsv") for s in ("train", "valid")}
    assert sum(map(len, found.values())) == 16
    groups = {s: {r["speaker"] or r["id"].split("@")[0] for r in t} for s, t in found.items()}
    assert not groups["train"] & groups["valid"]
    assert summary["leaks"] == {}
    audio = {r["audio"] for t in found.values() for r in t}
    assert f"{tmp_path}/c/0.wav:8000:8000" in audio  # a start without an end


@pytest.mark.parametrize("recipe", ["folder", "huggingface"])
def test_a_single_speaker_is_split_by_recordings_and_counted(tmp_path, recipe):
    path = write_table(tmp_path, lambda i: "ann")
    options = ["--csv", path]
    if recipe == "huggingface":
        (tmp_path / "t.csv").rename(tmp_path / "c/metadata.csv")
        options = []
    summary = run(recipe, tmp_path / "c", tmp_path / "out", *options)
    assert {s: v["speakers"] for s, v in summary["splits"].items()} == {"train": 1, "valid": 1}
    assert summary["leaks"] == {"speaker": {"count": 1, "examples": ["'ann' in train and valid"]}}


def test_two_speakers_of_equal_size_are_split_by_recordings(tmp_path):
    for i in range(8):
        make_audio(tmp_path / f"c/{'ann' if i % 2 else 'ben'}/{i}.wav", 0.5)
    summary = run("folder", tmp_path / "c", tmp_path / "out", "--speaker", "folder")
    assert 1 <= summary["splits"]["valid"]["clips"] <= 4
    assert summary["leaks"]["speaker"]["count"] >= 1


def test_the_users_own_splits_are_still_checked(tmp_path):
    """The table's test split shares the speaker; clips held out for valid are not reported."""
    make_audio(tmp_path / "c/t.wav", 1.0)
    path = write_table(tmp_path, lambda i: "ann", "t.wav,,,ann,test,c")
    with pytest.raises(InputError, match=r"share a speaker .*: 'ann' in train and test; fix"):
        run("folder", tmp_path / "c", tmp_path / "out", "--csv", path)


def test_a_table_of_one_recording_is_split_at_its_end(tmp_path):
    make_audio(tmp_path / "c/a.wav", 4.0)
    lines = [f"a.wav,{i / 10},{i / 10 + 0.1},word {i}" for i in range(40)]
    path = str(text(tmp_path / "t.csv", "file,start,end,text", *lines))
    run("folder", tmp_path / "c", tmp_path / "out", "--csv", path)
    assert [r["tgt_text"] for r in rows(tmp_path / "out/valid.tsv")] == ["word 38", "word 39"]


def test_a_leak_in_the_corpus_is_found_even_if_its_clips_are_held_out(tmp_path):
    """The smallest speaker is held out for valid, and is in the table's test split."""
    make_audio(tmp_path / "c/t.wav", 1.0)
    path = write_table(tmp_path, lambda i: "cem" if i == 7 else "ann", "t.wav,,,cem,test,c")
    with pytest.raises(InputError, match=r"share a speaker .*: 'cem' in train and test; fix"):
        run("folder", tmp_path / "c", tmp_path / "out", "--csv", path)


@pytest.mark.parametrize("name", ["train", "training", "Train", ""])
def test_split_names_are_recognised_in_any_spelling(tmp_path, name):
    for i in range(4):
        make_audio(tmp_path / f"c/{i}.wav", 0.5)
    lines = [f"{i}.wav,{name if i < 3 else 'Test'},a" for i in range(4)]
    path = text(tmp_path / "t.csv", "file,split,text", *lines)
    summary = run("folder", tmp_path / "c", tmp_path / "out", "--csv", str(path))
    assert summary["splits"].keys() == {"train", "valid", "test"}


def test_unusable_clips_are_not_held_out(tmp_path):
    lines = []
    for i, (who, said) in enumerate([("ann", "a")] * 20 + [("ben", "b")] * 2 + [("cem", "")]):
        make_audio(tmp_path / f"c/{i}.wav", 0.3)
        lines.append(f"{i}.wav,{who},{said}")
    path = text(tmp_path / "t.csv", "file,speaker,text", *lines)
    run("folder", tmp_path / "c", tmp_path / "out", "--csv", str(path))
    assert {row["speaker"] for row in rows(tmp_path / "out/valid.tsv")} == {"ben"}
    for i in range(3):
        make_audio(tmp_path / f"d/{i}.wav", 0.3)
    for drawn in range(3):  # whichever would have been held out
        (tmp_path / f"d/{drawn}.wav").rename(tmp_path / "d/kept")
        (tmp_path / f"d/{drawn}.wav").touch()
        run("folder", tmp_path / "d", tmp_path / f"out{drawn}")
        assert len(rows(tmp_path / f"out{drawn}/valid.tsv")) == 1
        (tmp_path / "d/kept").rename(tmp_path / f"d/{drawn}.wav")


def test_a_recording_under_several_paths_is_one(tmp_path):
    for table in range(5):
        names = [f"r{table}{i}.wav" for i in range(12)]
        lines = [f"{'./' * (part % 2)}{n},{part},{part + 1},a" for n in names for part in range(4)]
        for name in names:
            make_audio(tmp_path / f"c{table}/{name}", 4.0)
        path = text(tmp_path / f"{table}.csv", "file,start,end,text", *lines)
        out = tmp_path / f"o{table}"
        summary = run("folder", tmp_path / f"c{table}", out, "--csv", str(path))
        assert "source" not in summary["leaks"]
        assert 0 < len(rows(out / "valid.tsv")) <= 16


@pytest.mark.parametrize("every", [10, 20])
@pytest.mark.parametrize("count", [6, 10, 20])
def test_at_most_a_third_is_held_out(every, count):
    for folder in range(300):
        names = [f"talk{folder}_{i:02}.wav" for i in range(count)]
        held = RecordingsHeldOut(lambda names=names: [(n, 1) for n in names], every)
        assert 1 <= sum(name in held for name in names) <= count / 3


def test_the_end_of_one_recording_is_held_out_despite_a_test_split(tmp_path):
    for name, split in (("a", "train"), ("b", "test")):
        make_audio(tmp_path / f"c/{split}/{name}.wav", 4.0)
        cues = (f"{i}\n00:00:0{i}.000 --> 00:00:0{i + 1}.000\n{name} {i}\n" for i in range(4))
        text(tmp_path / f"c/{split}/{name}.vtt", "WEBVTT", *cues)
    summary = run("folder", tmp_path / "c", tmp_path / "out")
    assert {s: v["clips"] for s, v in summary["splits"].items()} == {
        "train": 3,
        "valid": 1,
        "test": 4,
    }


@pytest.mark.real_data
def test_a_real_table_of_three_unequal_speakers(real_data, tmp_path):
    """A part of Mboshi: most clips are of one speaker, few of another."""
    mboshi = real_data / "mboshi"
    with (mboshi / "train.tsv").open(encoding="utf-8") as file:
        header, *lines = file.read().splitlines()
    path = text(tmp_path / "t.tsv", header.replace("french", "translation"), *lines[::40])
    summary = run("folder", mboshi, tmp_path / "out", "--csv", str(path), "--target-lang", "fr")
    assert summary["clips"] == len(lines[::40])
    train, valid = summary["splits"]["train"], summary["splits"]["valid"]
    assert 0 < valid["clips"] < 0.15 * train["clips"]
    assert (train["speakers"], valid["speakers"]) == (2, 1)
    assert summary["leaks"].keys() <= {"sentence"}
    found = rows(tmp_path / "out/train.tsv")
    assert all(row["tgt_text"] and row["tgt_lang"] == "fr" for row in found)
    check_lengths(tmp_path / "out/valid.tsv")
