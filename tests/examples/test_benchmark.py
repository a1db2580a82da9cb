import json
import sys
from pathlib import Path

import pytest

from examples.benchmark import decoding, encoder, finetuning, pipeline, timing
from tests.helpers import write_clips


def test_pairs_alternate_and_medians_are_of_what_was_timed():
    order, now = [], [0.0]

    def takes(name, durations):
        def run():
            order.append(name)
            now[0] += durations[order.count(name) - 1]

        return run

    first, second = takes("a", [99, 1, 2, 30]), takes("b", [99, 2, 2, 3])
    found = timing.paired(first, second, 3, "", clock=lambda: now[0])
    assert order == ["b", "a", "a", "b", "b", "a", "a", "b"]
    assert (found.first, found.second, found.ratio) == (2, 2, 1.0)


def test_encoder(monkeypatch, capsys):
    sizes = "--layers 1 --dim 16 --ffn-dim 32 --heads 2 --kernel 3 --clips 2 --frames 40 --pairs 1"
    monkeypatch.setattr(sys, "argv", ["encoder", *sizes.split(), "--cpu-time"])
    encoder.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("fairseq's rel_pos layers")
    assert [line.split()[0] for line in lines[3:]] == ["40%", "25%"]


def test_pipeline(monkeypatch, capsys, tmp_path):
    manifest = write_clips(tmp_path, [0.3, 0.5], video=True)
    options = ["--repeats", "1", "--video-num-frames", "4", "--video-size", "32"]
    monkeypatch.setattr(sys, "argv", ["pipeline", str(manifest), *options])
    pipeline.main()
    lines = capsys.readouterr().out.splitlines()
    assert "2 clips of 0.4 s" in lines[0]
    assert [line.split(":")[0] for line in lines[1:]] == ["sound", "pictures"]
    monkeypatch.setattr(sys, "argv", ["pipeline", str(Path("nowhere.tsv"))])
    with pytest.raises(SystemExit, match=r"there is no manifest nowhere\.tsv"):
        pipeline.main()


SMALL = "--pairs 1 --layers 1 --width 16 --decoder-layers 1 --batch 2 --seconds 0.5 --tokens 4"


def test_finetuning(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["finetuning", *SMALL.split(), "--vocabulary", "9"])
    finetuning.main()
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split(":")[0] for line in lines] == [
        "fairseq's s2t_conformer, ours without CTC",
        "encoder free, frozen",
        "encoder free, its states stored",
    ]


def test_decoding(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["decoding", *SMALL.split(), "--vocabulary", "9"])
    decoding.main()
    systems = json.loads(capsys.readouterr().out)["systems"]
    assert systems[decoding.REFERENCE]["relative"] == 1.0
    assert {"ours, encoder alone", "ours, CTC greedy"} < systems.keys()
