"""The SUPERB command on a tiny corpus, its data from real speech, and the s3prl interface."""

import importlib.util
import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from examples.superb.cache import source_of, store_states
from examples.superb.data import bare_phone, speech_segments, split_of
from examples.superb.data import main as prepare
from examples.superb.evaluate import evaluate
from examples.superb.results import table
from examples.superb.run import main
from examples.superb.systems import KINDS, Compared, Settings, System, check, folder_name
from manifests.errors import InputError, UnreadableClip
from manifests.features import cache_features
from mmpt_fairseq.checkpoint import load_checkpoint
from mmpt_fairseq.data.audio import normalise, read_filterbank, read_states
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from mmpt_fairseq.data.segments import parse_segments
from mmpt_fairseq.data.waveform import read_waveform
from mmpt_fairseq.models.upstreams import open_upstream
from tests.commands import BIN, ROOT, USER_DIR, run, succeeded
from tests.helpers import RATE, noise, stage_1_checkpoint, write_audio


def upstream_checkpoint(folder):
    """A checkpoint of stage 1 in a new ``folder``, after which the upstream is named."""
    folder.mkdir()
    return stage_1_checkpoint(folder / "checkpoint_best.pt")[1]


@pytest.mark.slow
def test_the_command_runs_all_steps_and_repeats_none(superb, tmp_path, monkeypatch, capfd):
    """States are stored, heads of two seeds trained, the test split scored, results written.

    The first seed tries both learning rates, the second uses the better one.
    """
    checkpoint, out = upstream_checkpoint(tmp_path / "pretrained"), tmp_path / "run"
    options = ["--upstream", str(checkpoint), "--data", str(superb), "--out", str(out)]
    options += ["--tasks", "sd", "--lrs", "0.01", "1e-9", "--updates", "9", "sd=2"]
    options += ["--seeds", "1", "2", "--checkpoints", "1", "--no-fbank"]
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    main(options)
    printed = capfd.readouterr().out
    results = json.loads((out / "results.json").read_text())
    assert results["clips"] == {"sd": {"train": 6, "valid": 6, "test": 6}}
    score, second = results["upstreams"]["pretrained"]["sd"]
    assert [score["seed"], second["seed"]] == [1, 2]
    assert score["metric"] == "der"
    swept = score["validated"]
    assert score["rate"] == second["rate"] == float(min(swept, key=swept.get))
    assert len(list(out.rglob("checkpoint_best.pt"))) == 3
    assert score["spoken"] == 6 * 88
    assert score["missed"] + score["false_alarms"] + score["confused"] > 0
    assert np.isclose(sum(score["weights"]), 1)
    assert len(score["weights"]) == 3
    assert f"| pretrained | {(score['value'] + second['value']) / 2:.1f} ± " in printed
    assert "Clips (train / valid / test): sd 6 / 6 / 6." in printed
    assert (out / "layer_weights.svg").read_text().startswith("<svg")
    states = out / "pretrained" / "sd" / "states1"
    stored = Manifest(states / "test.tsv")
    source = torch.from_numpy(normalise(read_filterbank(stored.resolve("recording", 0))))
    hidden = open_upstream(str(checkpoint))(source[None], torch.tensor([len(source)]))

    kept = torch.from_numpy(read_states(stored.resolve("audio", 0)))
    assert torch.allclose(kept, hidden.states[0], atol=1e-2)

    finished = {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")}
    main(options)
    assert "\n$ " not in f"\n{capfd.readouterr().err}"
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")} == finished


@pytest.mark.slow
def test_a_task_trains_with_the_upstream_in_the_loop(superb, tmp_path):
    """Phoneme recognition; evaluating its checkpoint does not need the upstream's file."""
    checkpoint = upstream_checkpoint(tmp_path / "pretrained")
    command = [BIN / "fairseq-hydra-train", "--config-dir", ROOT / "examples/superb/config"]
    command += ["--config-name", "phoneme_recognition", f"task.data={superb / 'pr'}"]
    command += [f"checkpoint.save_dir={tmp_path / 'run'}", f"common.user_dir={USER_DIR}"]
    command += ["optimization.max_update=2", "dataset.num_workers=0"]
    succeeded(run([*command, f"model.upstream={checkpoint}"]))
    checkpoint.unlink()
    found = evaluate(
        tmp_path / "run" / "checkpoint_best.pt", superb / "pr", "test", "valid", tmp_path / "test"
    )
    assert (found["metric"], found["of"]) == ("per", 12)
    lines = (tmp_path / "test" / "predictions.tsv").read_text().splitlines()
    assert len(lines) == 7
    assert lines[1].split("\t")[:2] == ["ab", "a b"]


@pytest.mark.slow
def test_another_upstream_of_the_same_name_is_not_taken_for_the_first(
    superb, tmp_path, monkeypatch
):
    """With the upstream in the loop, in a folder whose name Hydra would not parse unquoted."""
    folder = tmp_path / "données (1), a's"
    folder.mkdir()
    checkpoint = upstream_checkpoint(folder / "enc")
    options = ["--upstream", str(checkpoint), "--data", str(superb), "--out", str(folder / "run")]
    options += ["--tasks", "ks", "--updates", "1", "--checkpoints", "1", "--no-fbank", "--no-cache"]
    monkeypatch.chdir(ROOT)
    main([*options, "--lrs", "1e-9"])
    main([*options, "--lrs", "1e-9", "0.01"])  # whichever is better
    state = load_checkpoint(checkpoint)
    state["model"] = {name: 2 * weight for name, weight in state["model"].items()}
    torch.save(state, checkpoint)
    with pytest.raises(SystemExit, match="was created from different files"):
        main([*options, "--lrs", "1e-9"])


def test_upstreams_of_one_name_and_missing_files_are_refused(superb, tmp_path):
    first, second = (upstream_checkpoint(tmp_path / name) for name in ("one", "two"))
    names = [str(first), "x/hubert_base.pt", "fbank", f"random:{first}"]
    assert [folder_name(name) for name in names] == ["one", "hubert_base", "fbank", "random"]
    assert Compared.parse(str(first)) == Compared("one", (str(first),))
    pair = Compared.parse(f"stage1={first},{second}")
    assert pair == Compared("stage1", (str(first), str(second)))

    def check_all(*upstreams: str) -> None:
        compared = [Compared.parse(name) for name in upstreams]
        check(compared, superb, list(KINDS), Settings(seeds=(1, 2)))

    check_all(str(first), str(second), f"again={first}")
    with pytest.raises(InputError, match=r"two upstreams are called 'one'; name one: NAME=.*one"):
        check_all(str(first), str(first))
    with pytest.raises(InputError, match=r"there is no .*gone.pt"):
        check_all(f"a={first},{tmp_path / 'gone.pt'}")
    with pytest.raises(InputError, match=r"there is no .*train.tsv"):
        check([Compared.parse("fbank")], tmp_path, ["ks"], Settings())
    with pytest.raises(InputError, match="a has 3 encoders, one per seed, but there are 2 seeds"):
        check_all(f"a={first},{second},{first}")
    with pytest.raises(InputError, match=r"'\.\.' is no name for an upstream"):
        check_all(f"..={first}")


def test_clips_too_long_for_stored_states_are_refused(superb, tmp_path):
    shutil.copytree(superb / "ks", tmp_path / "ks")
    path = tmp_path / "ks/test.tsv"
    lines = path.read_text(encoding="utf-8").splitlines()
    place = lines[0].split("\t").index("n_frames")
    cells = lines[1].split("\t")
    cells[place] = "6001"
    path.write_text("\n".join([lines[0], "\t".join(cells), *lines[2:]]) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"has 6001 frames .*--no-cache"):
        check([], tmp_path, ["ks"], Settings())
    check([], tmp_path, ["ks"], Settings(cached=False))
    with pytest.raises(InputError, match="has 6001 frames"):
        store_states("fbank", tmp_path / "ks", tmp_path / "states")


def test_unusable_options_are_refused(superb, tmp_path, capsys):
    options = ["--data", str(superb), "--out", str(tmp_path)]
    for wrong, message in [
        (["--no-fbank"], "leaves nothing to compare"),
        (["--checkpoints", "0"], "0 is not a number from 1 on"),
    ]:
        with pytest.raises(SystemExit):
            main([*options, *wrong])
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "given", "message"),
    [
        ("ic", "ks", "has one label where intent_classification takes several slots"),
        ("ks", "ic", "has 2 labels where keyword_spotting takes one"),
        ("pr", "ks", "Is this a manifest of keyword_spotting"),
        ("sd", "pr", "nobody speaks in"),
        ("pr", "sd", "the column tgt_text is empty"),
    ],
)
def test_manifests_of_another_task_are_refused_before_training(
    superb, tmp_path, task, given, message
):
    (tmp_path / task).symlink_to(superb / given)
    with pytest.raises(InputError, match=message):
        check([], tmp_path, [task], Settings())


