"""From rows of tables to clips: their files, splits, times and confidences."""

import json
import unicodedata

import pytest

from manifests.folder import RECIPE
from manifests.prepare import main
from mmpt_fairseq.data.waveform import read_waveform
from tests.manifests.corpora import make_audio, make_video, rows, run, skipped, text, truncated


def test_a_table_with_the_name_of_a_split_is_that_split(tmp_path):
    make_audio(tmp_path / "clips/a.wav", 2.0)
    table = text(tmp_path / "test.tsv", "path\tsentence", "a.wav\tone")
    run("folder", tmp_path / "clips", tmp_path / "out", "--csv", str(table))
    assert len(rows(tmp_path / "out/test.tsv")) == 1


def test_each_of_several_tables_is_a_split(tmp_path):
    """As released by Common Voice: one table per split, all clips in one folder."""
    options = []
    for split in ("train", "dev", "test"):
        make_audio(tmp_path / f"cv/clips/{split}.wav", 2.0)
        line = f"{split}_speaker\t{split}.wav\tthe word {split}\tde"
        table = text(tmp_path / f"cv/{split}.tsv", "client_id\tpath\tsentence\tlocale", line)
        options += ["--csv", str(table)]
    out = tmp_path / "out"
    run("folder", tmp_path / "cv/clips", out, *options)
    assert {path.name for path in out.glob("*.tsv")} == {
        "train.tsv",
        "dev.tsv",
        "test.tsv",
        "skipped.tsv",
    }
    for split in ("train", "dev", "test"):
        [row] = rows(out / f"{split}.tsv")
        assert (row["tgt_text"], row["src_lang"]) == (f"the word {split}", "de")
        assert row["speaker"] == f"{split}_speaker"
    with pytest.raises(SystemExit, match=r"there is no .*none\.tsv"):
        main(RECIPE, [str(tmp_path), str(out), *options, "--csv", str(tmp_path / "none.tsv")])


def test_confidences_of_words_and_with_decimal_commas(tmp_path):
    for name in "ab":
        make_audio(tmp_path / f"corpus/{name}.wav", 1.0)
    row = {"file": "a.wav", "text": "one two", "confidence": [0.9, 0.2]}
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n")
    text(tmp_path / "t.csv", "file;text;confidence", "b.wav;three;0,95")
    options = ["--csv", str(tmp_path / "t.jsonl"), "--csv", str(tmp_path / "t.csv")]
    options += ["--valid-every", "0", "--min-confidence", "0.9"]
    run("folder", tmp_path / "corpus", tmp_path / "out", *options)
    assert [row["id"] for row in rows(tmp_path / "out/train.tsv")] == ["a", "b"]


@pytest.mark.parametrize("value", ["nan", "90", "-0.1", "high"])
def test_a_lowest_confidence_that_is_none_is_refused(tmp_path, value, capsys):
    with pytest.raises(SystemExit):
        main(RECIPE, [str(tmp_path), str(tmp_path / "out"), f"--min-confidence={value}"])
    assert f"{value} is not a number from 0 to 1" in capsys.readouterr().err


def test_rows_of_low_confidence_are_left_out_and_counted(tmp_path, capsys):
    for name in "abc":
        make_audio(tmp_path / f"corpus/{name}.wav", 1.0)
    lines = ["a.wav,one,0.949", "b.wav,two,0.95", "c.wav,three,"]
    table = text(tmp_path / "t.csv", "file,text,confidence", *lines)
    options = ["--csv", str(table), "--valid-every", "0"]
    run("folder", tmp_path / "corpus", tmp_path / "all", *options)
    assert [row["tgt_text"] for row in rows(tmp_path / "all/train.tsv")] == ["one", "two", "three"]
    options += ["--min-confidence", "0.95"]
    run("folder", tmp_path / "corpus", tmp_path / "out", *options)
    assert [row["tgt_text"] for row in rows(tmp_path / "out/train.tsv")] == ["two", "three"]
    message = capsys.readouterr().err
    assert "1 of 3 rows have a confidence under 0.95 and are left out" in message
    assert "unknown column" not in message


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        ("file,text", "a.wav,one", "needs a table with a column confidence"),
        (
            "file,text,confidence",
            "a.wav,one,high",
            r"the confidence 'high' of a\.wav is not a number",
        ),
    ],
)
def test_a_confidence_that_is_missing_or_no_number_is_an_error(tmp_path, header, line, message):
    make_audio(tmp_path / "corpus/a.wav", 1.0)
    table = text(tmp_path / "t.csv", header, line)
    arguments = [str(tmp_path / "corpus"), str(tmp_path / "out"), "--min-confidence", "0.5"]
    with pytest.raises(SystemExit, match=message):
        main(RECIPE, [*arguments, "--csv", str(table)])
    with pytest.raises(SystemExit, match="for tables; give one with --csv"):
        main(RECIPE, arguments)


