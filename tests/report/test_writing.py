"""Where a report is written, what it replaces and what it refuses to."""

import re
from pathlib import Path

import pytest

from manifests.errors import InputError
from mmpt_fairseq.report.__main__ import report
from tests.report.folders import sentences, write_decode, write_test_set, write_training


def test_rewriting_a_report_removes_its_old_files_only(tmp_path):
    data = write_test_set(tmp_path / "data", sentences(4))
    write_decode(write_training(tmp_path / "run", data), data, sentences(4))
    files = report([tmp_path / "run"]).parent / "report_files"
    (files / "mine.txt").write_text("kept")
    (files / "99-of-an-earlier-page.svg").write_text("replaced")
    before = sorted(files.iterdir())
    report([tmp_path / "run"])
    assert set(before) - set(files.iterdir()) == {files / "99-of-an-earlier-page.svg"}
    with pytest.raises(InputError, match=r"does not end in \.html"):
        report([tmp_path / "run"], tmp_path / "page.md")


@pytest.mark.parametrize("name", ["mine.html", "mine.md"])
def test_other_files_are_not_replaced(tmp_path, name):
    data = write_test_set(tmp_path / "data", sentences(4))
    write_decode(write_training(tmp_path / "run", data), data, sentences(4))
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name} exists and is no report of mmpt-report"):
        report([tmp_path / "run"], tmp_path / "mine.html")
    assert (tmp_path / name).read_text() == "mine"
    assert not (tmp_path / "mine_files").exists()


def test_files_in_the_folder_of_a_first_report_are_kept(tmp_path):
    data = write_test_set(tmp_path / "data", sentences(4))
    write_decode(write_training(tmp_path / "run", data), data, sentences(4))
    (tmp_path / "page_files").mkdir()
    (tmp_path / "page_files" / "mine.yaml").write_text("mine")
    report([tmp_path / "run"], tmp_path / "page.html")
    assert (tmp_path / "page_files" / "mine.yaml").read_text() == "mine"


def test_a_run_decoded_on_two_test_sets_is_refused_with_a_remedy_that_works(tmp_path):
    run = write_training(tmp_path / "run", tmp_path / "one")
    for name, texts in (("one", sentences(6)), ("two", sentences(7)[1:])):
        data = write_test_set(tmp_path / name, texts)
        write_decode(run, data, texts).rename(run / f"decoded_{name}")
    with pytest.raises(InputError, match="different test sets") as caught:
        report([tmp_path / "run"])
    folders = re.findall(r"mmpt-report (\S+?),? ", str(caught.value) + " ")
    assert [Path(folder).name for folder in folders] == ["decoded_one", "decoded_two"]
    for folder in folders:
        assert report([Path(folder)]).is_file()


def test_many_runs_have_a_short_title(tmp_path):
    data = write_test_set(tmp_path / "data", sentences(4))
    runs = [write_training(tmp_path / "runs" / f"run{i}", data) for i in range(5)]
    page = report(runs, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h1>5 folders under runs</h1>" in page


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_what_is_left_of_a_report_is_replaced(tmp_path, name):
    data = write_test_set(tmp_path / "data", sentences(4))
    write_decode(write_training(tmp_path / "run", data), data, sentences(4))
    page = report([tmp_path / "run"])
    for path in (page, page.with_suffix(".md")):
        if path.name != name:
            path.unlink()
    assert report([tmp_path / "run"]) == page
    assert page.is_file()
    assert page.with_suffix(".md").is_file()
