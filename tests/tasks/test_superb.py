"""SUPERB's tasks without fairseq's trainer: training, self-contained checkpoints, errors."""

import shutil

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from examples.superb.cache import store_states
from examples.superb.predictions import choose_scoring, diarization_score, predict
from examples.superb.systems import KINDS
from manifests.errors import InputError
from mmpt_fairseq.checkpoint import load_checkpoint
from mmpt_fairseq.criterions.superb import SuperbCriterion
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from mmpt_fairseq.models.superb import SuperbModelConfig
from mmpt_fairseq.models.upstreams import check_stored, resolve_upstream
from mmpt_fairseq.tasks.superb import SuperbConfig, SuperbTask, class_weights
from tests.helpers import save_checkpoint, stage_1_checkpoint


def set_up(data, kind: str, **options) -> SuperbTask:
    """The task as fairseq-hydra-train sets it up."""
    fixed = {"seed": 1, "train_subset": "train", "decodes_with": None, "save_dir": "nowhere"}
    fixed |= {
        "restore_file": "checkpoint_last.pt",
        "finetune_from_model": None,
        "continue_once": None,
        "checkpoint_suffix": "",
    }
    cfg = SuperbConfig(data=str(data), kind=kind, distributed_world_size=1, **{**fixed, **options})
    return SuperbTask.setup_task(cfg)


def model_config(**options):
    """The model's config as Hydra passes it to a task."""
    return OmegaConf.structured(SuperbModelConfig(_name="mmpt_superb", **options))


def batch_of(task: SuperbTask, split: str = "train") -> dict:
    task.load_dataset(split)
    dataset = task.dataset(split)
    return dataset.collater([dataset[i] for i in range(len(dataset))])


def learn(model, criterion: SuperbCriterion, batch: dict, updates: int) -> tuple[float, float]:
    """Train with Adam on one batch; return the first and the last loss."""
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    model.train()
    losses = []
    for _ in range(updates):
        loss, size, _ = criterion(model, batch)
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        (loss / size).backward()
        optimiser.step()
    return losses[0], losses[-1]


@pytest.mark.parametrize("name", KINDS)
def test_head_on_filterbanks_learns(superb, name):
    """Overfitting one batch gives a perfect metric, except for classification on FBANK.

    Each bin of FBANK has zero mean over a clip, so linear layers and a mean over time give nothing.
    """
    torch.manual_seed(0)
    task = set_up(superb / name, KINDS[name])
    model = task.build_model(model_config(lstm_dim=32))
    criterion, batch = SuperbCriterion(task), batch_of(task)
    first, last = learn(model, criterion, batch, updates=60)
    found = predict(model.eval(), task, "test")
    if name == "pr":
        assert (found.wrong, found.total) == (0, 12)
        assert found.texts == list(Manifest(superb / "pr" / "test.tsv").column("tgt_text"))
    elif name == "sd":
        assert diarization_score(found, choose_scoring(found, task.scoring)).rate < 0.1
        logs = criterion(model, batch)[2]
        errors = diarization_score(found, task.scoring)
        assert (logs["missed"], logs["spoken"]) == (errors.missed, errors.spoken)
    else:
        assert last > 0.9 * first
        pooled = model.head.projector(model.mix(model.upstream(**batch["net_input"]).states))
        assert pooled.mean(dim=1).std(dim=0).max() < 1e-4


@pytest.mark.parametrize("name", ["ks", "ic"])
def test_head_on_an_encoder_learns_classes(superb, tmp_path, name, monkeypatch):
    torch.manual_seed(0)
    _, path = stage_1_checkpoint(tmp_path / "stage1.pt")
    task = set_up(superb / name, KINDS[name])
    model = task.build_model(model_config(upstream=str(path)))
    before = {name: tensor.clone() for name, tensor in model.upstream.state_dict().items()}
    criterion, batch = SuperbCriterion(task), batch_of(task)
    with monkeypatch.context() as patch:
        hidden = model.upstream(**batch["net_input"])  # frozen: the same in every update
        patch.setattr(model.upstream, "forward", lambda source, lengths: hidden)
        learn(model, criterion, batch, updates=500)
    found = predict(model.eval(), task, "test", batch=4)
    assert found.wrong == 0
    assert found.texts == list(Manifest(superb / name / "test.tsv").column("tgt_text"))
    assert model.mix.scores.abs().max() > 0
    for name, tensor in model.upstream.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_checkpoint_needs_neither_upstream_nor_training_data(superb, tmp_path):
    """fairseq loads a model from its saved config, the task's state and the weights."""
    _, path = stage_1_checkpoint(tmp_path / "stage1.pt")
    task = set_up(superb / "ic", KINDS["ic"])
    cfg = model_config(upstream=str(path))
    model = task.build_model(cfg).eval()
    expected = predict(model, task, "test")
    path.unlink()
    loaded = SuperbTask.setup_task(
        SuperbConfig(data="gone", kind=KINDS["ic"]), from_checkpoint=True
    )
    loaded.load_state_dict(task.state_dict())
    loaded_model = loaded.build_model(cfg, from_checkpoint=True).eval()
    loaded_model.load_state_dict(model.state_dict())
    loaded.cfg.data, loaded.cfg.train_subset, loaded.cfg.decodes_with = superb / "ic", "train", None
    assert predict(loaded_model, loaded, "test").texts == expected.texts


