"""The task of stages 2 and 3: generators, checkpoints, vocabularies and row selection."""

import shutil
from argparse import Namespace

import pytest
from omegaconf import OmegaConf

from manifests.errors import InputError
from manifests.vocabulary import build_vocabulary
from mmpt_fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyConfig
from mmpt_fairseq.decoding.ensemble import JointEnsemble
from mmpt_fairseq.tasks._initialise import initialise
from mmpt_fairseq.tasks._speech_to_text_config import SpeechToTextConfig
from mmpt_fairseq.tasks._start import checkpoint_to_load
from mmpt_fairseq.tasks.speech_to_text import ManifestSpeechToTextTask
from tests.helpers import (
    save_checkpoint,
    small_speech_config,
    speech_model,
    speech_task,
    write_clips,
)

SEARCH = {"beam": 2, "eos_token": None}


def joint_task():
    task = speech_task()
    task.cfg.decoding, task.cfg.results_path, task.cfg.ctc_decoding_weight = "joint", None, 0.3
    return task


def test_joint_decoding_refuses_a_ctc_head_of_source_texts(caplog):
    """``ctc_text`` is stored in the checkpoint; without it the head is of targets."""
    saved = joint_task()
    generator = saved.build_generator([speech_model()], Namespace(**SEARCH))
    assert isinstance(generator.model, JointEnsemble)
    state = saved.state_dict()
    assert state["ctc_text"] == "target"
    loaded = joint_task()
    loaded.load_state_dict({**state, "ctc_text": "source"})
    with pytest.raises(SystemExit, match="cannot be combined"):
        loaded.build_generator([speech_model()], Namespace(**SEARCH))
    loaded.cfg.decoding = "ctc"
    loaded.build_generator([speech_model()], Namespace(**SEARCH))
    assert "writes source transcripts" in caplog.text
    del state["ctc_text"]
    loaded.load_state_dict(state)
    assert loaded.ctc_text == "target"


def test_untrained_ctc_head_is_refused():
    trained = joint_task()
    cfg = LabelSmoothedCrossEntropyConfig(sentence_avg=True, ctc_weight=0.0, max_update=9)
    cfg._name = "mmpt_label_smoothed_cross_entropy"
    trained.build_criterion(cfg)
    task = joint_task()
    task.load_state_dict(trained.state_dict())
    for decoding in ("ctc", "ctc_beam", "joint"):
        task.cfg.decoding = decoding
        with pytest.raises(SystemExit, match=r"was not trained \(criterion\.ctc_weight=0\)"):
            task.build_generator([speech_model()], Namespace(**SEARCH))
    task.cfg.decoding = "attention"
    assert task.build_generator([speech_model()], Namespace(**SEARCH))
    resumed = joint_task()  # now with a CTC term, so the head is trained
    resumed.build_criterion(OmegaConf.merge(OmegaConf.structured(cfg), {"ctc_weight": 0.3}))
    resumed.load_state_dict(trained.state_dict())
    assert resumed.state_dict()["ctc_learnt"]


def test_max_len_a_depends_on_the_batch_and_is_refused():
    with pytest.raises(SystemExit, match="use --max-len-b alone"):
        joint_task().build_generator([speech_model()], Namespace(**SEARCH, max_len_a=0.1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_reference": True}, "--score-reference needs --decoding attention, not joint"),
        ({"sampling": True}, "--sampling needs --decoding attention, not joint"),
        ({"print_alignment": "hard"}, "--print-alignment is not supported"),
        ({"constraints": "ordered"}, "--constraints is not supported"),
    ],
)
def test_search_options_without_effect_are_refused(options, message):
    with pytest.raises(SystemExit, match=message):
        joint_task().build_generator([speech_model()], Namespace(**{**SEARCH, **options}))


