"""Decoding of trained checkpoints with fairseq-generate."""

import re
import shutil
import sys

import pytest

from mmpt_fairseq.data.manifest import write_manifest
from mmpt_fairseq.report.scores import read_hypotheses, score
from tests.commands import BIN, ROOT, generate, refused, run, succeeded, train, two_languages


@pytest.mark.parametrize("decoding", ["attention", "ctc"])
def test_a_checkpoint_and_a_manifest_suffice_to_decode_every_row(
    decoding, stages, corpora, tmp_path
):
    """No other files; seven rows are no multiple of 8, fairseq's required_batch_size_multiple."""
    data = tmp_path / "elsewhere"
    data.mkdir()
    for wav in (corpora / "asr").glob("*.wav"):
        shutil.copy(wav, data)
    lines = (corpora / "asr" / "test.tsv").read_text().splitlines()[:8]
    (data / "test.tsv").write_text("\n".join(lines) + "\n")
    checkpoint = shutil.copy(stages / "finetuning" / "checkpoint_last.pt", data / "model.pt")
    options = ["--decoding", decoding, "--results-path", data / "out", "--scoring", "wer"]
    succeeded(
        generate(checkpoint, data, "test", *options, "--max-len-b", "20", cwd=data, fresh=True)
    )
    output = data / "out" / "generate-test.txt"
    assert "WER" in output.read_text()
    rates = score(data / "test.tsv", output, "wer")
    printed = float(re.search(r"WER: ([\d.]+)", output.read_text())[1])
    assert rates["wer"] == pytest.approx(printed, abs=0.01)


def test_translation_is_scored_by_sacrebleu(stages, corpora, tmp_path):
    checkpoint = stages / "midtraining" / "checkpoint_last.pt"
    options = ["--scoring", "sacrebleu", "--results-path", tmp_path, "--max-len-b", "20"]
    succeeded(generate(checkpoint, corpora / "st", "test", *options, fresh=True))
    output = tmp_path / "generate-test.txt"
    assert "BLEU" in output.read_text()
    assert 0 <= score(corpora / "st" / "test.tsv", output, "bleu")["bleu"] <= 100


def test_a_bad_clip_is_skipped_in_training_but_stops_decoding(stages, corpora, tmp_path):
    """A zero-byte clip: training skips and counts it, decoding reports it and stops."""
    data = tmp_path / "data"
    shutil.copytree(corpora / "asr", data)
    (data / "3.wav").write_bytes(b"")
    for split in ("valid",):
        lines = (data / f"{split}.tsv").read_text().splitlines()
        kept = [line for line in lines if "3.wav" not in line]
        (data / f"{split}.tsv").write_text("\n".join(kept) + "\n")
    output = succeeded(train("finetuning", data, tmp_path / "run"))
    assert re.search(r"skipped .*train\.tsv, line 5 \(clip3\).*zero bytes \(1 so far\)", output)
    message = refused(generate(stages / "finetuning" / "checkpoint_last.pt", data, "test"))
    assert "test.tsv, line 5 (clip3)" in message
    assert "zero bytes" in message


def test_stage_1_generates_nothing(stages, corpora):
    checkpoint = stages / "pretraining" / "checkpoint_last.pt"
    command = [BIN / "fairseq-generate", corpora / "av", "--user-dir", ROOT / "mmpt_fairseq"]
    command += ["--task", "mmpt_av_pretraining", "--path", checkpoint, "--gen-subset", "valid"]
    command += ["--max-tokens", 200_000]
    assert "a checkpoint of stage 1 generates no text" in refused(run(command))


def test_several_target_languages(corpora, tmp_path):
    """With fairseq's language tags, which are not scored, and temperature sampling.

    Validation uses both languages together.
    """
    data = tmp_path / "data"
    options = two_languages(corpora, data)
    output = succeeded(train("midtraining", data, tmp_path / "run", *options))
    ratios = dict(re.findall(r"'(train_\w\w)': '([\d.]+)'", output))
    assert float(ratios["train_de"]) < 1 < float(ratios["train_it"])
    assert 'split="valid_de", n_samples=8' in output
    assert 'split="valid_it", n_samples=3' in output
    checkpoint = tmp_path / "run" / "checkpoint_last.pt"
    for decoding in ("attention", "ctc"):
        options = ["--decoding", decoding, "--max-len-b", "10"]
        results = ["--results-path", tmp_path / decoding]
        succeeded(generate(checkpoint, data, "test", *options, *results))
        printed = (tmp_path / decoding / "generate-test.txt").read_text()
        assert "T-0\tein rotes boot" in printed
        assert len(read_hypotheses(tmp_path / decoding / "generate-test.txt", 8)) == 8


def test_training_on_pseudo_labels(stages, corpora, tmp_path):
    """As in the README: a table of transcripts becomes an additional training split."""
    data = shutil.copytree(corpora / "asr", tmp_path / "asr")
    checkpoint = stages / "finetuning" / "checkpoint_last.pt"
    clips = [corpora / "asr" / f"{i}.wav" for i in range(3)]
    # The model is hardly trained, so CTC would emit nothing.
    options = ["--decoding", "attention", "--format", "tsv"]
    result = run([BIN / "mmpt-transcribe", checkpoint, *clips, *options, "--output-dir", tmp_path])
    succeeded(result)
    tables = [(tmp_path / f"{i}.tsv").read_text().splitlines() for i in range(3)]
    lines = [tables[0][0], *(line for table in tables for line in table[1:])]
    (tmp_path / "pseudo.tsv").write_text("\n".join(lines) + "\n")
    folder = [sys.executable, "-m", "manifests.folder", tmp_path, tmp_path / "pseudo"]
    table = ["--csv", tmp_path / "pseudo.tsv", "--valid-every", "0"]
    succeeded(run([*folder, *table], cwd=ROOT))
    shutil.copy(tmp_path / "pseudo" / "train.tsv", data / "pseudo.tsv")
    both = ["dataset.train_subset='train,pseudo'", "optimization.max_update=1"]
    output = succeeded(train("finetuning", data, tmp_path / "run", *both))
    assert len(lines) == 4
    assert "pseudo: 0 of" in output


def test_new_speech_is_decoded_without_text(stages, corpora, tmp_path):
    """From a manifest with ids, audio and lengths only."""
    rows = [{"id": "new", "audio": corpora / "asr" / "2.wav", "n_frames": 62}]
    write_manifest(tmp_path / "new.tsv", rows)
    text = (tmp_path / "new.tsv").read_text().splitlines()
    (tmp_path / "new.tsv").write_text("\n".join("\t".join(x.split("\t")[:3]) for x in text) + "\n")
    checkpoint = stages / "finetuning" / "checkpoint_last.pt"
    for decoding in ("attention", "ctc"):
        options = ["--decoding", decoding, "--max-len-b", "10"]
        output = succeeded(generate(checkpoint, tmp_path, "new", *options))
        assert re.search(r"^D-0\t", output, re.MULTILINE)
