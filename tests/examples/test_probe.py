"""The probe: pooling, selection of views, retrieval and its controls; then a small run."""

import json

import numpy as np
import pytest
import torch

import mmpt_fairseq
from examples.corpora import SPEECH
from examples.probe import classify, pooling, retrieval
from examples.probe.controls import CONTROLS
from examples.probe.prepare import prepare, split, with_words
from examples.probe.results import tables
from examples.probe.systems import Probe, Settings
from manifests.errors import InputError
from mmpt_fairseq.data.audio import normalise, read_filterbank
from mmpt_fairseq.data.manifest import write_manifest
from mmpt_fairseq.models.upstreams import open_upstream
from tests.commands import ROOT
from tests.helpers import noise, write_audio, write_clips


@pytest.mark.parametrize("length", [1, 3, 4, 10])
def test_segment_means_weight_states_by_overlap(length):
    """Repeating each state four times makes every segment a whole number of states."""
    x = np.random.default_rng(0).standard_normal((2, length, 3)).astype("float32")
    expected = x.repeat(4, axis=1).reshape(2, 4, length, 3).mean(2).reshape(2, 12)
    np.testing.assert_allclose(pooling.segment_means(x), expected, atol=1e-6)


@pytest.fixture
def manifests(tmp_path):
    """Three digits, and a sentence of two words in each split."""
    for folder in ("digits", "words"):
        (tmp_path / folder).mkdir()
    speakers = ["anna", "ben", "anna"]
    path = write_clips(tmp_path / "digits", [0.9, 0.3, 0.6], tgt_text=list("471"), speaker=speakers)
    path.rename(path.with_name("all.tsv"))
    write_audio(tmp_path / "words" / "a.wav", noise(1.0))
    row = {"id": "a", "audio": "a.wav", "n_frames": 98, "segments": "bin:0.2-0.34;at:0.96-1.2"}
    for name in ("train", "valid", "test"):
        write_manifest(tmp_path / "words" / f"{name}.tsv", [row])
    return tmp_path


def test_words_are_cut_at_their_times(manifests):
    found = list(pooling.words(manifests))
    assert [(e.label, e.group) for e in found[:3]] == [
        ("bin", "train"),
        ("at", "train"),
        ("bin", "valid"),
    ]
    raw = read_filterbank(str(manifests / "words" / "a.wav"))
    np.testing.assert_array_equal(found[0].raw, raw[20:34])
    np.testing.assert_array_equal(found[0].normalised, normalise(raw)[20:34])
    np.testing.assert_array_equal(found[1].raw, raw[96:98])


def test_pooling_ignores_batching_and_padding(manifests, stages):
    """Pooled states of a padded batch equal those of ``extract_features`` on each file alone."""
    checkpoint = stages / "pretraining" / "checkpoint_last.pt"
    examples = list(pooling.digits(manifests))
    views = pooling.encoder_views(open_upstream(str(checkpoint)), examples)
    assert set(views) == {f"layer {n}, {name}" for n in range(3) for name in pooling.POOLINGS}
    model = mmpt_fairseq.load(checkpoint)
    for i in range(3):
        for layer in range(3):
            states = model.extract_features(manifests / "digits" / f"{i}.wav", layer)
            both = np.concatenate([states.mean(0), states.std(0)])
            np.testing.assert_allclose(views[f"layer {layer}, mean, std"][i], both, atol=1e-4)


def test_the_classifier_reads_the_stored_views(manifests, tmp_path):
    pooling.main(["filterbank", str(manifests), str(tmp_path / "vectors")])
    clips = classify.Clips(tmp_path / "vectors" / "digits.npz")
    assert clips.labels.tolist() == ["4", "7", "1"]
    assert clips.groups.tolist() == ["anna", "ben", "anna"]
    raw = read_filterbank(str(manifests / "digits" / "1.wav"))
    np.testing.assert_allclose(clips.views["log mel, mean"][1], raw.mean(0), rtol=1e-5)
    assert clips.views["log mel - mean, 4 segments"].shape == (3, 320)
    with pytest.raises(SystemExit, match=r"nothing\.npz|there is no"):
        classify.main([str(tmp_path / "nowhere"), str(tmp_path / "scores")])


@pytest.fixture
def vectors(tmp_path):
    """Four speakers; ``good`` predicts the label, ``trap`` only that of dora, ``noise`` none."""
    rng = np.random.default_rng(0)
    groups = np.array(["anna", "ben", "carl", "dora"]).repeat(60)
    labels = np.tile(["a", "b", "c"], 80)
    one_hot = np.eye(3)[np.tile([0, 1, 2], 80)].astype("float32")
    views = {
        "noise": rng.standard_normal((240, 3)),
        "good": one_hot + 0.4 * rng.standard_normal((240, 3)),
        "trap": np.where(groups[:, None] == "dora", 9 * one_hot, rng.standard_normal((240, 3))),
    }
    path = tmp_path / "vectors.npz"
    np.savez(path, labels=labels, groups=groups, **views)
    return path


