"""From a folder of videos with subtitles to training, by the commands in the README."""

import shutil

import pytest

from manifests import folder, vocabulary
from manifests.features import cache_features
from manifests.prepare import main
from tests.commands import succeeded, train
from tests.manifests.corpora import make_video, rows, text

CUES = """1
00:00:00,200 --> 00:00:01,400
Ein rotes Boot

2
00:00:01,500 --> 00:00:02,700
Die Katze
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Manifests of three 3-second videos, one of them for validation."""
    root = tmp_path_factory.mktemp("films")
    for i in range(3):
        make_video(root / f"films/{i}.mp4", 3.0, seed=i)
        text(root / f"films/{i}.de.srt", CUES.replace("rotes", f"{'r' * (i + 1)}otes"), end="")
    options = ["--source-lang", "en", "--target-lang", "de", "--jobs", "1"]
    main(folder.RECIPE, [str(root / "films"), str(root / "data"), *options])
    vocabulary.main([str(root / "data"), "--kind", "char"])
    return root / "data"


@pytest.mark.parametrize("stage", ["pretraining", "midtraining"])
def test_video_segments_train_for_an_update(data, tmp_path, stage):
    assert all(
        r["audio"].count(":") == r["video"].count(":") == 2 for r in rows(data / "train.tsv")
    )
    output = succeeded(train(stage, data, tmp_path, "optimization.max_update=1"))
    assert "skipped" not in output
    assert "train_loss" in output
    assert (tmp_path / "checkpoint_last.pt").is_file()


def test_filterbanks_of_prepared_clips_are_cached(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    assert (tmp_path / "data/skipped.tsv").is_file()
    assert cache_features(tmp_path / "features.zip", [tmp_path / "data"]) == (6, 0)
    row = rows(tmp_path / "data/train.tsv")[0]
    assert ".zip:" in row["audio"]
    assert row["recording"].count(":") == 2