def test_balanced_classes_are_sampled_equally_often(tmp_path):
    rows = [
        {"id": f"{i}", "audio": "a.wav", "n_frames": 50, "tgt_text": "rare" if i < 3 else "often"}
        for i in range(300)
    ]
    write_manifest(tmp_path / "train.tsv", rows)
    manifest = Manifest(tmp_path / "train.tsv")
    assert class_weights(manifest)[[0, 5]].tolist() == [1 / 3, 1 / 297]
    task = set_up(tmp_path, "keyword_spotting", balance_classes=True)
    task.load_dataset("train")
    np.random.seed(0)
    drawn = task.dataset("train").ordered_indices()
    assert len(drawn) == 300
    assert 110 < sum(row < 3 for row in drawn) < 190


def test_stored_means_suit_utterance_tasks_only(superb, tmp_path):
    """States stored as means over time give the same logits; frame-level tasks refuse them."""
    _, path = stage_1_checkpoint(tmp_path / "stage1.pt")
    store_states(str(path), superb / "ks", tmp_path / "ks", mean=True)
    store_states(str(path), superb / "pr", tmp_path / "pr", mean=True)
    full, means = set_up(superb / "ks", KINDS["ks"]), set_up(tmp_path / "ks", KINDS["ks"])
    model = full.build_model(model_config(upstream=str(path))).eval()
    averaged = means.build_model(model_config(upstream="cached")).eval()
    averaged.mix.load_state_dict(model.mix.state_dict())
    averaged.head.load_state_dict(model.head.state_dict())
    logits = model(**batch_of(full, "test")["net_input"]).logits
    batch = batch_of(means, "test")
    assert batch["net_input"]["source"].shape == (6, 1, 3, 16)
    assert torch.allclose(averaged(**batch["net_input"]).logits, logits, atol=1e-5)
    with pytest.raises(SystemExit, match="are means over time, and phoneme_recognition needs"):
        set_up(tmp_path / "pr", KINDS["pr"]).build_model(model_config(upstream="cached"))


def test_stored_states_must_come_from_one_upstream(superb, tmp_path):
    """Changed labels are updated; changed weights and a head of other states are refused."""
    data = shutil.copytree(superb / "ks", tmp_path / "data")
    for path in data.glob("*.tsv"):
        path.write_text(path.read_text().replace("../", f"{superb}/"))
    model, path = stage_1_checkpoint(tmp_path / "stage1.pt")
    store_states(str(path), data, tmp_path / "states")
    cfg = model_config(upstream="cached")
    resolve_upstream(cfg, tmp_path / "states")
    check_stored(cfg, tmp_path / "states")
    text = (data / "train.tsv").read_text()
    (data / "train.tsv").write_text(text.replace("\txa\t", "\txc\t"))
    store_states(str(path), data, tmp_path / "states")
    labels = Manifest(tmp_path / "states" / "train.tsv").column("tgt_text")
    assert sorted(labels) == ["xb"] * 2 + ["xc"] * 4
    with torch.no_grad():
        next(model.audio_encoder.parameters()).add_(1)
    save_checkpoint(path, load_checkpoint(path)["cfg"], model.state_dict(), {})
    with pytest.raises(InputError, match="or of this one before it was trained further"):
        store_states(str(path), data, tmp_path / "states")
    store_states(str(path), data, tmp_path / "others")
    with pytest.raises(InputError, match="holds the states of another upstream than the head"):
        check_stored(cfg, tmp_path / "others")


