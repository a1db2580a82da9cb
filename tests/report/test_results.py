"""Result tables: seeds, baselines, and rejected comparisons."""

import json
import shutil

import numpy as np
import pytest

from manifests.errors import InputError
from mmpt_fairseq.report.discovery import find
from mmpt_fairseq.report.intervals import count, mean_interval, relative_difference
from mmpt_fairseq.report.results import tables
from mmpt_fairseq.scoring import error_rates
from tests.report.folders import (
    config,
    progress,
    sentences,
    start,
    with_errors,
    write_decode,
    write_log,
    write_test_set,
    write_training,
)

TEXTS = sentences(24)


@pytest.fixture
def data(tmp_path):
    return write_test_set(tmp_path / "data", TEXTS, src_lang="en", tgt_lang="en")


def only_table(*folders):
    [table], notes = tables(find(folders)[1])
    assert not notes
    return table


def test_a_run_is_compared_with_the_one_from_scratch(data, tmp_path):
    runs = tmp_path / "runs"
    stage1 = write_training(runs / "pretrained", data)
    write_training(runs / "scratch", data)
    write_training(runs / "asr", data, init_encoder_from=str(stage1 / "checkpoint_best.pt"))
    bad, good = with_errors(TEXTS, 2), with_errors(TEXTS, 5)
    write_decode(runs / "scratch", data, bad)
    write_decode(runs / "asr", data, good)
    table = only_table(runs)
    assert (table.title, table.split, table.size) == ("Recognition of en", "test", "24")
    scratch, asr = table.rows
    assert (scratch.name, scratch.stages, asr.name) == ("scratch", "scratch", "asr")
    theirs, ours = (count(TEXTS, texts, "word") for texts in (bad, good))
    assert scratch.scores["word"] == mean_interval([theirs])
    assert asr.scores["char"].value == pytest.approx(error_rates(TEXTS, good)["cer"])
    assert asr.baseline is scratch
    assert asr.vs_baseline["word"] == relative_difference([ours], [theirs])
    assert not scratch.vs_baseline
    assert table.best is asr
    assert table.is_best(asr, "word")
    assert not table.is_best(scratch, "word")


def test_the_baseline_has_the_same_decoding_and_the_nearest_budget(data, tmp_path):
    for name, updates in [("short", 100), ("long", 200)]:
        folder = write_training(tmp_path / name, data)
        cfg = config(folder, data, max_update=updates)
        write_log(folder, start(0, cfg), progress(9, updates, 1.0))
        write_decode(folder, data, with_errors(TEXTS, 2))
    asr = write_training(tmp_path / "asr", data, init_encoder_from=str(tmp_path / "gone.pt"))
    write_log(
        asr,
        start(0, config(asr, data, 200, init_encoder_from=str(tmp_path / "gone.pt"))),
        progress(9, 190, 1.0),
    )
    write_decode(asr, data, TEXTS)
    rows = {row.name: row for row in only_table(tmp_path).rows}
    assert rows["asr"].baseline is rows["long"]
    assert rows["asr"].stages == "unknown start"


def test_a_run_with_other_transcripts_or_decoding_is_no_baseline(data, tmp_path):
    tenth = write_test_set(tmp_path / "tenth", TEXTS, src_lang="en", tgt_lang="en")
    write_test_set(tenth, TEXTS[:2], "train", src_lang="en", tgt_lang="en")
    write_test_set(data, TEXTS, "train", src_lang="en", tgt_lang="en")
    copied = write_test_set(tmp_path / "copied", TEXTS, src_lang="en", tgt_lang="en")
    write_test_set(copied, TEXTS, "train", src_lang="en", tgt_lang="en")
    runs = tmp_path / "runs"
    for name, folder, decoding in [
        ("tenth", tenth, "ctc"),
        ("scratch", data, "joint"),
        ("whole", copied, "ctc"),
    ]:
        write_decode(write_training(runs / name, folder), folder, with_errors(TEXTS, 2), decoding)
    asr = write_training(runs / "asr", data, init_encoder_from="gone.pt")
    write_decode(asr, data, TEXTS)
    rows = {row.name: row for row in only_table(runs).rows}
    assert rows["asr"].baseline is rows["whole"]
    shutil.rmtree(runs / "whole")
    rows = {row.name: row for row in only_table(runs).rows}
    assert rows["asr"].baseline is None
    assert not rows["asr"].vs_baseline


