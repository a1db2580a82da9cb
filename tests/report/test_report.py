"""The report on real trainings and decodes, written by the command and rendered in a browser."""

import contextlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import termios
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmpt_fairseq.report.__main__ import report
from mmpt_fairseq.report.alignment import align_clip, read_tokens
from mmpt_fairseq.report.configs import file_names
from mmpt_fairseq.report.content import collect, cost
from mmpt_fairseq.report.discovery import find
from mmpt_fairseq.report.page import number
from mmpt_fairseq.report.probes import load_probe
from mmpt_fairseq.report.scores import score
from tests.commands import BIN, ROOT, generate, losses, refused, run, succeeded, train
from tests.report.browser import inspect_page
from tests.report.folders import (
    config,
    done,
    line,
    progress,
    sentences,
    start,
    write_decode,
    write_log,
    write_test_set,
    write_training,
)


def mmpt_report(*arguments):
    return run([sys.executable, "-m", "mmpt_fairseq.report", *arguments])


@pytest.fixture(scope="module")
def decoded(stages, corpora, tmp_path_factory) -> Path:
    """A from-scratch training, and decodes of it and of stages 2 and 3."""
    root = tmp_path_factory.mktemp("decoded")
    succeeded(train("finetuning", corpora / "asr", root / "scratch"))
    for name, folder, data, options in [
        ("scratch", root / "scratch", "asr", ["--decoding", "ctc", "--scoring", "wer"]),
        ("asr", stages / "finetuning", "asr", ["--decoding", "ctc", "--scoring", "wer"]),
        ("st", stages / "midtraining", "st", ["--beam", "2", "--max-len-b", "9"]),
    ]:
        results = ["--results-path", root / f"{name}_decoded"]
        checkpoint = folder / "checkpoint_best.pt"
        succeeded(generate(checkpoint, corpora / data, "test", *options, *results))
    return root


