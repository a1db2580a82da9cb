"""The fine-tuning comparison: its training subsets, origins and tables."""

import json
import shutil
from dataclasses import asdict, replace

import pytest

from examples.demo.systems import Sizes
from examples.finetuning import origin
from examples.finetuning.compare import VARIANTS, VOCABULARY, Comparison, systems, write_subset
from examples.finetuning.table import Tables
from examples.mboshi.s2t_conformer import Size
from manifests.errors import InputError
from mmpt_fairseq.data.audio import read_filterbank
from mmpt_fairseq.data.manifest import Manifest

TEXTS = ["a red boat", "the cat"]


def test_smaller_subsets_are_nested_in_larger_ones(corpora, tmp_path):
    ids = {}
    for percent in (1, 50, 100):
        write_subset(corpora / "asr", tmp_path / str(percent), percent, "test")
        manifest = Manifest(tmp_path / str(percent) / "train.tsv")
        assert len(read_filterbank(manifest.resolve("audio", 0))) == manifest.n_frames[0]
        ids[percent] = set(manifest.column("id"))
        assert len(Manifest(tmp_path / str(percent) / "test.tsv")) == 8
    assert ids[1] < ids[50] < ids[100]
    assert [len(ids[percent]) for percent in (1, 50, 100)] == [1, 4, 8]


@pytest.fixture
def comparison(corpora, tmp_path) -> Comparison:
    """A comparison on a demo whose test set has two rows."""
    settings = {"sizes": asdict(Sizes(finetuning_updates=7)), "overrides": ["model.dropout=0.3"]}
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/results.json").write_text(json.dumps(settings))
    demo = origin.demo(tmp_path / "demo", "nl")
    assert demo.updates == 7
    assert demo.from_scratch[-1] == demo.from_encoder[-1] == demo.midtraining[-1]
    assert demo.midtraining[-1] == "model.dropout=0.3"
    write_subset(corpora / "asr", demo.asr, 100, demo.test)
    path = demo.asr / "test.tsv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    assert list(Manifest(path).column("tgt_text")) == TEXTS
    write_subset(corpora / "st", demo.st, 100, demo.test)
    for source, target in ((corpora / "asr", demo.asr), (corpora / "st", demo.st)):
        for name in VOCABULARY:
            shutil.copyfile(source / name, target / name)
    return Comparison(demo, tmp_path / "out")


def decoded(folder, hypotheses):
    folder.mkdir(parents=True)
    lines = [f"D-{i}\t0\t{text}\n" for i, text in enumerate(hypotheses)]
    (folder / "generate-test.txt").write_text("".join(lines))


def test_tables_show_the_error_rates_of_the_decodes(comparison):
    names = ["encoder frozen", "encoder free"]
    for name in names:
        for search in ("ctc", "ctc_averaged", "attention", "joint"):
            correct = search == "joint" or name == "encoder frozen"
            texts = TEXTS if correct else ["a blue boat", "the cat"]
            decoded(comparison.folder(1, name) / search, texts)
        rates = {search: {"wer": 20.0, "cer": 10.0} for search in ("ctc", "joint, 0.3 of CTC")}
        (comparison.folder(1, name) / "valid.json").write_text(json.dumps(rates))
    decoded(comparison.origin.curve["scratch"](1), ["a red", "the cat"])
    chosen = {name: system for name, system in systems(comparison.origin).items() if name in names}
    text = str(Tables(comparison, chosen, [1]))
    assert "| encoder frozen | ctc | 0.0 [0.0, 0.0] | 0.0 [0.0, 0.0] |" in text
    assert "| encoder free | ctc | 20.0 [0.0, 33.3] | 23.5 [0.0, 40.0] |" in text
    assert "| encoder free | joint | 0.0 [0.0, 0.0] | 0.0 [0.0, 0.0] |" in text
    assert "| WER % on valid | ctc | joint, 0.3 of CTC |\n|---|---|---|" in text
    assert "| encoder free | 20.0 | 20.0 |" in text
    assert "| 100 %, scratch (existing run) | ctc | 20.0 [0.0, 33.3] | 29.4" in text
    assert "| 100 %, midtrained (existing run) | ctc | not run | |" in text
    assert "| encoder free | 20.0 [0.0, 33.3] | 23.5 [0.0, 40.0] | +0.0 % [+0.0, +0.0] |" in text


def test_real_speech_uses_the_settings_of_its_run(corpora, tmp_path):
    """The variants have a decoder and 30 % of the transcripts; the curves' systems no decoder."""
    with pytest.raises(InputError, match=r"examples\.mboshi\.run first"):
        origin.mboshi(tmp_path)
    size = asdict(replace(Size(), width=96))
    settings = {
        "updates": [1, 20, 30, 4],
        "size": size,
        "finetuning_rate": 0.2,
        "guide": 7,
        "frozen": 0.15,
    }
    (tmp_path / "results.json").write_text(json.dumps({"settings": settings}))
    for name, folder in (("asr", "asr_all"), ("st", "st")):
        shutil.copytree(corpora / name, tmp_path / "manifests" / folder)
    start = origin.mboshi(tmp_path)
    del settings["guide"]
    (tmp_path / "results.json").write_text(json.dumps({"settings": settings}))
    with pytest.raises(InputError, match="an earlier version that did not guide CTC"):
        origin.mboshi(tmp_path)
    assert (start.updates, start.continued) == (30, 20)
    assert start.search[-1] == str(len("a red boat") + 1)  # SentencePiece prepends a space
    assert "model.encoder_embed_dim=96" in start.overrides
    recipe = {"optimization.lr=[0.2]", "+model.dropout=0.2", "+criterion.ctc_guide_updates=7"}
    assert recipe <= set(start.from_scratch)
    assert recipe <= set(start.from_encoder)
    assert (start.warmup(30), start.metric) == (3, "cer")
    chosen = systems(start)
    assert {chosen[name].percent for name in VARIANTS} == {30}
    assert "model.decoder_layers=0" in chosen["10 %, midtrained"].options
    assert chosen["10 %, midtrained"].frozen == pytest.approx(0.15)
    assert start.midtrained(7) == tmp_path / "seed7" / "midtrained" / "checkpoint_best.pt"


def test_another_corpus_is_rejected_before_anything_is_written(comparison):
    comparison.out.mkdir()
    (comparison.out / "corpus.txt").write_text("/another/asr")
    with pytest.raises(InputError, match="another folder with --out"):
        comparison.prepare()
    assert [path.name for path in comparison.out.iterdir()] == ["corpus.txt"]


def test_a_new_corpus_in_the_old_ones_place_is_rejected(comparison):
    origin = comparison.origin
    comparison.prepare()
    comparison.prepare()
    path = origin.asr / "train.tsv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match="another folder with --out"):
        comparison.prepare()


def test_a_demo_that_has_not_finished_is_refused(tmp_path):
    with pytest.raises(InputError, match="make demo first"):
        origin.demo(tmp_path, "nl")
    (tmp_path / "results.json").write_text('{"sizes": {"clips": 3}, "overrides": []}')
    with pytest.raises(InputError, match="another version of the demo"):
        origin.demo(tmp_path, "nl")
