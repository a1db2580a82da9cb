"""The comparison of ways to fine-tune: what it trains on, and its tables from its folders."""

import json

import pytest

from examples.demo.run import Demo, Sizes
from examples.finetuning.compare import SYSTEMS, Comparison, share_transcripts
from examples.finetuning.table import DEMOS, Tables
from mmpt_fairseq.data.audio import read_filterbank
from mmpt_fairseq.data.manifest import Manifest

TEXTS = ["a red boat", "the cat"]


def test_smaller_shares_are_parts_of_larger_ones(corpora, tmp_path):
    ids = {}
    for share in (1, 50, 100):
        share_transcripts(corpora / "asr", tmp_path / str(share), share)
        manifest = Manifest(tmp_path / str(share) / "train.tsv")
        assert len(read_filterbank(manifest.resolve("audio", 0))) == manifest.n_frames[0]
        ids[share] = set(manifest.column("id"))
        assert len(Manifest(tmp_path / str(share) / "test.tsv")) == 8
    assert ids[1] < ids[50] < ids[100]
    assert [len(ids[share]) for share in (1, 50, 100)] == [1, 4, 8]


@pytest.fixture
def comparison(corpora, tmp_path) -> Comparison:
    """Of a demo whose test set has two rows."""
    demo = Demo(tmp_path / "demo", Sizes(), "nl")
    share_transcripts(corpora / "asr", demo.corpus / "asr", 100)
    path = demo.corpus / "asr" / "test.tsv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    assert list(Manifest(path).column("tgt_text")) == TEXTS
    return Comparison(demo, tmp_path / "out", updates=300, continued=500)


def decoded(folder, hypotheses):
    folder.mkdir(parents=True)
    lines = [f"D-{i}\t0\t{text}\n" for i, text in enumerate(hypotheses)]
    (folder / "generate-test.txt").write_text("".join(lines))


def test_tables(comparison):
    names = ["encoder frozen", "encoder free"]
    for name in names:
        for way in ("ctc", "ctc_averaged", "attention", "joint"):
            right = way == "joint" or name == "encoder frozen"
            texts = TEXTS if right else ["a blue boat", "the cat"]
            decoded(comparison.folder(1, name) / way, texts)
        wer = {"ctc": 20.0, "attention": 20.0, "joint, 0.3 of CTC": 0.0}
        (comparison.folder(1, name) / "valid.json").write_text(json.dumps(wer))
    for folder in DEMOS.values():
        decoded(comparison.demo.folder(1, folder) / "decoded", ["a red", "the cat"])
    text = str(Tables(comparison, {name: SYSTEMS[name] for name in names}, [1]))
    assert "| encoder frozen | ctc | 0.0 [0.0, 0.0] | 0.0 |" in text
    assert "| encoder free | ctc | 20.0 [0.0, 33.3] | 23.5 |" in text
    assert "| encoder free | joint | 0.0 [0.0, 0.0] | 0.0 |" in text
    assert "| WER % on valid | ctc | attention | joint, 0.3 of CTC |" in text
    assert "| 100 %, scratch (the demo's) | ctc | 20.0 [0.0, 33.3] | 29.4 |" in text
    assert "| encoder free | 20.0 [0.0, 33.3] | 23.5 | +0.0 % [+0.0, +0.0] |" in text