@pytest.fixture(scope="module")
def page(stages, decoded, tmp_path_factory) -> Path:
    """The report on all of them, written by the command."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    printed = succeeded(mmpt_report(stages, decoded, "--out", out))
    assert printed.strip() == str(out)
    return out


def test_the_page_renders_in_a_browser(page, decoded, corpora, tmp_path):
    found = inspect_page(page, tmp_path)
    assert len(found["image_sizes"]) >= 3 + 3 * 4 + 2 * (1 + 1 + 1)
    assert all(width > 0 and height > 0 for width, height in found["image_sizes"])
    assert all(width > 200 and height > 100 for width, height in found["svg_sizes"])
    assert found["requests"] == []
    assert found["overflow"] == 0
    lengths = [soundfile.info(path).duration for path in (corpora / "asr").glob("*.wav")]
    assert found["durations"]
    assert all(min(lengths) - 0.1 < x < max(lengths) + 0.1 for x in found["durations"])
    text = found["text"]
    for metric, name, data in [("wer", "asr", "asr"), ("wer", "scratch", "asr")]:
        output = decoded / f"{name}_decoded" / "generate-test.txt"
        assert number(score(corpora / data / "test.tsv", output, metric)["wer"]) in text
    for words in ("pre-trained, mid-trained", "beam 2", "from scratch", "Stage 1: pre-training"):
        assert words in text
    for words in ("No figure", "no audio", "has changed since"):
        assert words not in text


def test_the_page_adapts_to_dark_mode_and_narrow_screens(page, tmp_path):
    dark = inspect_page(page, tmp_path, width=400, dark=True)
    light = inspect_page(page, tmp_path)
    assert sum(rgb(dark["background"])) < 120 < 600 < sum(rgb(light["background"]))
    assert sum(rgb(dark["colour"])) > 600
    assert dark["overflow"] == 0


def rgb(colour: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", colour)[:3]]


def test_the_page_is_self_contained(page):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r'(?:src|href)\s*=\s*"([^"]{0,40})', text)
    assert targets
    assert all(target.startswith(("data:", "#")) for target in targets)
    assert not re.search(r"url\((?!#)|@import|<script", text)
    assert len(text) < 10_000_000


def test_markdown_has_the_same_sections_and_valid_links(page):
    text = page.with_suffix(".md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert {Path(link).suffix for link in links} == {".svg", ".flac", ".yaml"}
    assert all((page.parent / link).stat().st_size > 100 for link in links)
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    sections = re.findall(r"<h2 id=[^>]*>(.*?)</h2>", page.read_text(encoding="utf-8"))
    assert headings == sections
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        table = [line for line in section.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in table}) <= 1


def test_runs_have_memory_lineage_and_decodes(stages, decoded):
    runs, decodes = find([stages, decoded])
    by_name = {run.folder.name: run for run in runs}
    assert [r.folder.name for r in by_name["finetuning"].lineage] == ["pretraining", "midtraining"]
    assert by_name["midtraining"].kind == "translation"
    for one in runs:
        assert 0.2 < cost(one).memory < 20
        assert set(one.log.validation()["valid"]["peak_rss_gb"]) == {one.log.updates}
    assert {d.folder.name: d.run.folder.name for d in decodes} == {
        "asr_decoded": "finetuning",
        "scratch_decoded": "scratch",
        "st_decoded": "midtraining",
    }


def test_fairseq_generate_writes_a_record(decoded, stages, corpora):
    record = json.loads((decoded / "st_decoded" / "generate-test.json").read_text())
    assert record["task"] == {"data": str(corpora / "st"), "decoding": "attention"}
    assert record["common_eval"]["path"] == str(stages / "midtraining" / "checkpoint_best.pt")
    assert record["generation"]["beam"] == 2


def test_an_aligned_clip_matches_its_decoded_text(stages, decoded, corpora):
    checkpoint = stages / "finetuning" / "checkpoint_best.pt"
    probe = load_probe(checkpoint, corpora / "asr" / "test.tsv")
    tokens = read_tokens(decoded / "asr_decoded" / "generate-test.txt")
    assert sorted(tokens) == list(range(8))
    for row in (0, 7):
        clip = align_clip(probe, row, tokens[row])
        # fairseq strips EOS, which a model after two updates emits anywhere.
        emitted = [label for _, label in clip.emitted if label != "end"]
        assert emitted == [token.replace("▁", "_") for token in tokens[row]]
        assert np.allclose(clip.attention.sum(1), 1, atol=1e-5)
        frames = -(-len(clip.filterbank) // 4)
        assert clip.attention.shape == (len(tokens[row]) + 1, frames)
        assert clip.posteriors.shape == (frames, len(clip.labels))
        for frame, label in clip.emitted:
            posterior = clip.posteriors[frame, clip.labels.index(label)]
            assert posterior == clip.posteriors[frame].max()


def test_the_report_on_a_ctc_only_model_shows_posteriors(corpora, tmp_path):
    """Trained and decoded without a decoder; there is no attention to show."""
    folder = tmp_path / "ctc_only"
    succeeded(train("finetuning", corpora / "asr", folder, "model.decoder_layers=0"))
    results = ["--decoding", "ctc", "--scoring", "wer", "--results-path", folder / "decoded"]
    succeeded(generate(folder / "checkpoint_best.pt", corpora / "asr", "test", *results))
    probe = load_probe(folder / "checkpoint_best.pt", corpora / "asr" / "test.tsv")
    tokens = read_tokens(folder / "decoded" / "generate-test.txt")
    clip = align_clip(probe, 0, tokens[0])
    assert clip.attention is None
    assert [label for _, label in clip.emitted] == [t.replace("▁", "_") for t in tokens[0]]
    text = report([folder]).read_text(encoding="utf-8")
    assert "CTC posteriors" in text
    assert "decoder attention" not in text
    assert "No figure" not in text


def test_recipes_of_runs_with_similar_names_are_different_files():
    names = ["mae/lr1", "mae-lr1", "mae-lr1-2", "mae lr1", "..", "é/1"]
    assert file_names(names) == ["mae-lr1", "mae-lr1-2", "mae-lr1-2-2", "mae-lr1-3", "run", "é-1"]


def test_a_recipe_reproduces_its_run(page, stages, tmp_path):
    """Training with the settings that were parsed from the log gives the same loss."""
    [recipe] = (page.parent / "report_files").glob("*midtraining.yaml")
    command = ["--config-dir", recipe.parent, "--config-name", recipe.stem]
    repeated = run([BIN / "fairseq-hydra-train", *command, f"checkpoint.save_dir={tmp_path}"])
    first = losses((stages / "midtraining" / "output.txt").read_text())
    assert losses(succeeded(repeated)) == first
    assert first


def test_the_report_shows_the_original_commands(page, stages):
    """They are recorded in fairseq's log only."""
    text = page.read_text(encoding="utf-8")
    for name in ("pretraining", "midtraining", "finetuning"):
        assert f"checkpoint.save_dir={stages / name}" in text
    assert "The original command is unknown" not in text


def test_unreadable_checkpoints_and_missing_clips_are_reported(stages, decoded, corpora, tmp_path):
    """The reason replaces the figures; everything else is shown."""
    data = Path(shutil.copytree(corpora / "asr", tmp_path / "asr"))
    asr = Path(shutil.copytree(stages / "finetuning", tmp_path / "runs" / "asr"))
    results = Path(shutil.copytree(decoded / "asr_decoded", asr / "decoded"))
    record = json.loads((results / "generate-test.json").read_text())
    record["task"]["data"] = str(data)
    record["common_eval"]["path"] = str(asr / "checkpoint_best.pt")
    (results / "generate-test.json").write_text(json.dumps(record))
    for clip in data.glob("*.wav"):
        clip.unlink()
    page = collect([asr], "files")
    assert len(page.decoded[0].clips) == 3
    for clip in page.decoded[0].clips:
        wav = data / f"{clip.name.removeprefix('clip')}.wav"
        assert clip.reason_missing.endswith(f"there is no audio file {wav}")
    assert "there is no audio file" in page.worst[0].clips[0].audio.reason_missing
    (asr / "checkpoint_best.pt").write_bytes(b"PK\x03\x04 cut short")
    out = report([asr])
    text = out.read_text(encoding="utf-8")
    assert out == asr / "report.html"
    assert "No figure:" in text
    assert "is not a readable checkpoint" in text
    assert "checkpoint_best.pt has changed since generate-test.txt was decoded with it" in text
    assert page.notes == []
    assert len(page.tables[0].rows) == 1


