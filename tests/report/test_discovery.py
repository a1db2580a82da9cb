"""Finding runs and decodes in folders: what is found, its lineage, and its notes."""

import json
import os
import shutil
from argparse import Namespace

import pytest

from manifests.errors import InputError
from mmpt_fairseq.report.discovery import find, to_dict
from mmpt_fairseq.report.results import describe_lineage
from tests.helpers import save_checkpoint
from tests.report.folders import (
    config,
    progress,
    sentences,
    start,
    write_decode,
    write_log,
    write_test_set,
    write_training,
)

TEXTS = sentences(24)


@pytest.fixture
def data(tmp_path):
    return write_test_set(tmp_path / "data", TEXTS)


def test_paths_resolve_after_folders_were_moved_together(data, tmp_path):
    old = tmp_path / "old"
    stage2 = write_training(old / "st", old / "data")
    asr = write_training(
        old / "asr", old / "data", init_encoder_from=str(stage2 / "checkpoint_best.pt")
    )
    shutil.move(data, old / "data")
    write_decode(asr, old / "data", TEXTS)
    old.rename(tmp_path / "new")
    _, [decode] = find([tmp_path / "new"])
    assert decode.manifest == tmp_path / "new" / "data" / "test.tsv"
    assert [run.name for run in decode.run.lineage] == ["st"]


def test_of_a_copied_folder_the_copy_counts(data, tmp_path):
    """Though the original exists."""
    original = tmp_path / "original"
    shutil.move(data, original / "data")
    write_decode(write_training(original / "asr", original / "data"), original / "data", TEXTS)
    shutil.copytree(original, tmp_path / "copy")
    _, [decode] = find([tmp_path / "copy"])
    assert decode.manifest == tmp_path / "copy" / "data" / "test.tsv"
    assert decode.run.folder == tmp_path / "copy" / "asr"


def test_paths_relative_to_the_working_directory_of_the_run(data, tmp_path):
    folder = write_training(tmp_path / "runs" / "asr", data)
    cfg = config(folder, data)
    cfg["checkpoint"]["save_dir"], cfg["task"]["data"] = "runs/asr", "data"
    write_log(folder, start(0, cfg), progress(9, 5, 1.0))
    [run], _ = find([folder])
    assert run.locate("data") == data
    assert run.kind == "recognition"


def test_a_decode_outside_its_trainings_folder_has_its_lineage(data, tmp_path):
    """Only its checkpoint, and the checkpoint which that started from, are known."""
    first, second = tmp_path / "trainings" / "mae", tmp_path / "trainings" / "asr"
    start_path = {"init_encoder_from": str(first / "checkpoint_best.pt")}
    for folder, model in ((first, {}), (second, start_path)):
        folder.mkdir(parents=True)
        cfg = config(folder, data, **model)
        if folder == first:
            cfg["task"]["_name"] = "mmpt_av_pretraining"
        save_checkpoint(folder / "checkpoint_best.pt", cfg, {}, {})
    for name in ("greedy", "beam"):
        shutil.move(write_decode(second, data, TEXTS), tmp_path / "decodes" / name)
    runs, decodes = find([tmp_path / "decodes"])
    assert not runs
    assert decodes[0].run is decodes[1].run
    assert describe_lineage(decodes[0].run) == "pre-trained"
    decodes[0].run.start = None
    assert describe_lineage(decodes[0].run) == "unknown start"


def test_linked_folders_are_found_once(data, tmp_path):
    runs, elsewhere = tmp_path / "runs", tmp_path / "scratch"
    write_training(runs / "mine", data)
    write_training(elsewhere / "seed1" / "theirs", data)
    (runs / "linked").symlink_to(elsewhere)
    (runs / "alias").symlink_to(runs / "mine")
    (elsewhere / "loop").symlink_to(runs)
    (runs / "up").symlink_to(tmp_path)
    found, _ = find([runs])
    assert [run.name for run in found] == ["linked/seed1/theirs", "mine"]
    assert [run.name for run in find([runs / "alias"])[0]] == ["alias"]


def test_nothing_to_report_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("no run")
    with pytest.raises(InputError, match=f"no training and no decode under {tmp_path}"):
        find([tmp_path])
    with pytest.raises(InputError, match="there is no folder"):
        find([tmp_path / "nowhere"])


def test_state_of_running_stopped_and_finished_trainings(data, tmp_path):
    cfg = config(tmp_path, data, max_update=600)
    lines = [start(0, cfg), progress(30, 300, 2.0)]
    write_log(tmp_path / "running", *lines)
    write_log(tmp_path / "still", *lines, age=3600)
    write_log(tmp_path / "died", *lines, "Traceback (most recent call last):\n", name="log.txt")
    write_training(tmp_path / "whole", data)
    states = {run.name: run.state for run in find([tmp_path])[0]}
    assert states == {
        "running": "running",
        "still": "stopped",
        "died": "stopped",
        "whole": "done",
    }


def test_a_training_without_updates_has_one_note(data, tmp_path):
    write_log(tmp_path, start(0, config(tmp_path, data)))
    ([run], _) = find([tmp_path])
    assert [note.split(":")[0] for note in run.notes] == ["no update so far"]
    (tmp_path / "checkpoint_last.pt").touch()
    ([run], _) = find([tmp_path])
    assert "hydra_train.log has no progress line" in run.notes[0]


def test_the_empty_output_of_a_failed_decode_is_ignored(data, tmp_path):
    folder = write_training(tmp_path / "asr", data)
    (folder / "decoded").mkdir()
    (folder / "decoded/generate-test.txt").touch()
    assert find([tmp_path])[1] == []


def test_an_unreadable_checkpoint_gets_a_note(tmp_path):
    (tmp_path / "checkpoint_last.pt").write_bytes(b"PK\x03\x04 cut short")
    [run], _ = find([tmp_path])
    assert "checkpoint_last.pt is not a readable checkpoint" in run.notes[0]
    assert "no hydra_train.log" in run.notes[1]


def test_seconds_of_started_json_override_the_logs(data, tmp_path):
    folder = write_training(tmp_path / "asr", data)
    assert find([folder])[0][0].seconds == 61
    (folder / "started.json").write_text(json.dumps({"seconds": 99.5}))
    assert find([folder])[0][0].seconds == 99.5


def test_config_of_a_legacy_run_is_a_mapping():
    """fairseq-train stores the command line of a legacy task as one Namespace."""
    cfg = {"task": Namespace(_name="speech_to_text", data="d"), "optimization": {"lr": [0.1]}}
    expected = {"task": {"_name": "speech_to_text", "data": "d"}, "optimization": {"lr": [0.1]}}
    assert to_dict(cfg) == expected
    json.dumps(to_dict(cfg))


def test_lineage_ends_for_runs_that_started_from_each_other(data, tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, other in ((first, second), (second, first)):
        write_training(folder, data, init_encoder_from=str(other / "checkpoint_best.pt"))
    runs, _ = find([tmp_path])
    assert [[r.name for r in run.lineage] for run in runs] == [["b"], ["a"]]


def test_an_ensemble_does_not_belong_to_its_first_models_run(data, tmp_path):
    run = write_training(tmp_path / "a", data)
    record = write_decode(run, data, TEXTS, "attention") / "generate-test.json"
    content = json.loads(record.read_text())
    content["common_eval"]["path"] = f"{run}/checkpoint_best.pt{os.pathsep}{run}/other.pt"
    record.write_text(json.dumps(content))
    (decode,) = find([tmp_path])[1]
    assert decode.run is None
    assert decode.method == "2 models, beam 5"