def test_a_decode_without_references_is_reported_and_the_others_shown(tmp_path):
    """As for new, untranscribed speech."""
    for name, texts in {"good": TEXTS, "new": [*TEXTS[:-1], ""]}.items():
        data = write_test_set(tmp_path / "data" / name, texts)
        write_decode(write_training(tmp_path / name, data), data, TEXTS)
    [table], [note] = tables(find([tmp_path / "good", tmp_path / "new"])[1])
    assert [row.name for row in table.rows] == ["good"]
    assert "has no text to score against" in str(note)
    assert "line 25" in str(note)


@pytest.mark.parametrize(
    ("options", "frozen"),
    [
        ({}, "no"),
        ({"freeze_encoder": True}, "yes"),
        (
            {"freeze_encoder_updates": 50, "freeze_encoder_layers": 2},
            "the first 50 updates and the first 2 layers",
        ),
        (
            {"freeze_encoder_updates": 50, "fresh_encoder_layers": 2},
            "the first 50 updates, except 2 fresh layers",
        ),
    ],
)
def test_description_of_frozen_parts(data, tmp_path, options, frozen):
    write_decode(write_training(tmp_path / "asr", data, **options), data, TEXTS)
    [row] = only_table(tmp_path / "asr").rows
    assert row.frozen == frozen


def test_seeds_of_one_system_are_one_row(data, tmp_path):
    one_error_in = {1: 2, 2: 3, 3: 4}
    for seed, every in one_error_in.items():
        folder = write_training(tmp_path / f"seed{seed}" / "scratch", data, seed=seed)
        write_decode(folder, data, with_errors(TEXTS, every))
    [row] = only_table(tmp_path).rows
    rates = [
        error_rates(TEXTS, with_errors(TEXTS, every))["wer"] for every in one_error_in.values()
    ]
    assert row.name == "seed*/scratch"
    assert row.scores["word"].value == pytest.approx(np.mean(rates))
    assert row.deviation("word") == pytest.approx(np.std(rates, ddof=1))
    assert [scores["word"] for scores in row.by_seed.values()] == pytest.approx(rates)


def test_seeds_may_have_different_test_sets(tmp_path):
    """Systems are compared within each seed; one with another test set for a seed is rejected."""
    for seed in (1, 2):
        texts = sentences(20 + seed)
        data = write_test_set(tmp_path / f"data{seed}", texts)
        for name, every in [("scratch", 2), ("asr", 4)]:
            start_path = None if name == "scratch" else "gone.pt"
            folder = tmp_path / "runs" / f"seed{seed}" / name
            write_training(folder, data, seed=seed, init_encoder_from=start_path)
            write_decode(folder, data, with_errors(texts, every))
    table = only_table(tmp_path / "runs")
    assert table.size == "21, 22"
    assert [row.name for row in table.rows] == ["seed*/scratch", "seed*/asr"]
    assert table.rows[1].vs_baseline["word"].high < 0
    odd = write_training(tmp_path / "runs" / "odd", tmp_path / "data2", seed=1)
    write_decode(odd, tmp_path / "data2", sentences(22))
    with pytest.raises(InputError, match="different test sets"):
        tables(find([tmp_path / "runs"])[1])


def test_runs_with_the_same_seed_are_separate_rows(data, tmp_path):
    for name in ("seed1", "seed2"):
        write_decode(write_training(tmp_path / name, data, seed=1), data, TEXTS)
    assert [row.name for row in only_table(tmp_path).rows] == ["seed1", "seed2"]


def test_different_test_sets_in_one_table_are_rejected(data, tmp_path):
    """They have the same name and number of rows, but one text differs."""
    other = write_test_set(tmp_path / "b", [*TEXTS[:-1], "six"], src_lang="en", tgt_lang="en")
    for name, folder in [("one", data), ("two", other)]:
        write_decode(write_training(tmp_path / name, folder), folder, TEXTS)
    with pytest.raises(InputError) as error:
        tables(find([tmp_path])[1])
    message = str(error.value)
    assert "different test sets" in message
    for part in (data / "test.tsv", other / "test.tsv", f"mmpt-report {tmp_path / 'one'}"):
        assert str(part) in message


def test_copies_of_a_test_set_are_the_same_test_set(data, tmp_path):
    shutil.copytree(data, tmp_path / "copy")
    for name, folder in [("one", data), ("two", tmp_path / "copy")]:
        write_decode(write_training(tmp_path / name, folder), folder, TEXTS)
    assert len(only_table(tmp_path).rows) == 2


