"""Parsing of training logs: resumed, truncated, and in both formats."""

import pytest

from mmpt_fairseq.report.logs import parse, parse_config, read_log
from tests.report.folders import (
    config,
    done,
    line,
    progress,
    start,
    validation,
    write_log,
)


@pytest.fixture
def cfg(tmp_path) -> dict:
    return config(tmp_path, tmp_path)


def test_training_and_validation_curves(cfg, tmp_path):
    lines = [progress(10, 5, 3.0, lr=0.1), validation(15, 6, 2.5), progress(20, 10, 2.0, lr=0.2)]
    log = parse(write_log(tmp_path, start(0, cfg), *lines, done(30)))
    assert log.curve("loss") == {5: 3.0, 10: 2.0}
    assert log.curve("lr") == {5: 0.1, 10: 0.2}
    assert log.validation() == {"valid": {"loss": {6: 2.5}}}
    assert (log.updates, log.finished, log.attempts, log.seconds) == (10, True, 1, 30.0)
    assert log.cfg == cfg


def test_later_attempts_replace_repeated_updates(cfg, tmp_path):
    """Killed after update 20, resumed from 10 with more frequent log lines."""
    first = [start(0, cfg), *(progress(u, u, 100.0 + u) for u in (5, 10, 15, 20))]
    second = [start(60, cfg), *(progress(60 + u, u, float(u)) for u in (12, 14, 16))]
    log = parse(write_log(tmp_path, *first, validation(21, 20, 9.0), *second))
    assert log.curve("loss") == {5: 105.0, 10: 110.0, 12: 12.0, 14: 14.0, 16: 16.0}
    assert list(log.curve("loss")) == sorted(log.curve("loss"))
    assert log.validation()["valid"]["loss"] == {}
    assert (log.attempts, log.updates, log.finished) == (2, 16, False)
    assert log.seconds == 21 + 16


def test_a_warning_before_the_config_belongs_to_the_attempt_that_starts(cfg, tmp_path):
    """The pause between two attempts is no training time."""
    warning = line(3000, "mmpt_fairseq.compat.configs", "all 60 updates are within the warm-up")
    first = [start(0, cfg), progress(5, 5, 3.0), done(9)]
    log = parse(write_log(tmp_path, *first, warning, start(3001, cfg), done(3011)))
    assert (log.attempts, log.seconds) == (2, 9 + 11)


def test_the_command_is_that_of_the_last_attempt(cfg, tmp_path):
    commands = [line(1, "mmpt_fairseq.tasks._start", f"command: train seed={i}") for i in (1, 2)]
    log = parse(write_log(tmp_path, start(0, cfg), commands[0], start(20, cfg), commands[1]))
    assert log.command == "train seed=2"
    assert parse(write_log(tmp_path, start(0, cfg))).command is None


def test_an_attempt_after_a_finished_one_is_not_finished(cfg, tmp_path):
    """A finished training, resumed with a higher max_update."""
    log = parse(write_log(tmp_path, start(0, cfg), done(9), start(20, cfg), progress(30, 7, 1.0)))
    assert not log.finished


def test_a_traceback_after_which_training_goes_on_is_no_failure(cfg, tmp_path):
    """Such as PyTorch's from a loader worker that was garbage collected."""
    traceback = "Traceback (most recent call last):\n  File ...\nAssertionError: child process\n"
    lines = [start(0, cfg), progress(5, 5, 3.0), traceback]
    assert parse(write_log(tmp_path, *lines)).failed
    assert not parse(write_log(tmp_path, *lines, progress(9, 10, 2.0))).failed


@pytest.mark.parametrize("finished", [True, False])
def test_a_failed_restart_keeps_the_training(cfg, tmp_path, finished):
    """Another training, started in this one's folder twice by mistake."""
    lines = [start(0, cfg), line(1, "mmpt_fairseq", "command: train"), progress(5, 5, 3.0)]
    lines += [done(9)] if finished else []
    other = {**cfg, "task": {"_name": "another"}}
    for seconds, message in ((20, "mmpt_fairseq: no.\n"), (40, "mmpt_fairseq: it has its own.\n")):
        lines += [start(seconds, other), line(seconds, "mmpt_fairseq", "command: x"), message]
        log = parse(write_log(tmp_path, *lines))
        assert (log.cfg, log.command, log.finished) == (cfg, "train", finished)
        assert log.failed is not finished  # it is no longer running
        assert log.curve("loss") == {5: 3.0}
    assert log.failed_restart == "it has its own."
    lines += [start(60, other), progress(70, 6, 2.0)]
    log = parse(write_log(tmp_path, *lines))
    assert (log.cfg, log.finished, log.failed_restart) == (other, False, None)