def test_texts_are_not_put_together_twice():
    """fairseq would remove the pieces, and the task then the spaces between words."""
    task = joint_task()
    task.cfg.decodes_with, task.cfg.post_process = "some.pt", "sentencepiece"
    with pytest.raises(SystemExit, match="--post-process sentencepiece would remove the spaces"):
        task.build_generator([speech_model()], Namespace(**SEARCH))


def test_fairseq_interactive_is_refused_in_one_sentence():
    with pytest.raises(SystemExit, match="use mmpt-transcribe"):
        joint_task().get_interactive_tokens_and_lengths(["a.wav"], None)


def test_decoding_warns_of_unknown_tokens_in_references(tmp_path, caplog):
    for name, text in [("known", "ab c"), ("new", "ab d")]:
        (tmp_path / name).mkdir()
        write_clips(tmp_path / name, [0.4], tgt_text=[text])
    build_vocabulary(tmp_path / "known", "char")
    task = load(tmp_path / "known", "train")
    task.cfg.decodes_with = "fairseq-generate"
    for name in ("known", "new"):
        task.cfg.data = str(tmp_path / name)
        task.load_dataset("train")
    assert "train: 1 tokens of tgt_text are not in the vocabulary" in caplog.text
    assert caplog.text.count("mmpt_fairseq.report.scores") == 1


def test_validation_splits_with_a_prefix_are_combined(tmp_path):
    """As with ``dataset.combine_valid_subsets``."""
    data = write_clips(tmp_path, [0.4, 0.5, 0.6], tgt_text=["a", "b", "c"]).parent
    build_vocabulary(data, "char")
    for language, rows in (("de", 2), ("it", 4)):
        lines = (data / "train.tsv").read_text().splitlines()[:rows]
        (data / f"valid_{language}.tsv").write_text("\n".join(lines) + "\n")
    task = load(data, "train")
    task.load_dataset("valid", combine=True)
    assert len(task.dataset("valid")) == 1 + 3
    (data / "valid_de.tsv").unlink()
    (data / "valid_it.tsv").unlink()
    with pytest.raises(SystemExit, match=r"no valid\*\.tsv to validate on"):
        task.load_dataset("valid", combine=True)


@pytest.mark.parametrize("decoding", ["attention", "joint"])
def test_attention_decoding_needs_a_decoder(decoding):
    task, model = joint_task(), speech_model(decoder_layers=0)
    task.cfg.decoding = decoding
    with pytest.raises(SystemExit, match=r"no decoder .*--decoding ctc"):
        task.build_generator([model], Namespace(**SEARCH))
    task.cfg.decoding = "ctc"
    assert task.build_generator([model], Namespace(**SEARCH))


def test_checkpoint_to_load_is_the_one_that_fairseq_loads(tmp_path, monkeypatch):
    """Only the default name is looked up in ``save_dir``; another path must exist."""
    monkeypatch.chdir(tmp_path)
    task = speech_task()
    task.cfg.save_dir, task.cfg.restore_file = "runs", "checkpoint_last.pt"
    task.cfg.finetune_from_model = task.cfg.continue_once = None
    assert checkpoint_to_load(task.cfg) is None
    task.cfg.finetune_from_model = "other.pt"
    assert checkpoint_to_load(task.cfg) == "other.pt"
    task.cfg.continue_once = "earlier.pt"
    with pytest.raises(InputError, match=r"no checkpoint earlier\.pt .*continue_once"):
        checkpoint_to_load(task.cfg)
    (tmp_path / "earlier.pt").touch()
    assert checkpoint_to_load(task.cfg) == "earlier.pt"
    (tmp_path / "runs").mkdir()
    for name in ("checkpoint_last.pt", "checkpoint_best.pt"):
        (tmp_path / "runs" / name).touch()
    assert checkpoint_to_load(task.cfg) == "runs/checkpoint_last.pt"
    task.cfg.restore_file = "runs/checkpoint_best.pt"
    assert checkpoint_to_load(task.cfg) == "runs/checkpoint_best.pt"
    task.cfg.restore_file = "checkpoint_best.pt"
    with pytest.raises(InputError, match=r"no checkpoint checkpoint_best\.pt .*restore_file"):
        checkpoint_to_load(task.cfg)