def test_resuming_a_head_needs_the_same_labels_and_upstream(superb, tmp_path):
    """The upstream is compared by its weights, not by its path."""
    encoder, first = stage_1_checkpoint(tmp_path / "first.pt")
    moved = shutil.copy(first, tmp_path / "moved.pt")
    with torch.no_grad():
        next(encoder.audio_encoder.parameters()).add_(1)
    second = save_checkpoint(
        tmp_path / "second.pt", load_checkpoint(first)["cfg"], encoder.state_dict(), {}
    )
    task = set_up(superb / "ks", KINDS["ks"], save_dir=str(tmp_path))
    cfg = model_config(upstream=str(first))
    model, full = task.build_model(cfg), task.state_dict()

    def resume(upstream, precision=torch.float32, common=None, **state):
        cfg_saved = {"model": OmegaConf.to_container(cfg, enum_to_str=True), "common": common or {}}
        path = tmp_path / "checkpoint_last.pt"
        rounded = {name: w.to(precision).float() for name, w in model.state_dict().items()}
        save_checkpoint(path, cfg_saved, rounded, full | state)
        task.build_model(model_config(upstream=str(upstream)))

    resume(first)
    resume(moved)
    resume(first, torch.float16, {"fp16": True})
    resume(first, torch.bfloat16, {"bf16": True})
    with pytest.raises(SystemExit, match="a head on another upstream"):
        resume(second, torch.bfloat16, {"bf16": True})
    with pytest.raises(SystemExit, match="a head on another upstream"):
        resume(first, torch.float16)
    for upstream in (second, "fbank"):
        with pytest.raises(SystemExit, match=r"a head on another upstream \(.*first\.pt\)"):
            resume(upstream)
    with pytest.raises(SystemExit, match=r"the labels of .* are not the"):
        resume(first, inventory=[["xa", "xb"]])
    save_checkpoint(tmp_path / "checkpoint_last.pt", {}, model.state_dict(), {})
    with pytest.raises(SystemExit, match="is of another stage"):
        task.build_model(model_config(upstream=str(first)))


def test_class_balancing_needs_labels_of_clips(superb):
    with pytest.raises(SystemExit, match="balances the labels of clips, and phoneme_recognition"):
        set_up(superb / "pr", KINDS["pr"], balance_classes=True)


def test_audio_longer_than_the_upstreams_positions_is_refused(superb):
    task = set_up(superb / "ks", KINDS["ks"], max_source_positions=80)
    with pytest.raises(SystemExit, match="has 118 frames of 10 ms, more than the upstream's 80"):
        task.load_dataset("valid")


def test_input_errors_give_one_sentence(superb, tmp_path):
    (tmp_path / "train.tsv").write_text("id\taudio\tn_frames\ntext\ta.wav\t5\n")
    with pytest.raises(SystemExit, match="lacks the column segments") as error:
        set_up(tmp_path, KINDS["sd"])
    assert str(error.value).startswith("mmpt_fairseq: ")
    with pytest.raises(SystemExit, match="has 2 labels where keyword_spotting takes one"):
        set_up(superb / "pr", KINDS["ks"])
    task = set_up(superb / "ks", KINDS["ks"])
    with pytest.raises(SystemExit, match="there is no checkpoint"):
        task.build_model(model_config(upstream="nowhere.pt"))
    with pytest.raises(SystemExit, match="is of intent_classification, not of keyword_spotting"):
        task.load_state_dict({"kind": "intent_classification", "inventory": []})
    with pytest.raises(SystemExit, match="are not the checkpoint's"):
        task.load_state_dict({"kind": KINDS["ks"], "inventory": [["no"]]})


@pytest.mark.parametrize(
    ("option", "value", "meaning"),
    [
        ("der_threshold", 50.0, "between 0 and 1"),
        ("der_median", 2, "an odd number of frames"),
        ("der_median", -3, "an odd number of frames"),
        ("der_collar", -1.0, "0 seconds or more"),
    ],
)
def test_scoring_out_of_range_is_refused(superb, option, value, meaning):
    with pytest.raises(SystemExit, match=f"task.{option}={value} must be {meaning}"):
        set_up(superb / "sd", "speaker_diarization", **{option: value})


@pytest.mark.parametrize("rebuild_batches", [True, False])
def test_validation_stays_limited(superb, rebuild_batches, caplog):
    """fairseq requests its cached iterator again for each validation."""
    caplog.set_level("INFO")
    options = {"max_valid_steps": 1, "rebuild_batches": rebuild_batches}
    task = set_up(superb / "ks", "keyword_spotting", **options)
    task.build_model(model_config())
    task.load_dataset("valid")
    rows = len(task.dataset("valid"))
    assert rows > 2
    for _ in range(3):
        iterator = task.get_batch_iterator(
            task.dataset("valid"), max_sentences=1, disable_iterator_cache=False
        )
        batches = list(iterator.next_epoch_itr(shuffle=False))
        ids = [int(batch["id"]) for batch in batches]
        assert len(ids) == len(set(ids)) == 2
    assert caplog.text.count(f"validating on 2 of {rows} batches") == 1
