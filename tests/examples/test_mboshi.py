"""The real-speech comparison: its parts, and a complete run on a subset of the real corpora."""

import json

import pytest

from examples.mboshi import frozen
from examples.mboshi.counts import count_texts, format_counts, too_long_for_ctc
from examples.mboshi.results import table, unseen
from examples.mboshi.run import main
from examples.mboshi.s2t_conformer import Size
from examples.mboshi.systems import SYSTEMS, Comparison, Settings, levels, updates_within
from examples.stages import effort
from manifests.errors import InputError
from manifests.vocabulary import build_vocabulary
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from mmpt_fairseq.report.scores import read_hypotheses
from tests.commands import ROOT


def write_texts(folder, texts: dict[str, list[str]], frames: int = 9) -> None:
    for name, sentences in texts.items():
        rows = [
            {"id": i, "audio": "a.ogg", "n_frames": frames, "src_text": text, "tgt_text": text}
            for i, text in enumerate(sentences, 1)
        ]
        write_manifest(folder / f"{name}.tsv", rows)


def test_sentences_of_every_stage_count_as_seen(tmp_path):
    """Of three dev sentences one occurs in stage 3, one only in stage 2, one nowhere."""
    texts = {
        "asr_few/train": ["ngá"],
        "asr_all/train": ["ngá"],
        "asr_all/valid": ["wa"],
        "st/train": ["ngá", "yé  mωné"],
        "st/valid": ["wa"],
        "asr_all/dev": ["ngá", "yé mωné", "abia áwoi"],
    }
    write_texts(tmp_path, texts)
    assert unseen(tmp_path, Manifest(tmp_path / "asr_all" / "dev.tsv")) == [2]
    write_texts(tmp_path, {"asr_all/dev": ["wa"]})
    with pytest.raises(InputError, match="every sentence"):
        unseen(tmp_path, Manifest(tmp_path / "asr_all" / "dev.tsv"))


def test_equal_time_is_converted_to_updates():
    """If 100 updates took 50 s, 175 s suffice for 350; there is at least one update."""
    assert updates_within(175.0, updates=100, took=50.0) == 350
    assert updates_within(0.1, updates=4, took=50.0) == 1


def test_every_training_runs_once_and_after_its_dependencies(tmp_path):
    comparison = Comparison(tmp_path, tmp_path, Settings())

    def steps(*systems):
        chosen = levels(comparison, systems, ["few", "all"], [1, 2])
        return [
            [(step.func.__name__, *step.args[1:]) for step in level if step.args[0] == 1]
            for level in chosen
        ]

    pairs = [(amount, "scratch") for amount in ("few", "all")]
    scratch = [("finetune", *pair) for pair in pairs]
    three = [("finetune", "few", "stages"), ("finetune", "all", "stages")]
    conformer = [("conformer", "few"), ("conformer", "all")]
    assert steps("scratch") == [scratch]
    pretrained = [("finetune", amount, "pretrained") for amount in ("few", "all")]
    assert steps("pretrained") == [[("pretrain",)], pretrained]
    assert steps("stages") == [[("pretrain",)], [("midtrain",)], three]
    assert steps("s2t_conformer") == [[("pretrain",)], [("midtrain",), *scratch], three, conformer]


def test_count_texts_finds_entities_and_unusual_tokens():
    counts = count_texts(["l&apos; eau & 50 m", "a . .. &quot; n", "&apos; A"])
    assert counts["entities"] == {"&apos;": 2, "&quot;": 1}
    assert counts["tokens without a letter"] == {'"': 1, "&": 1, "'": 1, ".": 1, "..": 1, "50": 1}
    assert counts["single letters"] == {"A": 1, "a": 1, "m": 1, "n": 1}
    assert counts["rare characters"]["u"] == 1
    assert " " not in count_texts(["a " * 20])["rare characters"]


def test_targets_too_long_for_ctc(tmp_path):
    """Twelve encoder frames suffice for twelve tokens, minus one per blank between equal tokens.

    SentencePiece prepends a token for a space.
    """
    write_texts(tmp_path, {"train": ["ab" * 5, "a" * 6, "ab" * 6, "a" * 7]}, frames=45)
    build_vocabulary(tmp_path, "char")
    assert too_long_for_ctc(tmp_path, "train") == 2


def test_sizes_are_the_same_for_our_systems_and_fairseqs():
    size = Size(layers=3, width=96, decoder_layers=5, heads=2, kernel=7, max_tokens=123)
    fairseq_options = " ".join(size.fairseq_options())
    for option, override in {
        "--encoder-layers 3": "model.encoder_layers=3",
        "--encoder-embed-dim 96": "model.encoder_embed_dim=96",
        "--encoder-ffn-embed-dim 384": "model.encoder_ffn_embed_dim=384",
        "--encoder-attention-heads 2": "++model.encoder_attention_heads=2",
        "--depthwise-conv-kernel-size 7": "model.depthwise_conv_kernel_size=7",
        "--decoder-layers 5": "model.decoder_layers=5",
        "--decoder-embed-dim 96": "model.decoder_embed_dim=96",
        "--decoder-ffn-embed-dim 384": "model.decoder_ffn_embed_dim=384",
        "--decoder-attention-heads 2": "model.decoder_attention_heads=2",
        "--max-tokens 123": "dataset.max_tokens=123",
    }.items():
        assert option in fairseq_options
        assert override in size.model_overrides()
    assert set(size.encoder_overrides()) < set(size.model_overrides())