def test_resuming_without_optimizer_state_is_refused_unless_reset(tmp_path):
    """Averages, and checkpoints of ``checkpoint.no_save_optimizer_state``, have none."""
    task, model, cfg = speech_task(), speech_model(), small_speech_config()
    path = save_checkpoint(tmp_path / "x.pt", {}, model.state_dict(), task.state_dict())

    def start(folder, restore_file="checkpoint_last.pt", finetune_from=None, reset=False):
        task.cfg.save_dir, task.cfg.restore_file = str(folder), restore_file
        task.cfg.finetune_from_model, task.cfg.reset_optimizer = finetune_from, reset
        task.cfg.continue_once = None
        initialise(task, model, cfg)

    start(tmp_path, path, reset=True)
    start(tmp_path, finetune_from=path)
    cfg.init_encoder_from = "y.pt"
    with pytest.raises(InputError, match=r"init_encoder_from has no effect beside .*finetune_"):
        start(tmp_path, finetune_from=path)
    cfg.init_encoder_from = None
    with pytest.raises(InputError, match=r"x\.pt has no optimizer state"):
        start(tmp_path, path)
    (tmp_path / "x.pt").rename(tmp_path / "checkpoint_last.pt")
    with pytest.raises(InputError, match=r"checkpoint_last\.pt has no optimizer state"):
        start(tmp_path, finetune_from=path)


def test_resumed_run_warns_that_another_init_checkpoint_is_ignored(tmp_path, caplog):
    """As when another encoder is tried with the same ``save_dir``."""
    task, model, cfg = speech_task(), speech_model(), small_speech_config()
    saved = {"model": {"init_encoder_from": "old.pt"}}
    path = save_checkpoint(tmp_path / "x.pt", saved, model.state_dict(), task.state_dict())
    task.cfg.restore_file, task.cfg.reset_optimizer = path, True
    task.cfg.save_dir, task.cfg.finetune_from_model = str(tmp_path), None
    task.cfg.continue_once = None
    for configured in (None, "old.pt", "new.pt"):
        assert not caplog.records
        cfg.init_encoder_from = configured
        initialise(task, model, cfg)
    assert cfg.init_encoder_from == "old.pt"  # as later checkpoints will record
    [warning] = caplog.records
    assert "init_encoder_from=new.pt is ignored" in warning.message
    assert "x.pt, which started with old.pt; to start over" in warning.message


def test_transcripts_in_one_of_several_splits_suffice(tmp_path):
    """Each row keeps its own transcript, though fairseq collates all rows by the first dataset."""
    columns = {"tgt_text": ["ja", "nein", "ja"], "src_text": ["yes", "no", ""]}
    header, *rows = write_clips(tmp_path, [0.3, 0.5, 0.4], **columns).read_text().splitlines()
    for name, part in [("spoken", rows[:2]), ("bare", rows[2:])]:
        (tmp_path / f"{name}.tsv").write_text("\n".join([header, *part]) + "\n")
    build_vocabulary(tmp_path, splits=["spoken", "bare"], with_source=True)
    for splits in ("spoken,bare", "bare,spoken"):
        task = load(tmp_path, splits, ctc_text="source")
        combined = task.datasets[splits]
        batch = combined.collater([combined[row] for row in range(3)])
        labels = [
            task.tgt_dict.string(row[:length]).replace(" ", "")
            for row, length in zip(batch["ctc_target"], batch["ctc_target_lengths"], strict=True)
        ]
        assert batch["net_input"]["src_lengths"].tolist() == [48, 38, 28]
        assert labels == ["▁no", "", "▁yes"]
    with pytest.raises(SystemExit, match=r"no row of bare in .* has the src_text"):
        load(tmp_path, "bare", ctc_text="source")
    load(tmp_path, "bare")


