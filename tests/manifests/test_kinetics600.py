"""Kinetics-600: lists, class folders, clips that are missing or have no audio."""

import pytest

from manifests.errors import InputError
from tests.manifests.corpora import (
    make_video,
    rows,
    run,
    skipped,
    text,
)
from tests.manifests.learning import learn_by_the_recipe


def test_kinetics600(tmp_path):
    corpus = tmp_path / "k600"
    make_video(corpus / "train/playing chess/aaaaaaaaaaa_000001_000011.mp4")
    make_video(corpus / "train/playing_chess/b-b_bbbbbbb_000001_000011.mp4")
    make_video(corpus / "train/ccccccccccc_000002_000012.mp4", silent=True)
    make_video(corpus / "val/ddddddddddd_000001_000011.mp4")
    header, label = "label,youtube_id,time_start,time_end,split", "playing chess"
    names = ["aaaaaaaaaaa,1,11", "b-b_bbbbbbb,1,11", "ccccccccccc,2,12", "eeeeeeeeeee,3,13"]
    text(
        corpus / "annotations/train.csv",
        header,
        *(f"{label},{name},train" for name in names),
        end="\r\n",
    )
    make_video(corpus / "videos/test/playing chess/fffffffffff_000001_000011.mp4")
    summary = run("kinetics600", corpus, tmp_path / "out")
    ids = [r["id"] for r in rows(tmp_path / "out/train.tsv")]
    assert ids == ["aaaaaaaaaaa_000001_000011", "b-b_bbbbbbb_000001_000011"]
    assert [r["id"] for r in rows(tmp_path / "out/val.tsv")] == ["ddddddddddd_000001_000011"]
    assert skipped(tmp_path / "out") == {
        "ccccccccccc_000002_000012": "no audio track",
        "eeeeeeeeeee_000003_000013": "missing file",
    }
    assert [r["id"] for r in rows(tmp_path / "out/test.tsv")] == ["fffffffffff_000001_000011"]
    assert summary["left_out_share"] == pytest.approx(2 / 6)
    assert "left out" in (tmp_path / "out/summary.html").read_text()
    learn_by_the_recipe(tmp_path / "out", "kinetics600")


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "annotations/train.txt",
            [
                "label,youtube_id,time_start,time_end,split,is_cc",
                "playing chess,aaaaaaaaaaa,1,11,train,0",
                "playing chess,eeeeeeeeeee,3,13,train,0",
                "playing chess,ggggggggggg,,,train,0",
            ],
        ),
        (
            "train.txt",
            [
                "train/playing chess/aaaaaaaaaaa_000001_000011.mp4 0",
                "playing chess/eeeeeeeeeee_000003_000013 0",
                "nothing",
            ],
        ),
    ],
)
def test_kinetics600_lists_as_text(tmp_path, name, lines):
    """The community's downloader uses train.txt and val.txt, and links clips by class."""
    corpus = tmp_path / "k600"
    make_video(corpus / "videos/train/playing chess/aaaaaaaaaaa_000001_000011.mp4", 0.5)
    make_video(corpus / "videos/train/playing chess/hhhhhhhhhhh_000001_000011.mp4", 0.5)
    make_video(corpus / "videos/val/playing_chess/ddddddddddd_000001_000011.mp4", 0.5)
    text(corpus / name, *lines)
    text(corpus / "annotations/validate.csv", lines[0] if "," in lines[0] else HEADER)
    with (corpus / "annotations/validate.csv").open("a") as file:
        file.write("playing chess,ddddddddddd,1,11,val,0\n")
    run("kinetics600", corpus, tmp_path / "out")
    assert [r["id"] for r in rows(tmp_path / "out/train.tsv")] == ["aaaaaaaaaaa_000001_000011"]
    assert [r["id"] for r in rows(tmp_path / "out/val.tsv")] == ["ddddddddddd_000001_000011"]
    missing, *damaged = skipped(tmp_path / "out").items()
    assert missing == ("eeeeeeeeeee_000003_000013", "missing file")
    assert [reason for _, reason in damaged] == ["unusable row"]


def test_kinetics600_clips_under_other_names_are_used_or_counted(tmp_path, capsys):
    corpus = tmp_path / "k600"
    make_video(corpus / "train/chess/aaaaaaaaaaa_000001_000011.mp4", 0.5).rename(
        corpus / "train/chess/aaaaaaaaaaa_000001_000011.MP4"
    )
    make_video(corpus / "validation/chess/bbbbbbbbbbb_000001_000011.mp4", 0.5)
    run("kinetics600", corpus, tmp_path / "all")
    assert len(rows(tmp_path / "all/train.tsv")) == len(rows(tmp_path / "all/val.tsv")) == 1
    make_video(corpus / "train/chess/ccccccccccc_000001_000011.mp4", 0.5)
    text(corpus / "train.csv", HEADER, "chess,aaaaaaaaaaa,1,11,train,0")
    run("kinetics600", corpus, tmp_path / "listed")
    [row] = rows(tmp_path / "listed/train.tsv")
    assert row["id"] == "aaaaaaaaaaa_000001_000011"
    make_video(corpus / "videos/train/ddddddddddd_000001_000011.mp4", 0.5)
    run("kinetics600", corpus, tmp_path / "again")
    shown = capsys.readouterr().err
    assert f"1 clips of train are not in {corpus / 'train.csv'}: unused" in shown
    assert f"2 clips of train are not in {corpus / 'train.csv'}: unused" in shown


HEADER = "label,youtube_id,time_start,time_end,split,is_cc"


def test_lists_without_clips_are_refused(tmp_path):
    text(tmp_path / "k600/annotations/train.csv", "a,b", "1,2")
    with pytest.raises(InputError, match=r"train.csv neither has the columns .* nor names a clip"):
        run("kinetics600", tmp_path / "k600", tmp_path / "out")
