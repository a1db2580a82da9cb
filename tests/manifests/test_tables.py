"""Tables of clips: plain ones, exports of spreadsheets, and invalid ones."""

import json
import zipfile

import pytest

from manifests.errors import InputError
from manifests.folder import RECIPE
from manifests.prepare import main
from tests.manifests.corpora import make_audio, rows, run, skipped, text


def test_one_text_column_is_chosen_and_unused_columns_are_reported(tmp_path, capsys):
    for name in "ab":
        make_audio(tmp_path / f"corpus/{name}.wav", 2.0)
    header = "file,begin,stop,transcript,translation,split,mood"
    lines = ["a.wav,0,1,moto,feu,train,good", "b.wav,0,1,mai,eau,valid,bad"]
    table = str(text(tmp_path / "t.csv", header, *lines))
    arguments = [str(tmp_path / "corpus"), str(tmp_path / "out"), "--csv", table]
    columns = "has the columns translation and transcript.*--text-column transcript"
    with pytest.raises(SystemExit, match=columns):
        main(RECIPE, arguments)
    run("folder", *arguments, "--text-column", "transcript")
    assert "unknown column mood is ignored; known are file" in capsys.readouterr().err
    [row] = rows(tmp_path / "out/train.tsv")
    assert (row["src_text"], row["tgt_text"]) == ("", "moto")  # a translation is no source text
    assert row["audio"].endswith("a.wav:0:16000")
    run("folder", *arguments, "--text-column", "translation", "--restart")
    [row] = rows(tmp_path / "out/train.tsv")
    assert (row["src_text"], row["tgt_text"]) == ("moto", "feu")
    with pytest.raises(SystemExit, match="has no column words; it has file, begin"):
        main(RECIPE, [*arguments, "--text-column", "words", "--restart"])


def test_an_end_without_a_start_is_refused(tmp_path):
    make_audio(tmp_path / "corpus/a.wav", 2.0)
    table = text(tmp_path / "t.csv", "file,from,end,text", "a.wav,1,2,one")
    with pytest.raises(SystemExit, match="has the column end but none for the start; call it"):
        main(RECIPE, [str(tmp_path / "corpus"), str(tmp_path / "out"), "--csv", str(table)])


def test_a_start_without_an_end_is_refused(tmp_path):
    """Each sentence would get the whole rest of the recording."""
    make_audio(tmp_path / "corpus/a.wav", 2.0)
    table = text(tmp_path / "t.csv", "file,start,text", "a.wav,0,one", "a.wav,1,two")
    message = "has the column start but none for the end or the duration; call it one of end, "
    with pytest.raises(SystemExit, match=message):
        main(RECIPE, [str(tmp_path / "corpus"), str(tmp_path / "out"), "--csv", str(table)])


def test_the_encoding_of_a_table_that_is_not_utf_8_is_reported(tmp_path, capsys):
    make_audio(tmp_path / "corpus/a.wav", 1.0)
    (tmp_path / "t.csv").write_bytes("file,text\na.wav,привет\n".encode("cp1251"))
    table = ["--csv", str(tmp_path / "t.csv")]
    run("folder", tmp_path / "corpus", tmp_path / "out", *table, "--encoding", "cp1251")
    assert "is read as cp1251, not UTF-8" in capsys.readouterr().err


def test_unusable_rows_are_left_out(tmp_path):
    for name in "ab":
        make_audio(tmp_path / f"c/{name}.wav", 1.0)
    lines = ["a.wav,good,,", "a.wav,,,", "", ",no file,,", "a.wav,odd,x,2", "b.wav,good,,,"]
    lines += ["b.wav,one,,,two"]
    path = table(tmp_path / "t.csv", "file,text,start,end", *lines)
    run("folder", tmp_path / "c", tmp_path / "out", "--csv", path, "--valid-every", "0")
    assert [r["id"] for r in rows(tmp_path / "out/train.tsv")] == ["a", "b"]
    output = (tmp_path / "out/skipped.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[3] for line in output] == [
        "empty transcript",
        "unusable row",
        "unusable times",
        "unusable row",
    ]
    assert "t.csv, line 5\t" in output[1]
    assert "t.csv, line 8\t" in output[3]
    assert "more cells than the header" in output[3]