def test_views_are_selected_without_the_test_speaker(vectors):
    found = classify.score("digits", classify.Clips(vectors), ["noise", "good", "trap"])
    assert {test["view"] for test in found["tests"].values()} == {"good"}
    assert list(found["tests"]) == ["anna", "ben", "carl", "dora"]
    assert found["accuracy"] > 75
    alone = classify.score("digits", classify.Clips(vectors), ["noise"])
    assert alone["accuracy"] < 50


def test_folds_hold_out_the_test_speaker():
    speakers = np.array(["a", "b", "c", "c"])
    for speaker, (train, inner) in classify.folds("digits", speakers).items():
        assert train == {"a", "b", "c"} - {speaker}
        assert sorted(valid for _, valid in inner) == sorted(train)
        assert all(speaker not in groups and valid not in groups for groups, valid in inner)
    train = frozenset(["train"])
    assert classify.folds("words", speakers) == {"test": (train, [(train, "valid")])}


def test_a_fifth_of_grid_is_held_out():
    clips = [
        {"id": i, "audio": "", "n_frames": 1, "speaker": "s1", "video": "x"} for i in range(750)
    ]
    parts = split(clips)
    assert {name: len(rows) for name, rows in parts.items()} == {
        "train": 600,
        "valid": 50,
        "test": 100,
    }
    assert sorted(row["id"] for rows in parts.values() for row in rows) == list(range(750))
    words = with_words(parts, {i: f"bin:{i}-{i + 1}" for i in range(750)})
    assert words["test"][0]["segments"] == "bin:5-6"
    assert "video" not in words["test"][0]


@pytest.mark.parametrize(("follows", "low", "high"), [(True, 95, 100), (False, 0, 30)])
def test_the_energy_baseline_finds_clips_whose_brightness_follows_energy(
    monkeypatch, follows, low, high, tmp_path
):
    curves = np.random.default_rng(0).uniform(0, 1, (60, 25))
    rows = [
        {"id": i, "audio": f"{i}", "n_frames": 100, "video": f"{i}", "video_frames": 25}
        for i in range(60)
    ]
    write_manifest(tmp_path / "train.tsv", rows[:30])
    write_manifest(tmp_path / "test.tsv", rows[30:])

    def filterbank_of(source):
        return 10 * curves[int(source.split("/")[-1])].repeat(4)[:, None] + np.zeros((1, 80))

    def frames_of(source, indices):
        number = int(source.split("/")[-1])
        brightness = curves[number if follows else (number + 7) % 60][indices]
        return (200 * brightness[:, None, None, None] + np.zeros((1, 8, 8, 3))).astype("uint8")

    monkeypatch.setattr(retrieval, "read_filterbank", filterbank_of)
    monkeypatch.setattr(retrieval, "read_frames", frames_of)
    found = retrieval.recalls(*retrieval.energy_baseline(tmp_path, 100, 30))
    assert all(low <= value <= high for value in found.values())
    with pytest.raises(InputError, match="has 30 clips of 100 frames or more, not 40"):
        retrieval.energy_baseline(tmp_path, 100, 40)


def test_recalls_in_both_directions():
    """The first clip's audio is nearest to the second's video; the others find their own."""
    audio = torch.eye(3)[[1, 1, 2]]
    video = torch.nn.functional.normalize(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]))
    assert retrieval.recalls(audio, video) == pytest.approx(
        {"audio to video": 200 / 3, "video to audio": 100 / 3}
    )


def test_the_table_lists_controls_below_their_system():
    def recall(to_video, to_audio):
        return {"audio to video": to_video, "video to audio": to_audio}

    def accuracies(digits):
        return {"digits": {"accuracy": digits}, "words": {"accuracy": 96.0}}

    runs = [
        {**recall(38.0 + i, 42.0), "controls": {"mirrored": recall(39.0, 44.0)}} for i in (0, 2)
    ]
    drawn = {"energy": [recall(29.0, 34.0)], "clr": runs}
    scores = {f"{corpus}mae": [accuracies(60.0), accuracies(64.0)] for corpus in ("", "drawn_")}
    lines = tables({"scores": scores, "recalls": {"drawn": drawn}}).splitlines()
    assert lines[2:4] == [
        "| MAE | 62.0 ± 2.8 | 96.0 ± 0.0 |",
        "| MAE, drawn faces | 62.0 ± 2.8 | 96.0 ± 0.0 |",
    ]
    assert lines[-3:] == [
        "| drawn faces, energy alone | 29.0 | 34.0 |",
        "| drawn faces, CLR | 39.0 ± 1.4 | 42.0 ± 0.0 |",
        "| the same, mirrored | 39.0 ± 0.0 | 44.0 ± 0.0 |",
    ]


