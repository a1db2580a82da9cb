"""The probe: what is averaged, what is chosen by which data, and retrieval; then a small run."""

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
def test_four_segments(length):
    """Each state written four times falls into whole segments, whatever the length."""
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


def test_words_are_cut_by_their_times(manifests):
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


def test_an_encoder_is_pooled_clip_by_clip(manifests, stages):
    """Batched and padded, the vectors are those of ``extract_features`` on each file alone."""
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


def test_what_is_stored_is_what_is_classified(manifests, tmp_path):
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
    """Four speakers; ``good`` tells the label, ``trap`` only dora's, ``noise`` nothing."""
    rng = np.random.default_rng(0)
    groups = np.array(["anna", "ben", "carl", "dora"]).repeat(60)
    labels = np.tile(["a", "b", "c"], 80)
    told = np.eye(3)[np.tile([0, 1, 2], 80)].astype("float32")
    views = {
        "noise": rng.standard_normal((240, 3)),
        "good": told + 0.4 * rng.standard_normal((240, 3)),
        "trap": np.where(groups[:, None] == "dora", 9 * told, rng.standard_normal((240, 3))),
    }
    path = tmp_path / "vectors.npz"
    np.savez(path, labels=labels, groups=groups, **views)
    return path


def test_views_are_chosen_without_the_test_speaker(vectors):
    found = classify.score("digits", classify.Clips(vectors), ["noise", "good", "trap"])
    assert {test["view"] for test in found["tests"].values()} == {"good"}
    assert list(found["tests"]) == ["anna", "ben", "carl", "dora"]
    assert found["accuracy"] > 75
    alone = classify.score("digits", classify.Clips(vectors), ["noise"])
    assert alone["accuracy"] < 50


def test_folds_hold_out_whom_they_test():
    speakers = np.array(["a", "b", "c", "c"])
    for speaker, (train, inner) in classify.folds("digits", speakers).items():
        assert train == {"a", "b", "c"} - {speaker}
        assert sorted(valid for _, valid in inner) == sorted(train)
        assert all(speaker not in learnt and valid not in learnt for learnt, valid in inner)
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
def test_energy_finds_clips_whose_brightness_follows_it(monkeypatch, follows, low, high, tmp_path):
    curves = np.random.default_rng(0).uniform(0, 1, (60, 25))
    rows = [
        {"id": i, "audio": f"{i}", "n_frames": 100, "video": f"{i}", "video_frames": 25}
        for i in range(60)
    ]
    write_manifest(tmp_path / "train.tsv", rows[:30])
    write_manifest(tmp_path / "test.tsv", rows[30:])

    def loud(source):
        return 10 * curves[int(source.split("/")[-1])].repeat(4)[:, None] + np.zeros((1, 80))

    def bright(source, wanted):
        number = int(source.split("/")[-1])
        seen = curves[number if follows else (number + 7) % 60][wanted]
        return (200 * seen[:, None, None, None] + np.zeros((1, 8, 8, 3))).astype("uint8")

    monkeypatch.setattr(retrieval, "read_filterbank", loud)
    monkeypatch.setattr(retrieval, "read_frames", bright)
    found = retrieval.recalls(*retrieval.energy_baseline(tmp_path, 100, 30))
    assert all(low <= value <= high for value in found.values())
    with pytest.raises(InputError, match="has 30 clips of 100 frames or more, not 40"):
        retrieval.energy_baseline(tmp_path, 100, 40)


def test_recalls_in_both_directions():
    """The first sound is nearest to the second clip's pictures; the others find their own."""
    sound = torch.eye(3)[[1, 1, 2]]
    pictures = torch.nn.functional.normalize(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]))
    assert retrieval.recalls(sound, pictures) == pytest.approx(
        {"audio to video": 200 / 3, "video to audio": 100 / 3}
    )


def test_controls_stand_below_what_they_are_of():
    def found(sound, pictures):
        return {"audio to video": sound, "video to audio": pictures}

    def told(digits):
        return {"digits": {"accuracy": digits}, "words": {"accuracy": 96.0}}

    runs = [{**found(38.0 + i, 42.0), "controls": {"mirrored": found(39.0, 44.0)}} for i in (0, 2)]
    drawn = {"energy": [found(29.0, 34.0)], "clr": runs}
    scores = {f"{corpus}mae": [told(60.0), told(64.0)] for corpus in ("", "drawn_")}
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


def test_a_control_changes_one_thing():
    """Each pixel and each frame tells where it came from."""
    pictures = torch.arange(2 * 3 * 4 * 10 * 10, dtype=torch.int16).reshape(2, 3, 4, 10, 10)
    sound = torch.arange(2.0 * 30 * 5).reshape(2, 30, 5)
    before = pictures.clone(), sound.clone()
    changed = {name: control(pictures, sound) for name, control in CONTROLS.items()}
    assert torch.equal(pictures, before[0])
    assert torch.equal(sound, before[1])
    for name, (seen, heard) in changed.items():
        assert seen.shape == pictures.shape
        assert torch.equal(heard, sound) == ("sound" not in name)
        assert torch.equal(seen, pictures) == ("sound" in name)
    hidden, alone = changed["the mouth hidden"][0], changed["the mouth alone"][0]
    assert (hidden[..., 6:9, 3:7] == 128).all()
    assert torch.equal((hidden == pictures) | (alone == pictures), torch.ones_like(hidden).bool())
    for name, order in (
        ("the first picture instead of all", [0, 0, 0, 0]),
        ("pictures backwards", [3, 2, 1, 0]),
    ):
        assert torch.equal(changed[name][0], pictures[:, :, order])
    assert torch.equal(changed["mirrored"][0], pictures[..., list(range(9, -1, -1))])
    in_another_order = changed["pictures in another order"][0]
    assert sorted(in_another_order[0, 0, :, 0, 0]) == sorted(pictures[0, 0, :, 0, 0])
    assert torch.equal(changed["the sound 100 ms late"][1][:, 10:], sound[:, :-10])


@pytest.fixture
def corpora_of_a_few(real_data, tmp_path):
    """Sixteen GRID clips, two utterances each of LibriSpeech and ARCTIC, fifty digits."""
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
def test_a_small_probe_of_real_speech(corpora_of_a_few, tmp_path, monkeypatch):
    """From the corpora to scores and recalls, with one update of MAE+CLR between."""
    out = tmp_path / "out"
    counts = prepare(corpora_of_a_few, out / "real")
    assert (counts["faces/train"], counts["faces/valid"], counts["faces/test"]) == (12, 2, 2)
    assert counts["digits/all"] == 50
    assert counts["pretrain/train"] > 12 + 4
    monkeypatch.chdir(ROOT)  # where the configs are
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    small = ["model.encoder_layers=1", "model.video_layers=1", "dataset.num_workers=0"]
    settings = Settings({"mae_clr": 1}, overrides=tuple(small))
    checkpoint = Probe(corpora_of_a_few, out, settings).train("mae_clr", 1)
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