def test_a_workbook_is_refused(tmp_path):
    make_audio(tmp_path / "corpus/a.wav", 2.0)
    with zipfile.ZipFile(tmp_path / "clips.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    (tmp_path / "clips.xls").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    for name in ("clips.xlsx", "clips.xls"):
        arguments = [str(tmp_path / "corpus"), str(tmp_path / "o"), "--csv", str(tmp_path / name)]
        with pytest.raises(SystemExit, match="is a workbook or another archive; save its sheet as"):
            main(RECIPE, arguments)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"file,text\na.wav,caf\x81", "t.csv is not cp1252 text; save it as UTF-8"),
        (
            b'file,text\na.wav,b\na.wav,"' + b"x" * 200_000,
            "t.csv, after line 2: .*a quote left open",
        ),
    ],
)
def test_unreadable_tables_are_refused(tmp_path, data, complaint):
    make_audio(tmp_path / "c/a.wav", 1.0)
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(InputError, match=complaint):
        run("folder", tmp_path / "c", tmp_path / "out", "--csv", str(tmp_path / "t.csv"))


def test_a_table_in_another_encoding_is_read(tmp_path):
    make_audio(tmp_path / "c/a.wav", 1.0)
    (tmp_path / "t.csv").write_bytes("file;text\na.wav;naïve".encode("cp1252"))
    run("folder", tmp_path / "c", tmp_path / "out", "--csv", str(tmp_path / "t.csv"))
    assert rows(tmp_path / "out/train.tsv")[0]["tgt_text"] == "naïve"


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_a_table(tmp_path, delimiter):
    make_audio(tmp_path / "corpus/wav/a.wav", 3.0)
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


def test_a_spreadsheet_export(tmp_path, capsys):
    """With the delimiter on a separate line and decimal commas; invalid numbers are reported."""
    make_audio(tmp_path / "corpus/a.wav", 3.0)
    lines = [
        "sep=;",
        "file;start;end;text",
        "a.wav;0,00;1,5;one, two",
        "a.wav;1,5;x;no",
        "a.wav;-1,5;2,0;no",
    ]
    path = text(tmp_path / "clips.csv", *lines)
    run("folder", tmp_path / "corpus", tmp_path / "out", "--csv", str(path), "--valid-every", "0")
    [row] = rows(tmp_path / "out/train.tsv")
    assert (row["audio"][-8:], row["tgt_text"]) == (":0:24000", "one, two")
    output = (tmp_path / "out/skipped.tsv").read_text()
    assert "'x' is not a number" in output
    assert "starts at -1.5 s, ends at 2.0 s" in output


def test_a_tsv_with_all_cells_quoted(tmp_path):
    make_audio(tmp_path / "corpus/a.wav", 1.0)
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
def test_quotes_in_a_tsv(tmp_path, cell, other, expected):
    """Removed if all are a spreadsheet's; kept as text in Common Voice."""
    for name in "ab":
        make_audio(tmp_path / f"corpus/{name}.wav", 1.0)
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
def test_an_unusable_row_does_not_affect_others(tmp_path, row, fault):
    make_audio(tmp_path / "corpus/a.wav", 1.0)
    lines = [json.dumps(r) for r in ({"file": "a.wav", "text": "yes"}, row)]
    path = text(tmp_path / "t.jsonl", *lines)
    run("folder", tmp_path / "corpus", tmp_path / "out", "--csv", str(path), "--valid-every", "0")
    assert [r["tgt_text"] for r in rows(tmp_path / "out/train.tsv")] == ["yes"]
    assert fault in (tmp_path / "out/skipped.tsv").read_text()


def test_a_table_without_files_is_refused(tmp_path):
    (tmp_path / "corpus").mkdir()
    path = text(tmp_path / "clips.csv", "clip,text", "a.wav,b")
    with pytest.raises(InputError, match=r"clips.csv, line 2 names no file"):
        run("folder", tmp_path / "corpus", tmp_path / "out", "--csv", str(path))


def table(path, header, *lines):
    return str(text(path, header, *lines))
