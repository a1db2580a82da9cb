import math

import pytest
import torch

import mmpt_fairseq
from mmpt_fairseq.average import main
from mmpt_fairseq.checkpoint import encoder_state, load_checkpoint, load_encoder
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.report.scores import read_hypotheses
from tests.commands import (
    generate,
    largest_difference,
    refused,
    succeeded,
    train,
    weights,
)
from tests.helpers import speech_model


def save(path, updates, value, seed, maximise=False, metric="loss", **options):
    model = speech_model(**options)
    torch.manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    state = {"model": model.state_dict(), "args": None, "task_state": {"vocabulary": ["a"]}}
    state["cfg"] = {
        "checkpoint": {
            "best_checkpoint_metric": metric,
            "maximize_best_checkpoint_metric": maximise,
        }
    }
    history = {"num_updates": updates, "optimizer_name": "adam", "lr_scheduler_state": {}}
    state |= {"optimizer_history": [history], "last_optimizer_state": {"state": torch.ones(3)}}
    torch.save({**state, "extra_state": {"val_loss": value, "epoch": 1}}, path)
    return model.state_dict()


@pytest.fixture
def run(tmp_path):
    """Updates 10 to 40, of which 20 and 40 are best; 40 is saved under both of fairseq's names."""
    folder = tmp_path / "run"
    folder.mkdir()
    weights = {}
    names = ("1_10", "2_20", "3_30", "best")
    for i, (name, value) in enumerate(zip(names, (5.0, 1.0, 4.0, 2.0), strict=True)):
        updates = 10 * (i + 1)
        weights[updates] = save(folder / f"checkpoint_{name}.pt", updates, value, i)
    save(folder / "checkpoint_last.pt", 40, 2.0, 3)
    save(folder / "checkpoint_0_20.pt", 20, None, 1)  # saved before its validation
    return folder, weights


def check_mean(state, weights, updates):
    for name, tensor in state["model"].items():
        expected = torch.stack([weights[u][name].double() for u in updates]).mean(0)
        assert torch.allclose(tensor.double(), expected, atol=1e-6), name
        assert tensor.dtype == weights[updates[0]][name].dtype


@pytest.mark.parametrize(
    ("choice", "updates", "names"),
    [
        ("--last", (30, 40), "checkpoint_3_30.pt, checkpoint_best.pt"),
        ("--best", (20, 40), "checkpoint_2_20.pt, checkpoint_best.pt"),
    ],
)
def test_last_or_best_checkpoints_are_averaged(run, choice, updates, names, capsys):
    """With earlier averages in the folder, whose names sort before checkpoint_best."""
    folder, weights = run
    output = folder / "checkpoint_average.pt"
    main([str(folder), choice, "3", "--output", str(folder / "checkpoint_average3.pt")])
    main([str(folder), choice, "2", "--output", str(output)])
    assert f"{output}: the mean of {names}\n" in capsys.readouterr().out
    state = load_checkpoint(output)
    check_mean(state, weights, updates)
    assert state["last_optimizer_state"] is None
    assert state["task_state"] == {"vocabulary": ["a"]}
    encoder = speech_model().encoder.audio_encoder
    load_encoder(encoder, output)
    assert torch.equal(
        encoder.layers[0].norm.weight,
        state["model"]["encoder.audio_encoder.layers.0.norm.weight"],
    )


def test_best_checkpoints_are_compared_by_one_metric(run):
    """The run was resumed with WER after update 40, whose values exceed every loss."""
    folder, weights = run
    for updates, value in ((50, 60.0), (60, 55.0)):
        path = folder / f"checkpoint_5_{updates}.pt"
        weights[updates] = save(path, updates, value, updates, metric="wer")
    output = folder / "checkpoint_average.pt"
    main([str(folder), "--best", "2", "--output", str(output)])
    check_mean(load_checkpoint(output), weights, (50, 60))
    with pytest.raises(SystemExit, match="the 2 different checkpoints of 6 that have a finite wer"):
        main([str(folder), "--best", "3", "--output", str(output)])


def test_only_an_average_is_replaced(run):
    folder, weights = run
    output = folder / "checkpoint_average.pt"
    for choice, updates in (("--best", (20, 40)), ("--last", (30, 40))):
        main([str(folder), choice, "2", "--output", str(output)])
        check_mean(load_checkpoint(output), weights, updates)
    output.write_text("notes")
    for path in (folder / "checkpoint_last.pt", output):
        before = path.read_bytes()
        with pytest.raises(SystemExit, match="exists and is not an average of checkpoints"):
            main([str(folder), "--last", "2", "--output", str(path)])
        assert path.read_bytes() == before


def test_fairseq_loads_an_average(stages, tmp_path):
    output = tmp_path / "average.pt"
    main([str(stages / "finetuning"), "--last", "1", "--output", str(output)])
    mean = mmpt_fairseq.load(output, "cpu").encoder.state_dict()
    expected = encoder_state(load_checkpoint(output)["model"])
    assert mean.keys() == expected.keys()
    assert all(torch.equal(mean[name], tensor) for name, tensor in expected.items())