def test_a_control_changes_either_video_or_audio():
    """Every pixel and every filterbank value is unique, so that its origin is known."""
    video = torch.arange(2 * 3 * 4 * 10 * 10, dtype=torch.int16).reshape(2, 3, 4, 10, 10)
    audio = torch.arange(2.0 * 30 * 5).reshape(2, 30, 5)
    before = video.clone(), audio.clone()
    changed = {name: control(video, audio) for name, control in CONTROLS.items()}
    assert torch.equal(video, before[0])
    assert torch.equal(audio, before[1])
    for name, (new_video, new_audio) in changed.items():
        assert new_video.shape == video.shape
        assert torch.equal(new_audio, audio) == ("audio" not in name)
        assert torch.equal(new_video, video) == ("audio" in name)
    hidden, alone = changed["all but the mouth region"][0], changed["only the mouth region"][0]
    assert (hidden[..., 6:9, 3:7] == 128).all()
    assert torch.equal((hidden == video) | (alone == video), torch.ones_like(hidden).bool())
    for name, order in (
        ("first frame repeated", [0, 0, 0, 0]),
        ("frames reversed", [3, 2, 1, 0]),
    ):
        assert torch.equal(changed[name][0], video[:, :, order])
    assert torch.equal(changed["mirrored"][0], video[..., list(range(9, -1, -1))])
    reordered = changed["frames shuffled"][0]
    assert sorted(reordered[0, 0, :, 0, 0]) == sorted(video[0, 0, :, 0, 0])
    assert torch.equal(changed["audio 100 ms late"][1][:, 10:], audio[:, :-10])


@pytest.fixture
def small_corpora(real_data, tmp_path):
    """Sixteen GRID clips, two utterances each of LibriSpeech and ARCTIC, and fifty digits."""
    data = tmp_path / "data"
    chosen = [
        *sorted((real_data / "fsdd").glob("[0-4]_*_[12].wav")),
        *(p for f in SPEECH for p in sorted((real_data / f).rglob("*.ogg"))[:2]),
    ]
    for path in chosen:
        link = data / path.relative_to(real_data)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    (data / "grid").mkdir()
    (data / "grid" / "video").symlink_to(real_data / "grid" / "video")
    lines = (real_data / "grid" / "clips.tsv").read_text().splitlines()[:17]
    (data / "grid" / "clips.tsv").write_text("\n".join(lines) + "\n")
    return data


@pytest.mark.real_data
@pytest.mark.slow
def test_a_small_probe_of_real_speech(small_corpora, tmp_path, monkeypatch):
    """From the corpora to scores and recalls, with one update of MAE+CLR in between."""
    out = tmp_path / "out"
    counts = prepare(small_corpora, out / "real")
    assert (counts["faces/train"], counts["faces/valid"], counts["faces/test"]) == (12, 2, 2)
    assert counts["digits/all"] == 50
    assert counts["pretrain/train"] > 12 + 4
    monkeypatch.chdir(ROOT)  # where the configs are
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    small = ["model.encoder_layers=1", "model.video_layers=1", "dataset.num_workers=0"]
    settings = Settings({"mae_clr": 1}, overrides=tuple(small))
    checkpoint = Probe(small_corpora, out, settings).train("mae_clr", 1)
    pooling.main([str(checkpoint), str(out / "real"), str(out / "vectors")])
    classify.main([str(out / "vectors"), str(out / "scores")])
    found = json.loads((out / "scores" / "scores.json").read_text())
    assert set(found["digits"]["tests"]) == {"george", "jackson", "lucas", "nicolas", "theo"}
    assert list(found["words"]["tests"]) == ["test"]
    assert 0 <= found["words"]["accuracy"] <= 100
    views = found["digits"]["tests"]["theo"]["validated"]
    assert set(views) == {f"layer {n}, {name}" for n in (0, 1) for name in pooling.POOLINGS}
    for source in (str(checkpoint), "energy"):
        arguments = [source, str(out / "real" / "faces"), str(out / "recall.json"), "--clips", "2"]
        controls = [] if source == "energy" else ["--controls"]
        retrieval.main([*arguments, "--frames", "290", *controls])
        recall = json.loads((out / "recall.json").read_text())
        if source != "energy":
            assert len(recall.pop("controls")) == len(CONTROLS)
        assert set(recall) == {"audio to video", "video to audio"}
        assert set(recall.values()) <= {0.0, 50.0, 100.0}
