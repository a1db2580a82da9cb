"""Panels of training curves: titles, order, omitted values, colours."""

import pytest

from mmpt_fairseq.report.curves import panels_of, stage_curves
from mmpt_fairseq.report.discovery import find
from mmpt_fairseq.report.figures import colour_of
from tests.report.folders import (
    config,
    done,
    progress,
    sentences,
    start,
    write_log,
    write_test_set,
    write_training,
)


@pytest.fixture
def data(tmp_path):
    return write_test_set(tmp_path / "data", sentences(24), src_lang="en", tgt_lang="en")


def test_metrics_are_titled_and_the_learning_rate_comes_last(data, tmp_path):
    folder = write_training(tmp_path / "a", data)
    more = {"lr": 0.1, "new": 1.0, "cer": 9.0, "wer": 8.0, "ups": 3.0}
    write_log(folder, start(0, config(folder, data)), progress(30, 50, 2.0, **more), done(61))
    [stage] = stage_curves(find([folder])[0])
    titles = [figure.alt.partition(" by update")[0] for figure in stage.panels]
    assert titles == ["loss (training objective)", "WER %", "CER %", "new", "learning rate"]


def test_the_rate_after_the_last_update_is_not_plotted(data, tmp_path):
    """fairseq's cosine restarts there, which only affects the log."""
    folder = write_training(tmp_path / "a", data)
    cfg = config(folder, data, max_update=60)
    rates = {20: 0.002, 40: 0.001, 60: 0.0003}
    log = [progress(30 + at, at, 2.0, lr=rate) for at, rate in rates.items()]
    for schedule, plotted in (
        ({"_name": "cosine"}, [20, 40]),
        ({"_name": "cosine", "lr_period_updates": 100.0}, [20, 40, 60]),
        ({"_name": "inverse_sqrt"}, [20, 40, 60]),
    ):
        write_log(folder, start(0, {**cfg, "lr_scheduler": schedule}), *log, done(95))
        panels = panels_of(find([folder])[0])
        [rate] = [line for p in panels if p.title == "learning rate" for line in p.lines]
        assert rate.updates == plotted
        [loss] = [
            line for p in panels if p.title == "loss (training objective)" for line in p.lines
        ]
        assert loss.updates == [20, 40, 60]


def test_every_curve_has_its_own_colour():
    for number in (3, 8, 9, 20):
        systems = [f"run{i}" for i in range(number)]
        assert len({colour_of(system, systems) for system in systems}) == number
