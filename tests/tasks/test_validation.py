"""Validation scores equal those of the whole split, independent of batching."""

import re

import jiwer
import numpy as np
import pytest
import sacrebleu
from fairseq.logging import metrics
from omegaconf import OmegaConf

from mmpt_fairseq.checkpoint import encoder_state, load_checkpoint
from mmpt_fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyConfig
from mmpt_fairseq.tasks._validation import ValidationScorer, log_scores, score_counts
from tests.commands import generate, losses, succeeded, train
from tests.helpers import speech_model, speech_task

REFERENCES = ["a cat sat on the mat today", "two dogs ran over the wet grass", "one"]
HYPOTHESES = ["a cat sat on a mat", "two dogs ran over the grass", "one two three"]


def test_summed_batch_counts_give_corpus_scores():
    parts = slice(0, 2), slice(2, 3)
    outputs = [score_counts(REFERENCES[part], HYPOTHESES[part]) for part in parts]
    with metrics.aggregate() as logged:
        log_scores(outputs)
    values = logged.get_smoothed_values()
    bleu = sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score
    assert values["wer"] == pytest.approx(100 * jiwer.wer(REFERENCES, HYPOTHESES), abs=0.01)
    assert values["cer"] == pytest.approx(100 * jiwer.cer(REFERENCES, HYPOTHESES), abs=0.01)
    assert values["bleu"] == pytest.approx(bleu, abs=0.01)
    assert 0 < values["bleu"] < 100
    assert not [name for name in values if name.startswith("_")]


def scorer(**settings) -> ValidationScorer:
    """A scorer for a task whose data config names no BPE model."""
    task = speech_task()
    search = {"beam": 2, "lenpen": 1.0, "max_len_b": 5}
    for name, value in {**{f"eval_{n}": v for n, v in search.items()}, **settings}.items():
        setattr(task.cfg, name, value)
    task.cfg.eval_wer, task.cfg.results_path = True, None
    return ValidationScorer(task, speech_model())


def test_word_vocabulary_needs_no_bpe_model():
    assert scorer().text([4, 6, 2]) == "a c"


def test_targets_longer_than_max_len_b_cause_a_warning(caplog):
    scorer().check_lengths(np.array([3, 5]))
    scorer(decoding="ctc").check_lengths(np.array([6]))  # limited only by the audio
    assert "max_len_b" not in caplog.text
    scorer().check_lengths(np.array([3, 6, 7]))
    message = r"2 targets \(of up to 7 tokens\) exceed .* generation\.max_len_b=5"
    assert re.search(message, caplog.text)


@pytest.mark.parametrize("decoding", ["ctc", "ctc_beam", "joint"])
def test_validation_with_an_untrained_ctc_head_is_refused(decoding):
    task = speech_task()
    task.cfg.decoding, task.validation = decoding, scorer()
    cfg = OmegaConf.structured(
        LabelSmoothedCrossEntropyConfig(sentence_avg=True, ctc_weight=0.0, max_update=9)
    )
    cfg._name = "mmpt_label_smoothed_cross_entropy"
    with pytest.raises(
        SystemExit, match=f"task.decoding={decoding} would validate with a CTC head that this run"
    ):
        task.build_criterion(cfg)
    task.validation = None
    task.build_criterion(cfg)


def test_best_checkpoint_is_selected_by_wer_and_encoder_unfreezes(stages, corpora, tmp_path):
    """On two processes with weight decay while frozen; then resumed on one and unfrozen."""
    start = stages / "midtraining" / "checkpoint_last.pt"
    options = [
        f"model.init_encoder_from={start}",
        "+model.freeze_encoder_updates=3",
        "+model.fresh_encoder_layers=1",
        "+model.encoder_lr_scale=0.5",
        "model.dropout=0.1",
        "+optimizer.weight_decay=0.1",
        "+task.eval_wer=true",
        "+task.decoding=joint",
        "+task.speeds=[0.9,1.1]",
        f"+task.noise_manifest={corpora / 'asr' / 'train.tsv'}",
        "generation.max_len_b=10",
        "checkpoint.best_checkpoint_metric=wer",
        "checkpoint.patience=5",
    ]
    data = corpora / "asr"
    succeeded(train("finetuning", data, tmp_path, *options, processes=2))
    last = load_checkpoint(tmp_path / "checkpoint_last.pt")
    before, after = encoder_state(load_checkpoint(start)["model"]), encoder_state(last["model"])
    frozen = {name for name in before if not name.startswith("layers.1.")}
    assert {name for name in before if before[name].equal(after[name])} == frozen
    output = succeeded(train("finetuning", data, tmp_path, *options, "optimization.max_update=5"))
    unfrozen = encoder_state(load_checkpoint(tmp_path / "checkpoint_last.pt")["model"])
    assert not any(before[name].equal(unfrozen[name]) for name in before)
    rates = [float(rate) for rate in losses(output, "valid_wer")]
    best = load_checkpoint(tmp_path / "checkpoint_best.pt")["extra_state"]["best"]
    assert best == pytest.approx(min([*rates, last["extra_state"]["best"]]), abs=0.01)
    # Compare the last validation with fairseq-generate.
    search = ["--decoding", "joint", "--max-len-b", "10", "--scoring", "cer"]
    decoded = succeeded(generate(tmp_path / "checkpoint_last.pt", data, "valid", *search))
    assert f"CER: {float(losses(output, 'valid_cer')[-1]):.2f}" in decoded
