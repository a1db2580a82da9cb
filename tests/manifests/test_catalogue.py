"""Hold-out is repeated if the clips chosen before inspection turn out to be unusable."""

from pathlib import Path

import pytest

from tests.manifests.corpora import make_audio, rows, run, text


@pytest.mark.parametrize("broken", range(5))
@pytest.mark.parametrize("table", [False, True])
def test_not_only_broken_files_are_held_out(tmp_path, broken, table):
    """Their headers are read only after the choice."""
    lines = [f"{i}.wav,said {i}" for i in range(5)]
    for i in range(5):
        make_audio(tmp_path / f"c/{i}.wav", 0.3)
    text(tmp_path / f"c/{broken}.wav", "no sound " * 3000)
    options = ["--csv", str(text(tmp_path / "t.csv", "file,text", *lines))] if table else []
    summary = run("folder", tmp_path / "c", tmp_path / "out", *options)
    assert {s: v["clips"] for s, v in summary["splits"].items()} == {"train": 3, "valid": 1}
    assert summary["leaks"] == {}


def test_the_end_of_the_only_usable_recording_is_held_out(tmp_path):
    make_audio(tmp_path / "c/a.wav", 4.0)
    text(tmp_path / "c/b.wav", "no sound")
    summary = run("folder", tmp_path / "c", tmp_path / "out", "--cut", "1")
    assert {s: v["clips"] for s, v in summary["splits"].items()} == {"train": 3, "valid": 1}
    [last] = rows(tmp_path / "out/valid.tsv")
    assert last["id"] == "a_0003"


def test_hold_out_is_repeated_if_all_of_train_is_broken(tmp_path):
    for i in range(3):
        make_audio(tmp_path / f"c/{i}.wav", 0.3)
    run("folder", tmp_path / "c", tmp_path / "out")
    [valid] = rows(tmp_path / "out/valid.tsv")
    for row in rows(tmp_path / "out/train.tsv"):
        text(Path(row["audio"]), "no sound")
    summary = run("folder", tmp_path / "c", tmp_path / "again")
    assert {s: v["clips"] for s, v in summary["splits"].items()} == {"train": 1}
    assert [row["id"] for row in rows(tmp_path / "again/train.tsv")] == [valid["id"]]


def test_hold_out_does_not_depend_on_the_corpus_path(tmp_path):
    """Also for files outside the folder, and if the choice is repeated."""
    drawn = []
    for place in ("a", "b/c"):
        for i in range(40):
            make_audio(tmp_path / place / f"sound/r{i}.wav", 0.3)
        (tmp_path / place / "tables").mkdir()
        lines = [f"../sound/r{i}.wav,said {i}" for i in range(40)]
        table = text(tmp_path / place / "t.csv", "file,text", *lines)
        options = ["--csv", str(table), "--restart"]
        for _ in range(2):
            run("folder", tmp_path / place / "tables", tmp_path / place / "out", *options)
            valid = rows(tmp_path / place / "out/valid.tsv")
            drawn.append([row["id"] for row in valid])
            for row in valid:
                text(Path(row["audio"]), "no sound")
    assert drawn[:2] == drawn[2:]
    assert not set(drawn[0]) & set(drawn[1])
    assert drawn[0][0].startswith("../sound/r")


def test_speakers_whose_files_are_broken_are_replaced_by_others(tmp_path):
    lines = []
    for i, who in enumerate(["ann"] * 11 + ["", "ben"] + ["cem"] * 2):
        make_audio(tmp_path / f"c/{i}.wav", 0.3)
        lines.append(f"{i}.wav,{who},said {i}")
    text(tmp_path / "c/12.wav", "no sound")
    path = text(tmp_path / "t.csv", "file,speaker,text", *lines)
    run("folder", tmp_path / "c", tmp_path / "out", "--csv", str(path))
    assert [row["speaker"] for row in rows(tmp_path / "out/valid.tsv")] == [""]