def test_splits_languages_and_tasks_have_separate_tables(data, tmp_path):
    write_test_set(data, TEXTS[:9], "dev", src_lang="en", tgt_lang="en")
    german = write_test_set(tmp_path / "de", TEXTS[:5], src_lang="en", tgt_lang="de")
    asr = write_training(tmp_path / "asr", data)
    write_decode(asr, data, TEXTS)
    write_decode(asr, data, TEXTS[:9], split="dev")
    write_decode(write_training(tmp_path / "st", german), german, TEXTS[:5])
    found, _ = tables(find([tmp_path])[1])
    titles = [(table.title, table.split, table.size) for table in found]
    assert titles == [
        ("Recognition of en", "dev", "9"),
        ("Recognition of en", "test", "24"),
        ("Translation to de", "test", "5"),
    ]
    assert list(found[2].rows[0].scores) == ["bleu"]


@pytest.mark.parametrize(
    ("last", "unit"),
    [
        ("Generate test with beam=5: BLEU = 3.20 20.0/5.1/2.0/0.5 (BP = 1.000)", "bleu"),
        ("Generate test with beam=5: WER: 31.20", "word"),
        ("Generate test with beam=5: BLEU4 = 3.20, 20.0/5.1/2.0/0.5 (BP=1.000)", "word"),
    ],
)
def test_without_languages_the_requested_metric_decides(last, unit, tmp_path):
    """fairseq computes BLEU4 if no metric is requested."""
    data = write_test_set(tmp_path / "data", TEXTS)
    results = write_decode(write_training(tmp_path / "run", data), data, TEXTS)
    with (results / "generate-test.txt").open("a") as file:
        file.write(last + "\n")
    assert unit in only_table(tmp_path).rows[0].scores


def test_decoding_methods_are_separate_rows(data, tmp_path):
    asr = write_training(tmp_path / "asr", data)
    results = write_decode(asr, data, TEXTS)
    results.rename(asr / "greedy")
    write_decode(asr, data, with_errors(TEXTS, 3), decoding="attention")
    assert [row.first.decode.method for row in only_table(tmp_path).rows] == ["CTC", "beam 5"]


def test_the_method_includes_the_language_model_weight(data, tmp_path):
    results = write_decode(write_training(tmp_path / "asr", data), data, TEXTS, "ctc_beam")
    assert only_table(tmp_path).rows[0].first.decode.method == "CTC, beam 5"
    record = json.loads((results / "generate-test.json").read_text())
    record["generation"] |= {"lm_path": "lm.pt", "lm_weight": 0.6, "lenpen": 0}
    (results / "generate-test.json").write_text(json.dumps(record))
    method = only_table(tmp_path).rows[0].first.decode.method
    assert method == "CTC, beam 5, lenpen 0, LM weight 0.6"


def test_a_damaged_record_of_a_decode_is_ignored(data, tmp_path):
    results = write_decode(write_training(tmp_path / "asr", data), data, TEXTS)
    damaged = {"task": 3, "common_eval": 5, "generation": []}
    (results / "generate-test.json").write_text(json.dumps(damaged))
    [table], _ = tables(find([tmp_path])[1])
    assert [row.name for row in table.rows] == ["asr"]


def test_an_interrupted_decode_is_reported_and_not_scored(data, tmp_path):
    write_decode(write_training(tmp_path / "whole", data), data, TEXTS)
    write_decode(write_training(tmp_path / "half", data), data, TEXTS[:11])
    [table], [note] = tables(find([tmp_path])[1])
    assert [row.name for row in table.rows] == ["whole"]
    assert "half/decoded is not scored" in note
    assert "11 of 24 rows" in note


def test_a_missing_manifest_is_reported(data, tmp_path):
    write_decode(write_training(tmp_path / "asr", data), data, TEXTS)
    shutil.rmtree(data)
    found, [note] = tables(find([tmp_path])[1])
    assert not found
    assert str(data / "test.tsv") in note


def test_a_decode_without_a_record_uses_its_trainings_data(data, tmp_path):
    results = write_decode(write_training(tmp_path / "asr", data), data, TEXTS)
    (results / "generate-test.json").unlink()
    [row] = only_table(tmp_path).rows
    assert row.name == "asr"
    printed = {"_name": None, "task": {"data": str(data), "decoding": "ctc"}}
    (results / "log.txt").write_text(f"INFO:fairseq_cli.generate:{printed}\n")
    assert only_table(tmp_path).rows[0].first.decode.method == "CTC"