def load(data, splits, **options):
    """The task with these splits loaded for training."""
    unset = {"decodes_with": None, "lm_path": None, "seed": 1, "train_subset": splits}
    task = ManifestSpeechToTextTask.setup_task(
        SpeechToTextConfig(data=str(data), **unset, **options)
    )
    task.load_dataset(splits)
    return task


@pytest.mark.parametrize(("metric", "option"), [("wer", "eval_wer"), ("bleu", "eval_bleu")])
def test_checkpoint_metric_must_be_measured(tmp_path, metric, option):
    write_clips(tmp_path, [0.3], tgt_text=["ja"])
    build_vocabulary(tmp_path)
    selection = {
        "best_checkpoint_metric": metric,
        "maximize_best_checkpoint_metric": metric == "bleu",
    }
    message = rf"best_checkpoint_metric={metric} is not measured; set \+\+task\.{option}=true"
    with pytest.raises(SystemExit, match=message):
        load(tmp_path, "train", **selection)
    load(tmp_path, "train", **selection, **{option: True})


def test_vocabulary_can_include_source_text(tmp_path):
    write_clips(tmp_path, [0.3, 0.3], tgt_text=["ja", "nein"], src_text=["yes", "no"])
    build_vocabulary(tmp_path)
    assert "y" not in (tmp_path / "dict.txt").read_text()
    build_vocabulary(tmp_path, with_source=True)
    symbols = {line.split()[0] for line in (tmp_path / "dict.txt").read_text().splitlines()}
    assert set("yesnojai") <= symbols


def set_up(data):
    """The task set up for training, with the same rows in both splits."""
    build_vocabulary(data)
    shutil.copy(data / "train.tsv", data / "valid.tsv")
    task = load(data, "train")
    task.load_dataset("valid")
    return task


def test_rows_beyond_the_limits_are_dropped_in_training_and_refused_in_validation(tmp_path, caplog):
    write_clips(tmp_path, [0.3, 0.6, 0.4], tgt_text=["ja", "doch", "nein"])
    task = set_up(tmp_path)
    limits = {"max_sentences": 1, "max_positions": (40, 9), "ignore_invalid_inputs": True}
    with caplog.at_level("WARNING"):
        batches = task.get_batch_iterator(task.datasets["train"], **limits).frozen_batches
    assert sorted(row for batch in batches for row in batch) == [0, 2]
    assert "left out 1 of 3 rows beyond the limits" in caplog.text
    message = (
        r"line 3 \(clip1\) has 58 frames of 10 ms and \d target tokens, the limits are \(40, 9\)"
    )
    with pytest.raises(SystemExit, match=rf"mmpt_fairseq: 1 rows are too long \(.*{message}"):
        task.get_batch_iterator(task.datasets["valid"], **limits)
    task.load_dataset("train")  # fairseq caches the batches of the previous dataset
    limits["max_positions"] = (10, 9)
    with pytest.raises(SystemExit, match=r"no row is within the limits of \(10, 9\)"):
        task.get_batch_iterator(task.datasets["train"], **limits)


def test_rows_without_text_are_dropped_in_training_and_refused_in_validation(tmp_path, caplog):
    """They would train a recogniser to output nothing for speech."""
    write_clips(tmp_path, [0.3, 0.4, 0.5], tgt_text=["ja", " ", "nein"])
    task = set_up(tmp_path)
    limits = {"max_sentences": 1, "max_positions": (6000, 1024), "ignore_invalid_inputs": True}
    with caplog.at_level("WARNING"):
        batches = task.get_batch_iterator(task.datasets["train"], **limits).frozen_batches
    assert sorted(row for batch in batches for row in batch) == [0, 2]
    assert "left out 1 rows without tgt_text" in caplog.text
    assert "line 3 (clip1)" in caplog.text
    with pytest.raises(SystemExit, match=r"line 3 \(clip1\) has no tgt_text to validate on"):
        task.get_batch_iterator(task.datasets["valid"], **limits)
