"""The page of what a checkpoint makes of files."""

import io
import re
import sys
from base64 import b64decode
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
import torch

import mmpt_fairseq
from manifests.errors import InputError
from mmpt_fairseq.checkpoint import load_checkpoint
from mmpt_fairseq.data.waveform import read_waveform
from mmpt_fairseq.report import files
from mmpt_fairseq.report.__main__ import main, report_files
from mmpt_fairseq.report.alignment import align_clip
from mmpt_fairseq.report.figures import alignment, reconstruction
from mmpt_fairseq.report.probes import load_probe
from mmpt_fairseq.report.reconstruction import reconstruct
from tests.commands import run
from tests.helpers import RATE, noise, write_audio, write_video


@pytest.fixture(scope="module")
def stage_1(stages) -> Path:
    return stages / "pretraining" / "checkpoint_best.pt"


@pytest.fixture(scope="module")
def stage_3(stages) -> Path:
    return stages / "finetuning" / "checkpoint_best.pt"


def sounds(html: str) -> list[np.ndarray]:
    """What a page plays."""
    found = re.findall(r'src="data:audio/flac;base64,([^"]+)"', html)
    return [soundfile.read(io.BytesIO(b64decode(one)), dtype="float32")[0] for one in found]


def test_masked_files(stage_1, tmp_path):
    """With sound and pictures, with sound alone and with pictures alone, in either container."""
    both = write_video(tmp_path / "both.mp4", 30, audio=noise(1.2))
    paths = [
        both,
        write_video(tmp_path / "silent.mpg", 30, codec="mpeg1video"),
        write_audio(tmp_path / "Übung.flac", noise(6, rate=44_100), 44_100),
    ]
    out, page = report_files(stage_1, paths, tmp_path / "page.html")
    assert [[p.alt.split(" of ")[0] for p in one.pictures] for one in page.shown] == [
        ["spectrogram", "pictures"],
        ["pictures"],
        ["spectrogram"],
    ]
    text, markdown = (p.read_text(encoding="utf-8") for p in (out, out.with_suffix(".md")))
    targets = re.findall(r'(?:src|href)\s*=\s*"([^"]{0,40})', text)
    assert all(target.startswith(("data:", "#")) for target in targets)
    links = re.findall(r"\]\(([^)]+)\)", markdown)
    assert [Path(link).suffix for link in links] == [
        ".flac",
        ".svg",
        ".svg",
        ".svg",
        ".flac",
        ".svg",
    ]
    written = [tmp_path / unquote(link) for link in links]
    assert all(path.stat().st_size > 100 for path in written)
    assert "übung" in written[4].name  # letters of any alphabet stay
    heard = sounds(text)
    np.testing.assert_allclose(heard[0], read_waveform(str(both)), atol=1 / 32_000)
    # Of a long file what the model takes: here five seconds, and the rest of their last window.
    assert len(heard[1]) / RATE == pytest.approx(5.025, abs=0.001)


def test_a_masked_file_is_that_of_a_manifest(stage_1, corpora, tmp_path):
    path = corpora / "av" / "0.wav"
    expected = reconstruct(stage_1, corpora / "av" / "valid.tsv")
    _, page = report_files(stage_1, [path], tmp_path / "page.html")
    [shown] = page.shown
    assert shown.pictures == reconstruction(expected, str(path))[:1]


def test_aligned_files(stage_3, corpora, tmp_path):
    """As fairseq-generate's data path has them, with the text of mmpt-transcribe."""
    paths = [corpora / "asr" / "7.wav", write_video(tmp_path / "a.mp4", 30, audio=noise(1.2))]
    out, page = report_files(stage_3, paths, tmp_path / "page.html")
    texts = [one.text for one in mmpt_fairseq.load(stage_3, "cpu").transcribe(paths)]
    assert [one.text for one in page.shown] == texts
    probe = load_probe(stage_3, corpora / "asr" / "test.tsv")
    emitted = [label for _, label in align_clip(probe, 7, []).emitted if label != "end"]
    tokens = [label.replace("_", "▁") for label in emitted]
    expected = alignment(align_clip(probe, 7, tokens), str(paths[0]))
    assert page.shown[0].pictures == [expected]
    assert "CTC posteriors and decoder attention" in expected.alt
    heard = sounds(out.read_text(encoding="utf-8"))
    np.testing.assert_allclose(heard[0], read_waveform(str(paths[0])), atol=1 / 32_000)
    assert len(heard) == 2


def test_a_long_file_is_shown_in_pieces(stage_3, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_PIECES", 2)
    waveform = np.concatenate([noise(15), np.zeros(45 * RATE, np.float32)])
    path = write_audio(tmp_path / "long.wav", waveform)
    _, page = report_files(stage_3, [path], tmp_path / "page.html")
    first, second = page.shown
    assert first.name.startswith(f"{path}, 0.0 to ")
    assert first.pictures
    assert (second.text, second.pictures) == ("", [])
    assert second.note.startswith("It is silent: nothing is decoded. The file goes on")


def test_a_bad_file_among_good_ones(stage_3, corpora, tmp_path):
    """Named on stderr and on the page, which shows the others all the same."""
    bad = tmp_path / "text.mp4"
    bad.write_text("no film")
    good = corpora / "asr" / "0.wav"
    out = tmp_path / "page.html"
    command = [sys.executable, "-m", "mmpt_fairseq.report", stage_3, bad, good, "--out", out]
    result = run(command)
    assert result.returncode == 1
    assert f"mmpt-report: {bad} cannot be read as audio" in result.stdout
    assert "1 of 2 files failed" in result.stdout
    assert "Traceback" not in result.stdout
    text = out.read_text(encoding="utf-8")
    assert f"{bad} cannot be read as audio" in text
    assert len(sounds(text)) == 1


def test_what_cannot_be_used(stage_1, stage_3, corpora, tmp_path):
    """One sentence that names it, and no page."""
    good = corpora / "asr" / "0.wav"
    clr = load_checkpoint(stage_1)
    clr["cfg"]["criterion"]["_name"] = "mmpt_contrastive"
    torch.save(clr, tmp_path / "clr.pt")
    text = tmp_path / "text.mp4"
    text.write_text("no film")
    tab = write_audio(tmp_path / "a\tb.wav", noise(1))
    silent = write_video(tmp_path / "silent.mp4", 30)
    faults = [
        (
            tmp_path / "clr.pt",
            good,
            r"clr\.pt shows nothing: mmpt_contrastive does not reconstruct",
        ),
        (tmp_path / "none.pt", good, r"there is no checkpoint .*none\.pt"),
        (stage_1, text, r"text\.mp4 cannot be used: "),
        (stage_1, tmp_path / "none.mp4", r"there is no audio file .*none\.mp4"),
        (stage_1, tmp_path, r"is a folder"),
        (stage_1, tab, r"a\\tb\.wav' has a tab"),
        (stage_3, silent, r"silent\.mp4 has no audio track"),
    ]
    out = tmp_path / "page.html"
    for checkpoint, path, sentence in faults:
        with pytest.raises(InputError, match=sentence):
            report_files(checkpoint, [path], out)
    with pytest.raises(InputError, match=r"does not end in \.html"):
        report_files(stage_1, [good], tmp_path / "page.md")
    with pytest.raises(InputError, match=r"cannot be written"):
        report_files(stage_3, [good], tmp_path / "text.mp4" / "page.html")
    with pytest.raises(SystemExit, match="needs a file of sound or pictures"):
        main([str(stage_1)])
    assert not out.exists()