def test_a_file_under_two_paths_is_a_duplicate(tmp_path):
    make_audio(tmp_path / "c/wav/a.wav", 1.0)
    lines = ["wav/a.wav,good", "wav/../wav/a.wav,again", "../c/wav/a.wav,again"]
    path = str(text(tmp_path / "t.csv", "file,text", *lines))
    run("folder", tmp_path / "c", tmp_path / "out", "--csv", path, "--valid-every", "0")
    assert [r["id"] for r in rows(tmp_path / "out/train.tsv")] == ["wav/a"]
    assert skipped(tmp_path / "out") == {"wav/a": "duplicate id"}


def test_rows_that_start_together_are_kept_if_they_end_apart(tmp_path):
    """Speakers may talk at once; ids of table rows are of file and start."""
    make_audio(tmp_path / "c/a.wav", 8.0)
    lines = ["1,2,yes", "1.00,6.31,a long answer", "1,2,yes again", "1,7,x", "1,6.31,x", "3,4,no"]
    path = str(text(tmp_path / "t.csv", "file,start,end,text", *(f"a.wav,{row}" for row in lines)))
    run("folder", tmp_path / "c", tmp_path / "out", "--csv", path, "--valid-every", "0")
    found = {r["id"]: r["tgt_text"] for r in rows(tmp_path / "out/train.tsv")}
    assert found == {
        "a@1.00": "yes",
        "a@1.00-6.31": "a long answer",
        "a@1.00-7.00": "x",
        "a@3.00": "no",
    }
    duplicates = {"a@1.00": "duplicate id", "a@1.00-6.31": "duplicate id"}
    assert skipped(tmp_path / "out") == duplicates


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_file_names_written_on_other_systems_are_found(tmp_path, form):
    """macOS decomposes letters with accents, Windows has backslashes."""
    path = unicodedata.normalize("NFC", "été/") + unicodedata.normalize(form, "à.wav")
    make_audio(tmp_path / "corpus" / path, 2.0)
    for number, other in enumerate(("NFC", "NFD")):
        names = [unicodedata.normalize(other, name) for name in ("été\\à.wav", "été\\ö.wav")]
        table = text(tmp_path / "t.csv", "file,text", *(f"{name},one" for name in names))
        out = tmp_path / str(number)
        run("folder", tmp_path / "corpus", out, "--csv", str(table), "--valid-every", "0")
        assert [row["tgt_text"] for row in rows(out / "train.tsv")] == ["one"]
        assert list(skipped(out).values()) == ["missing file"]


def test_splits_with_unusual_names_are_reported(tmp_path, capsys):
    splits = ["train"] * 3 + ["trian"] * 2 + ["valid", "dev-other", "test"]
    for i in range(len(splits)):
        make_audio(tmp_path / f"c/{i}.wav", 0.3)
    lines = [f"{i}.wav,said {i},{split}" for i, split in enumerate(splits)]
    table = text(tmp_path / "t.csv", "file,text,split", *lines)
    main(RECIPE, [str(tmp_path / "c"), str(tmp_path / "out"), "--csv", str(table), "--jobs", "1"])
    output = capsys.readouterr().err
    assert "2 clips are in the split trian, which is not train, valid or test" in output
    assert "dev-other" not in output


def test_video_that_all_goes_to_valid_is_warned_of(tmp_path, capsys):
    make_audio(tmp_path / "c/train/a.wav", 1.0)
    make_video(tmp_path / "c/valid/b.mp4", 1.0)
    main(RECIPE, [str(tmp_path / "c"), str(tmp_path / "out"), "--jobs", "1"])
    assert "all clips with video outside test went to valid (1)" in capsys.readouterr().err
    make_video(tmp_path / "c/train/c.mp4", 1.0)
    main(RECIPE, [str(tmp_path / "c"), str(tmp_path / "two"), "--jobs", "1"])
    assert "with video outside test" not in capsys.readouterr().err


def test_segments_before_the_end_of_a_truncated_recording_are_kept(tmp_path):
    truncated(make_audio(tmp_path / "c/a.wav", 4.0))
    lines = ["a.wav,0,1,one", "a.wav,0.5,1.9,two", "a.wav,1.5,3,three", "a.wav,1,,four"]
    table = text(tmp_path / "t.csv", "file,start,end,text", *lines)
    options = ["--csv", str(table), "--valid-every", "0"]
    run("folder", tmp_path / "c", tmp_path / "out", *options)
    kept = rows(tmp_path / "out/train.tsv")
    assert [row["tgt_text"] for row in kept] == ["one", "two"]
    assert len(read_waveform(kept[1]["audio"])) == 1.4 * 16_000
    output = (tmp_path / "out/skipped.tsv").read_text()
    assert "ends at 3.00 s, the recording at 2.00 s" in output
    assert "of the 64000 samples that its header promises are there" in output