def test_fairseq_generate_decodes_with_an_average(stages, corpora, tmp_path):
    """Its weights are the mean of two checkpoints, and every row is decoded."""
    start = f"model.init_encoder_from={stages / 'pretraining' / 'checkpoint_last.pt'}"
    each = ["checkpoint.save_interval_updates=1", "optimization.max_update=2"]
    succeeded(train("finetuning", corpora / "asr", tmp_path, start, *each))
    output = tmp_path / "average.pt"
    main([str(tmp_path), "--last", "2", "--output", str(output)])
    first, second = weights(tmp_path, "checkpoint_*_1.pt"), weights(tmp_path)
    mean = load_checkpoint(output)["model"]
    assert any(not torch.equal(first[name], second[name]) for name in first)
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2)
    options = ["--decoding", "ctc", "--results-path", tmp_path]
    succeeded(generate(output, corpora / "asr", "test", *options))
    rows = len(Manifest(corpora / "asr" / "test.tsv"))
    assert len(read_hypotheses(tmp_path / "generate-test.txt", rows)) == rows


def test_an_average_can_start_but_not_resume_a_training(stages, corpora, tmp_path):
    """If resumed, fairseq would use its weights and epoch but repeat warm-up and freezing."""
    output = tmp_path / "average.pt"
    main([str(stages / "finetuning"), "--last", "1", "--output", str(output)])
    assert load_checkpoint(output)["optimizer_history"][-1]["num_updates"] == 2

    def start(name, *overrides):
        return train("finetuning", corpora / "asr", tmp_path / name, *overrides)

    sentence = refused(start("on", f"checkpoint.restore_file={output}"))
    assert "average.pt has no optimizer state (it is an average" in sentence
    anew = [f"checkpoint.finetune_from_model={output}", "optimization.max_update=1"]
    succeeded(start("new", *anew, "optimization.lr=[1e-9]"))
    history = load_checkpoint(tmp_path / "new" / "checkpoint_last.pt")["optimizer_history"]
    assert history[-1]["num_updates"] == 1
    assert largest_difference(weights(tmp_path / "new"), load_checkpoint(output)["model"]) < 1e-6


def test_best_honours_a_metric_to_maximise(tmp_path):
    weights = {u: save(tmp_path / f"checkpoint{u}.pt", u, u, u, maximise=True) for u in (1, 2, 3)}
    main([str(tmp_path), "--best", "2", "--output", str(tmp_path / "mean.pt")])
    check_mean(load_checkpoint(tmp_path / "mean.pt"), weights, (2, 3))


@pytest.mark.parametrize("maximise", [False, True])
def test_checkpoints_without_a_finite_metric_are_never_best(tmp_path, maximise):
    """NaN compares false with everything, so sorting a list with NaN leaves it out of order."""
    values = (math.nan, 3.0, math.inf, 2.0, math.nan, 1.0, -math.inf, None)
    weights = {
        u: save(tmp_path / f"checkpoint{u}.pt", u, value, u, maximise)
        for u, value in enumerate(values, start=1)
    }
    output = str(tmp_path / "mean.pt")
    main([str(tmp_path), "--best", "2", "--output", output])
    check_mean(load_checkpoint(output), weights, (2, 4) if maximise else (4, 6))
    main([str(tmp_path), "--last", "2", "--output", output])
    check_mean(load_checkpoint(output), weights, (7, 8))
    message = "--best 4 is not between 1 and the 3 different checkpoints of 8 that have a finite"
    with pytest.raises(SystemExit, match=message):
        main([str(tmp_path), "--best", "4", "--output", output])


def test_bad_input_is_rejected(run, tmp_path):
    folder, _ = run
    output = str(tmp_path / "mean.pt")
    with pytest.raises(SystemExit, match="--last 5 is not between 1 and the 4 different"):
        main([str(folder), "--last", "5", "--output", output])
    with pytest.raises(SystemExit, match="no folder"):
        main([str(tmp_path / "none"), "--last", "1", "--output", output])
    with pytest.raises(SystemExit, match=r"no folder .*to write to"):
        main([str(folder), "--last", "1", "--output", str(tmp_path / "none" / "x.pt")])
    with pytest.raises(SystemExit, match="is a folder; name a file in it"):
        main([str(folder), "--last", "1", "--output", str(tmp_path)])
    save(folder / "checkpoint_5_50.pt", 50, 1.0, 1, decoder_layers=2)
    with pytest.raises(SystemExit, match="of a different model"):
        main([str(folder), "--last", "2", "--output", output])
    (folder / "checkpoint_6_60.pt").write_bytes(b"")
    with pytest.raises(SystemExit, match="not a readable checkpoint"):
        main([str(folder), "--last", "2", "--output", output])