def test_encoders_of_one_upstream_are_assigned_to_seeds_in_turn(tmp_path):
    """Two encoders, three seeds: first, second, first; untrained ones differ for each seed."""

    def systems(argument: str) -> list[System]:
        settings = Settings(seeds=(5, 6, 7))
        upstream = Compared.parse(argument)
        return [System(upstream, "ks", i, tmp_path, tmp_path, settings) for i in range(3)]

    assigned = systems("stage1=a.pt,b.pt")
    assert [system.source for system in assigned] == ["a.pt", "b.pt", "a.pt"]
    assert [system.states.name for system in assigned] == ["states1", "states2", "states1"]
    assert [system.states.name for system in systems("random:a.pt")] == [
        "states5",
        "states6",
        "states7",
    ]
    assert {system.leader.seed for system in assigned} == {5}


def test_the_table_includes_published_figures():
    score = {"value": 50.0, "rate": None, "validated": {"s3prl": 1.0}}
    found = {"fbank": {task: [score] for task in ("ks", "sd")}}
    found["fbank"]["ic"] = [{**score, "slots": [1.0, 60.0]}, {**score, "slots": [2.0, 70.0]}]
    counts = {task: {"train": 1, "valid": 2, "test": 3} for task in ("ks", "sd", "ic")}
    lines = table(found, ["ks", "sd"], counts).splitlines()
    assert "| fbank | 50.0 | 50.0 |" in lines
    assert "| published: HuBERT Base on SUPERB's own corpora | 96.30 | 5.88 |" in lines
    slots = table(found, ["ic"], counts).splitlines()
    assert "IC, accuracy % of each slot alone: fbank 1.5 / 65.0." in slots