@pytest.fixture
def corpora(real_data, tmp_path):
    """A few rows of every corpus with links to their clips, and one empty clip."""

    def link_subset(name: str, rows: int) -> None:
        (tmp_path / "data" / name).mkdir(parents=True)
        for path in (real_data / name).iterdir():
            target = tmp_path / "data" / name / path.name
            if path.suffix == ".tsv":
                lines = path.read_text(encoding="utf-8").splitlines()[: rows + 1]
                target.write_text("\n".join(lines) + "\n", encoding="utf-8")
            else:
                target.symlink_to(path)

    link_subset("grid", 8)
    link_subset("mboshi", 41)
    for name in ("librispeech/train-clean-100", "arctic/audio"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for clip in sorted((real_data / name).rglob("*.ogg"))[:3]:
            (tmp_path / "data" / name / clip.name).symlink_to(clip)
    (tmp_path / "data" / "arctic" / "audio" / "zz_empty.ogg").write_bytes(b"")
    return tmp_path / "data"


@pytest.mark.real_data
@pytest.mark.slow
def test_every_system_runs_on_real_speech_and_only_once(corpora, tmp_path, monkeypatch, capfd):
    """A few updates of all systems on GRID's mp4, Ogg Opus and Mboshi's tones; then a rerun."""
    out = tmp_path / "run"
    options = ["--data", str(corpora), "--out", str(out), "--minutes", "1", "--jobs", "2"]
    options += ["--transcripts", "few", "--budget", "2", "2", "3", "3", "--checkpoints", "1"]
    options += ["--layers", "1", "--width", "16", "--decoder-layers", "1"]
    options += ["--short-midtraining", "0", "250"]
    monkeypatch.chdir(ROOT)  # where the configs are
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    main(options)
    printed = capfd.readouterr().out

    counts = json.loads((out / "manifests" / "counts.json").read_text())
    assert counts["rows"]["pretrain/train"] == 7 + 6 + 41
    assert counts["rows"]["asr_all/train"] + counts["rows"]["asr_all/valid"] == 41
    assert 0.7 < counts["minutes"]["asr_few/train"] < 1.3
    assert not any(Manifest(out / "manifests" / "pretrain" / "train.tsv").column("tgt_text"))
    assert "zz_empty\t" in (out / "manifests" / "skipped.tsv").read_text()
    assert format_counts(counts) in printed

    found = json.loads((out / "results.json").read_text())
    systems = found["systems"]["few"]
    assert list(systems) == list(SYSTEMS)
    for name, scores in systems.items():
        folder = out / "seed1" / f"few_{name}"
        assert len(read_hypotheses(folder / "decoded" / "generate-dev.txt", 41)) == 41
        assert effort(folder).updates == scores["updates"][0]
    for name in ("scratch", "pretrained", "stages"):
        assert systems[name]["updates"] == [3]
    both = [effort(out / "seed1" / name).seconds for name in ("pretrained", "few_pretrained")]
    assert systems["pretrained"]["seconds"] == [sum(both)]
    assert set(found["three stages against"]["few"]) == set(SYSTEMS) - {"stages"}
    assert "few, stage 1 against scratch: dev WER " in printed
    assert Settings.of_run(out).updates == (2, 2, 3, 3)
    # fairseq stops after the first update beyond the time limit.
    assert systems["s2t_conformer"]["seconds"][0] > 0.99 * systems["stages"]["seconds"][0]
    # For CTC decoding our systems have no decoder.
    assert systems["s2t_conformer"]["parameters"] > systems["stages"]["parameters"]
    assert found["stage 2"]["dev"]["bleu"]["low"] >= 0
    assert len(found["verdicts"]) == 8
    assert table(found) in printed

    encoder = str(out / "seed1" / "pretrained" / "checkpoint_best.pt")
    folder = str(out / "manifests" / "asr_few")
    frozen.main([encoder, f"random:{encoder}", "--data", folder, "--epochs", "1"])
    rows = [line.split(" | ") for line in capfd.readouterr().out.splitlines()[2:]]
    assert [row[1] for row in rows] == ["0", "1"] * 2  # one layer, and its input as layer 0
    assert all(float(row[2]) > 0 for row in rows)
    assert rows[0][2:] != rows[2][2:]

    finished = {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")}
    main(options)
    again = capfd.readouterr()
    assert table(found) in again.out
    assert "\n$ " not in f"\n{again.err}"
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")} == finished
    with pytest.raises(SystemExit, match=r"then --minutes 1\.0, now --minutes 2\.0"):
        main([*options, "--minutes", "2"])