def test_an_attempt_that_trained_is_not_a_failed_restart(cfg, tmp_path):
    """It crashed before its first progress line."""
    began = line(50, "fairseq.trainer", "begin training epoch 1")
    fault = "Traceback (most recent call last):\nRuntimeError: the disk\n\nSet HYDRA_FULL_ERROR\n"
    other = {**cfg, "task": {"_name": "another"}}
    lines = [start(0, cfg), progress(5, 5, 3.0), start(40, other), began, fault]
    log = parse(write_log(tmp_path, *lines))
    assert (log.cfg, log.failed, log.failed_restart) == (other, True, None)
    assert log.last_message == "RuntimeError: the disk"
    alone = parse(write_log(tmp_path, start(0, cfg), fault, start(40, other), fault))
    assert (alone.cfg, alone.began_training, alone.failed_restart) == (other, False, None)


@pytest.mark.parametrize("cut", [1, 20, 60, 100])
def test_a_truncated_last_line_is_ignored(cfg, tmp_path, cut):
    lines = [start(0, cfg), progress(5, 5, 3.0)]
    log = parse(write_log(tmp_path, *lines, progress(9, 10, 2.0)[:-cut]))
    assert log.curve("loss") == {5: 3.0}
    assert log.tail[-1].endswith('"num_updates": "5"}')


def test_a_line_after_a_truncated_one_is_read(cfg, tmp_path):
    """A kill truncates a line; the next attempt continues on the same line."""
    truncated = progress(9, 10, 2.0)[:-25]
    lines = [start(0, cfg), progress(5, 5, 3.0), truncated, start(60, cfg), progress(70, 6, 1.5)]
    log = parse(write_log(tmp_path, *lines))
    assert log.curve("loss") == {5: 3.0, 6: 1.5}
    assert log.attempts == 2


def test_fairseqs_simple_format(cfg, tmp_path):
    lines = [
        line(
            5, "train_inner", "epoch 001:      5 / 30 loss=3.5, lr=0.001, wps=None, num_updates=5"
        ),
        line(
            7, "valid", "epoch 001 | valid on 'valid' subset | loss 3.25 | wps 10 | num_updates 6"
        ),
        line(9, "train", "epoch 001 | loss 3.75 | ppl 1.5 | num_updates 6 | lr 0.002"),
    ]
    log = parse(write_log(tmp_path, start(0, cfg), *lines))
    assert log.curves["train_inner"]["loss"] == {5: 3.5}
    assert log.validation()["valid"]["loss"] == {6: 3.25}
    assert log.curves["train"]["lr"] == {6: 0.002}
    assert "wps" not in log.curves["train_inner"]


def test_epoch_means_are_used_if_there_are_few_progress_lines(cfg, tmp_path):
    epochs = [
        line(u, "train", f'{{"epoch": 1, "train_loss": "{u}", "train_num_updates": "{u}"}}')
        for u in range(1, 8)
    ]
    log = parse(write_log(tmp_path, start(0, cfg), *epochs, progress(9, 5, 50.0)))
    assert list(log.curve("loss")) == [1, 2, 3, 4, 5, 6, 7]


def test_fairseqs_own_line_format(tmp_path):
    text = (
        '2026-01-01 00:00:05 | INFO | train_inner | {"epoch": 1, "loss": "2", "num_updates": "3"}\n'
    )
    assert parse(write_log(tmp_path, text)).curve("loss") == {3: 2.0}


def test_a_loss_that_is_not_a_number_is_noticed(cfg, tmp_path):
    """Unless a later attempt has repeated those updates."""
    nan = [progress(u, u, float("nan") if u > 10 else 1.0) for u in (5, 10, 15, 20)]
    assert parse(write_log(tmp_path, start(0, cfg), *nan)).diverged == 15
    again = [start(60, cfg), progress(61, 12, 1.0)]
    assert parse(write_log(tmp_path, start(0, cfg), *nan, *again)).diverged is None


def test_values_that_are_not_finite_numbers_are_ignored(cfg, tmp_path):
    log = parse(write_log(tmp_path, start(0, cfg), progress(1, 1, float("nan"), wps="None")))
    assert log.metrics() == []


def test_a_config_with_enums():
    text = "{'_name': None, 'model': {'positions': sinusoidal, 'share': inf, 'sizes': [1, -2]}}"
    found = parse_config(text)
    assert found["model"] == {"positions": "sinusoidal", "share": float("inf"), "sizes": [1, -2]}
    assert parse_config(text[:-9]) is None
    assert parse_config("{'a': __import__('os').getcwd()}") is None


def test_the_log_with_the_later_end_is_used(cfg, tmp_path):
    """log.txt only has the launcher's attempts; a later manual one is only in Hydra's log."""
    early = [start(0, cfg), progress(5, 5, 3.0)]
    write_log(tmp_path, *early, "Traceback (most recent call last):\n", name="log.txt")
    write_log(tmp_path, *early)
    assert read_log(tmp_path).failed
    write_log(tmp_path, *early, start(60, cfg), progress(65, 9, 2.0))
    assert not read_log(tmp_path).failed
    assert read_log(tmp_path).updates == 9


def test_an_unrelated_log_is_ignored(tmp_path):
    write_log(tmp_path, "a log of something else\n", name="log.txt")
    assert read_log(tmp_path) is None