@pytest.mark.parametrize("value", ["none", "xy=3", "sd=", "0"])
def test_invalid_updates_are_refused(value, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--data", str(tmp_path), "--updates", value])
    assert f"--updates takes N or TASK=N (ks, ic, pr, sd), not '{value}'" in capsys.readouterr().err


def test_speech_segments_follow_loudness():
    """Half a second each of noise, silence, noise and silence."""
    silence = np.zeros(RATE // 2, np.float32)
    waveform = np.concatenate([noise(0.5), silence, noise(0.5, seed=1), silence])
    segments = speech_segments(waveform)
    assert np.allclose(segments, [(0, 0.5), (1.0, 1.5)], atol=0.03)


def test_phones_are_bare_and_splits_have_their_ratios():
    phones = [bare_phone(name) for name in ("'eI", "_:", "t#", "", "@", "%I2", ";")]
    assert phones == ["eI", "", "t#", "", "@", "I2", ""]
    splits = [split_of(f"speaker{i}") for i in range(2000)]
    ratios = [splits.count(s) / 2000 for s in ("train", "valid", "test")]
    assert np.allclose(ratios, [0.7, 0.1, 0.2], atol=0.03)


@pytest.mark.real_data
@pytest.mark.slow
def test_splits_of_real_data_are_disjoint(real_data, tmp_path):
    """On links to a few clips, splits share no file, and for SD no speaker."""
    corpora = tmp_path / "data"
    folders = sorted((real_data / "keywords").iterdir())
    chosen = [path for folder in folders for path in sorted(folder.glob("*.ogg"))[:8]]
    for path in (*chosen, *real_data.glob("librispeech/train-clean-100/1*.ogg")):
        target = corpora / path.relative_to(real_data)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    import examples.superb.data as data

    small = {"train": 3, "valid": 1, "test": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "MIXTURES", small)
        prepare(["--data", str(corpora), "--out", str(tmp_path / "out"), "--tasks", "ks", "sd"])
    ids, speakers = [], []
    recordings = sorted(corpora.glob("keywords/*/*.ogg"))
    for split, count in small.items():
        classes = Manifest(tmp_path / "out" / "ks" / f"{split}.tsv")
        ids += list(classes.column("id"))
        assert set(classes.column("tgt_text")) <= {p.name for p in (corpora / "keywords").iterdir()}
        mixtures = Manifest(tmp_path / "out" / "sd" / f"{split}.tsv")
        assert len(mixtures) == count
        found = set()
        for row in range(count):
            parsed = list(parse_segments(mixtures.column("segments")[row], "here"))
            assert len({name for name, _, _ in parsed}) == 2
            end = len(read_waveform(mixtures.resolve("audio", row))) / RATE
            assert max(last for _, _, last in parsed) <= end + 0.03
            found |= {name for name, _, _ in parsed}
        speakers.append(found)
    assert sorted(ids) == sorted(f"{path.parent.name}_{path.stem}" for path in recordings)
    assert len(set.union(*speakers)) == sum(map(len, speakers))
    # With filterbanks: nothing is generated again, and the recordings can still be found.
    mixtures = Manifest(tmp_path / "out" / "sd" / "test.tsv")
    features = read_filterbank(mixtures.resolve("audio", 0))
    prepare(["--out", str(tmp_path / "out"), "--tasks", "sd", "--features"])
    cached = Manifest(tmp_path / "out" / "sd" / "test.tsv")
    assert cached.resolve("recording", 0) == mixtures.resolve("audio", 0)
    assert np.array_equal(read_filterbank(cached.resolve("audio", 0)), features)


@pytest.fixture
def expert(tmp_path):
    """The upstream as s3prl loads it: two modules in a package of their own."""
    name = "superb_s3prl_upstream"
    spec = importlib.util.spec_from_file_location(
        name, ROOT / "examples/s3prl/hubconf.py", submodule_search_locations=[]
    )
    module = importlib.util.module_from_spec(spec)
    module.__path__ = [str(ROOT / "examples/s3prl")]
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module.mmpt_local(str(upstream_checkpoint(tmp_path / "stage1")))
    for loaded in [m for m in sys.modules if m.startswith(name)]:
        del sys.modules[loaded]


def test_the_upstream_satisfies_s3prls_interface(expert):
    """s3prl's Featurizer needs a list of layers, lengths by the stride and batch invariance."""
    clips = [torch.from_numpy(noise(seconds, seed=i)) for i, seconds in enumerate([1.0, 0.73, 0.3])]
    assert all(p.requires_grad for p in expert.parameters())  # s3prl may train it
    expert.eval().requires_grad_(False)  # as it does by default
    found = expert(clips)
    rate = expert.get_downsample_rates("hidden_states")
    assert rate == 640
    states = found["hidden_states"]
    assert [tuple(s.shape) for s in states] == [(3, 25, 16)] * 3
    assert torch.equal(found["last_hidden_state"], states[-1])
    for i, clip in enumerate(clips):
        # s3prl keeps round(samples / rate) states of a clip and tolerates a difference below 5.
        alone = expert([clip])["hidden_states"]
        assert abs(alone[0].size(1) - round(len(clip) / rate)) <= 1
        for layer, single in zip(states, alone, strict=True):
            assert torch.allclose(layer[i, : single.size(1)], single[0], atol=1e-5)
            assert not layer[i, single.size(1) :].any()
    with pytest.raises(UnreadableClip, match="less than one 25 ms frame"):
        expert([torch.zeros(100)])
    with pytest.raises(FileNotFoundError, match="give it with -k"):
        sys.modules["superb_s3prl_upstream"].mmpt_local("nowhere.pt")


def test_the_torchaudio_replacement_reads_and_applies_gain(tmp_path):
    """The sox effects of s3prl's keyword spotting work; any other is refused."""
    spec = importlib.util.spec_from_file_location(
        "without_torchaudio", ROOT / "examples/s3prl/without_torchaudio.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path = write_audio(tmp_path / "a.wav", noise(0.2))
    effects = [["channels", "1"], ["rate", "16000"], ["gain", "-3.0"]]
    louder, rate = module.load(path)
    quieter, _ = module.apply_effects_file(path, effects)
    assert (rate, tuple(quieter.shape)) == (RATE, (1, RATE // 5))
    assert torch.allclose(20 * torch.log10(quieter.norm() / louder.norm()), torch.tensor(-3.0))
    with pytest.raises(ValueError, match="needs sox"):
        module.apply_effects_file(path, [["reverb"]])


def test_upstreams_of_waveforms_read_the_recording_behind_cached_filterbanks(tmp_path):
    """Upstreams of filterbanks read the cache."""
    write_audio(tmp_path / "a.wav", noise(0.3))
    row = {"id": "a", "audio": "a.wav", "n_frames": 28, "tgt_text": "yes"}
    write_manifest(tmp_path / "train.tsv", [row])
    cache_features(tmp_path / "features.zip", [tmp_path])
    manifest = Manifest(tmp_path / "train.tsv")
    sources = [
        source_of(SimpleNamespace(reads=reads), manifest, 0) for reads in ("waveform", "filterbank")
    ]
    assert sources == [str(tmp_path / "a.wav"), manifest.resolve("audio", 0)]
    assert sources[0] != sources[1]


def test_states_of_a_row_that_is_too_long_are_not_stored(tmp_path):
    """Its audio stays as it was: training leaves it out, evaluation stops at it."""
    write_audio(tmp_path / "a.wav", noise(0.3))
    rows = [
        {"id": name, "audio": "a.wav", "n_frames": frames, "tgt_text": "yes"}
        for name, frames in (("short", 28), ("long", 6001))
    ]
    write_manifest(tmp_path / "train.tsv", rows)
    store_states("fbank", tmp_path, tmp_path / "states", mean=True)
    stored = Manifest(tmp_path / "states" / "train.tsv")
    assert read_states(stored.resolve("audio", 0)).shape == (1, 1, 240)
    assert stored.column("audio")[1] == "../a.wav"
