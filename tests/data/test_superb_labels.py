"""SUPERB's labels: targets from manifests, and error messages for invalid ones."""

import numpy as np
import pytest

from manifests.errors import InputError
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from mmpt_fairseq.data.superb_labels import (
    check_rows,
    make_labels,
    training_labels,
)


def manifest(folder, *texts: str, name: str = "train", column: str = "tgt_text") -> Manifest:
    rows = [
        {"id": f"c{i}", "audio": "a.wav", "n_frames": 100, column: text}
        for i, text in enumerate(texts)
    ]
    write_manifest(folder / f"{name}.tsv", rows)
    return Manifest(folder / f"{name}.tsv")


def test_intent_slots_become_class_indices(tmp_path):
    rows = manifest(tmp_path, "turn_on lights none", "turn_off heat kitchen", "turn_on heat none")
    labels = training_labels("intent_classification", rows)
    assert labels.inventory == [["turn_off", "turn_on"], ["heat", "lights"], ["kitchen", "none"]]
    assert labels.size == 6
    assert labels.target(rows, 0).tolist() == [1, 1, 1]
    again = make_labels("intent_classification", labels.inventory)
    assert again.text(again.target(rows, 1)) == "turn_off heat kitchen"


def test_phones_are_batched_and_converted_back(tmp_path):
    rows = manifest(tmp_path, "k æ t", "æ t")
    labels = training_labels("phoneme_recognition", rows)
    batch = labels.collate([labels.target(rows, i) for i in range(2)])
    assert batch["target_lengths"].tolist() == [3, 2]
    assert labels.text(batch["target"][1, :2]) == "æ t"


def test_speaker_segments_become_frame_targets(tmp_path):
    text = "ben:0.5-0.6;anna:0-0.02;ben:0.98-1.01"
    rows = manifest(tmp_path, text, "", column="segments")
    labels = training_labels("speaker_diarization", rows)
    target = labels.target(rows, 0)
    assert target.shape == (100, 2)
    assert np.flatnonzero(target[:, 0]).tolist() == [0, 1]
    assert np.flatnonzero(target[:, 1]).tolist() == [*range(50, 60), 98, 99]
    assert not labels.target(rows, 1).any()


@pytest.mark.parametrize(
    ("kind", "texts", "message"),
    [
        ("keyword_spotting", ["yes", "h e l l o"], "train.tsv, line 3 .c1. has 5 labels"),
        ("keyword_spotting", ["yes", ""], "column tgt_text is empty; fill it. Is this a manifest"),
        ("intent_classification", ["yes", "no"], "has one label where .* several slots"),
        ("intent_classification", ["a b c", "a b"], "has 2 slots where others have 3"),
        ("phoneme_recognition", ["yes", "no"], "Is this a manifest of keyword_spotting"),
        (
            "phoneme_recognition",
            ["turn_on lights none", "turn_on none none", "turn_off heat kitchen"],
            "has 3 labels, each position its own; .* of intent_classification",
        ),
        ("speaker_diarization", ["yes", "no"], "nobody speaks in .*train.tsv"),
    ],
)
def test_manifest_of_another_task_is_refused(tmp_path, kind, texts, message):
    with pytest.raises(InputError, match=message):
        training_labels(kind, manifest(tmp_path, *texts))


@pytest.mark.parametrize(
    ("kind", "texts", "unseen"),
    [
        ("keyword_spotting", ["yes", "no"], "perhaps"),
        ("intent_classification", ["a b", "c d"], "a x"),
        ("phoneme_recognition", ["a b", "c d e"], "a x"),
    ],
)
def test_label_unseen_in_training_is_refused(tmp_path, kind, texts, unseen):
    labels = training_labels(kind, manifest(tmp_path, *texts))
    valid = manifest(tmp_path, texts[0], unseen, name="valid")
    with pytest.raises(InputError, match=r"valid.tsv, line 3 .*'(perhaps|x)' does not occur in"):
        check_rows(labels, valid)


def test_declared_classes_that_differ_from_the_examples_are_refused(tmp_path):
    rows = manifest(tmp_path, "yes", "no")
    (tmp_path / "labels.txt").write_text("no yes\n")
    assert training_labels("keyword_spotting", rows).inventory == [["no", "yes"]]
    (tmp_path / "labels.txt").write_text("no yes silence\n")
    with pytest.raises(InputError, match=r"'silence', of which .*train.tsv has no example"):
        training_labels("keyword_spotting", rows)
    (tmp_path / "labels.txt").write_text("no yes\n", encoding="utf-8-sig")
    assert training_labels("keyword_spotting", rows).inventory == [["no", "yes"]]
    (tmp_path / "labels.txt").write_text("yes\n")
    with pytest.raises(InputError, match=r"labels.txt lacks 'no', which .*train.tsv has"):
        training_labels("keyword_spotting", rows)
    (tmp_path / "labels.txt").write_text("no yes no\n")
    with pytest.raises(InputError, match="declares 'no' twice"):
        training_labels("keyword_spotting", rows)
    (tmp_path / "labels.txt").write_text("no yes\n", encoding="utf-16")
    with pytest.raises(InputError, match="is not UTF-8"):
        training_labels("keyword_spotting", rows)
    (tmp_path / "labels.txt").write_text("no\nyes\n")
    with pytest.raises(InputError, match="declares 2 slots"):
        training_labels("keyword_spotting", rows)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("a:0-1;b:0-1;c:0-1", "has 3 speakers"),
        ("a:1-0.5", "is not speaker:start-end in seconds"),
        ("a:0-1;b", "'b' in the column segments is not"),
        (":0-1", "is not speaker:start-end"),
        ("a:120-240", "begins after the clip's 100 frames"),
    ],
)
def test_invalid_segments_are_refused(tmp_path, cell, message):
    rows = manifest(tmp_path, cell, column="segments")
    with pytest.raises(InputError, match=message):
        check_rows(training_labels("speaker_diarization", rows), rows)