def test_text_is_escaped(tmp_path):
    texts = ["<script>alert(1)</script> & `code` *bold* | x", *sentences(5)]
    data = write_test_set(tmp_path / "data", texts)
    write_decode(write_training(tmp_path / "<i>run", data), data, [*texts[1:], "<img src=x>"])
    out = report([tmp_path])
    page, markdown = (p.read_text(encoding="utf-8") for p in (out, out.with_suffix(".md")))
    for text in (page, markdown):
        assert "&lt;script&gt;" in text
        assert not re.search(r"<script|<img src=x|<i>run", text)
    assert r"\*bold\*" in markdown


def test_unfinished_runs_are_reported(tmp_path):
    cfg = config(tmp_path, tmp_path, max_update=600)
    lines = [start(0, cfg), progress(30, 300, 2.0)]
    write_log(tmp_path / "running", *lines, progress(40, 310, 1.9)[:-9])
    died = "RuntimeError: the disk is <full>\n"
    fault = "Traceback (most recent call last):\n"
    write_log(tmp_path / "died", *lines, fault, died, name="log.txt")
    out = report([tmp_path])
    text = out.read_text(encoding="utf-8")
    assert re.search(r"running</strong> is still running, update 300 of 600", text)
    assert re.search(r"died</strong> has stopped at update 300 of 600", text)
    assert "the disk is &lt;full&gt;" in text
    assert "RuntimeError: the disk is <full>" in out.with_suffix(".md").read_text()


def test_runs_that_failed_before_training_get_one_line_each(tmp_path):
    cfg = config(tmp_path, tmp_path)
    write_log(tmp_path / "asr", start(0, cfg), progress(30, 100, 2.0), done(40))
    for name in ("a", "b"):
        write_log(tmp_path / name, start(0, cfg), f"mmpt_fairseq: no folder {name}; create it\n")
    began = line(1, "fairseq.trainer", "begin training epoch 1")
    write_log(tmp_path / "crashed", start(0, cfg), began, "Traceback (most recent call last):\n")
    write_log(tmp_path / "saved", start(0, cfg), "mmpt_fairseq: the gradients\n")
    (tmp_path / "saved/checkpoint_last.pt").touch()
    text = report([tmp_path]).with_suffix(".md").read_text(encoding="utf-8")
    assert "\n\n3 trainings and 0 decodes" in text
    assert text.count("no folder a; create it") == text.count("no folder b; create it") == 1
    assert "failed before training and is omitted" in text
    single = report([tmp_path / "a"]).with_suffix(".md").read_text(encoding="utf-8")
    assert "\n\n1 training and 0 decodes" in single


def test_decodes_follow_trainings_in_one_table(tmp_path):
    """Without a blank line between them, which would end the table in Markdown."""
    data = write_test_set(tmp_path / "data", sentences(4))
    folder = write_decode(write_training(tmp_path / "run", data), data, sentences(4))
    (folder / "done.json").write_text(json.dumps({"seconds": 12.0}))
    text = report([tmp_path / "run"]).with_suffix(".md").read_text(encoding="utf-8")
    table = text.split("## Time and memory\n\n")[1].split("\n\n")[0].split("\n")
    assert [line.split(" | ")[1] for line in table[2:]] == ["recognition", "decoding"]


def test_a_terminal_shows_a_progress_bar(tmp_path):
    data = write_test_set(tmp_path / "data", sentences(4))
    write_decode(write_training(tmp_path / "run", data), data, sentences(4))
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    command = [sys.executable, "-m", "mmpt_fairseq.report", tmp_path / "run"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # signals the end of a pseudo-terminal
            while block := os.read(ours, 4096):
                shown += block
        assert process.stdout.read().decode().strip() == str(tmp_path / "run" / "report.html")
    os.close(ours)
    bars = re.findall(r"([a-z ]+): +(\d+)%\|[^|]*\| (\d)/(\d)", shown.decode())
    assert bars[0] == ("finding runs", "0", "0", "6")
    assert bars[-1] == ("finding worst utterances", "100", "6", "6")


def test_the_command_rejects_different_test_sets(tmp_path):
    for name, texts in [("one", sentences(6)), ("two", sentences(7)[1:])]:
        data = write_test_set(tmp_path / f"{name}_data", texts)
        write_decode(write_training(tmp_path / "runs" / name, data), data, texts)
    message = refused(mmpt_report(tmp_path / "runs"))
    assert "different test sets" in message
    assert not list((tmp_path / "runs").glob("report*"))


def test_the_command_rejects_a_folder_without_runs(tmp_path):
    assert "no training and no decode" in refused(mmpt_report(tmp_path))


def test_the_console_script_exists():
    [entry] = re.findall(r'"mmpt-report = ([\w.]+):(\w+)"', (ROOT / "setup.py").read_text())
    assert callable(getattr(import_module(entry[0]), entry[1]))
