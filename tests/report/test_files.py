"""Reports on a checkpoint's output for files."""

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


def embedded_audio(html: str) -> list[np.ndarray]:
    """Waveforms embedded in a page."""
    found = re.findall(r'src="data:audio/flac;base64,([^"]+)"', html)
    return [soundfile.read(io.BytesIO(b64decode(one)), dtype="float32")[0] for one in found]


def test_reconstructions_of_files_with_audio_or_video_or_both(stage_1, tmp_path):
    """Audio and video, video only and audio only, in different containers."""
    both = write_video(tmp_path / "both.mp4", 30, audio=noise(1.2))
    paths = [
        both,
        write_video(tmp_path / "silent.mpg", 30, codec="mpeg1video"),
        write_audio(tmp_path / "Übung.flac", noise(6, rate=44_100), 44_100),
    ]
    out, page = report_files(stage_1, paths, tmp_path / "page.html")
    assert [[p.alt.split(" of ")[0] for p in one.figures] for one in page.results] == [
        ["spectrogram", "video frames"],
        ["video frames"],
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
    assert "übung" in written[4].name  # non-ASCII letters are kept
    waveforms = embedded_audio(text)
    np.testing.assert_allclose(waveforms[0], read_waveform(str(both)), atol=1 / 32_000)
    # A long file is cut to the model's input: here five seconds, and the rest of the last window.
    assert len(waveforms[1]) / RATE == pytest.approx(5.025, abs=0.001)


def test_a_file_is_reconstructed_like_a_manifest_row(stage_1, corpora, tmp_path):
    path = corpora / "av" / "0.wav"
    expected = reconstruct(stage_1, corpora / "av" / "valid.tsv")
    _, page = report_files(stage_1, [path], tmp_path / "page.html")
    [shown] = page.results
    assert shown.figures == reconstruction(expected, str(path))[:1]


def test_aligned_files_match_transcription_and_manifest_rows(stage_3, corpora, tmp_path):
    """Text as by mmpt-transcribe, alignment as from the data path of fairseq-generate."""
    paths = [corpora / "asr" / "7.wav", write_video(tmp_path / "a.mp4", 30, audio=noise(1.2))]
    out, page = report_files(stage_3, paths, tmp_path / "page.html")
    texts = [one.text for one in mmpt_fairseq.load(stage_3, "cpu").transcribe(paths)]
    assert [one.text for one in page.results] == texts
    probe = load_probe(stage_3, corpora / "asr" / "test.tsv")
    emitted = [label for _, label in align_clip(probe, 7, []).emitted if label != "end"]
    tokens = [label.replace("_", "▁") for label in emitted]
    expected = alignment(align_clip(probe, 7, tokens), str(paths[0]))
    assert page.results[0].figures == [expected]
    assert "CTC posteriors and decoder attention" in expected.alt
    waveforms = embedded_audio(out.read_text(encoding="utf-8"))
    np.testing.assert_allclose(waveforms[0], read_waveform(str(paths[0])), atol=1 / 32_000)
    assert len(waveforms) == 2


def test_a_long_file_is_shown_in_segments(stage_3, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_PIECES", 2)
    waveform = np.concatenate([noise(15), np.zeros(45 * RATE, np.float32)])
    path = write_audio(tmp_path / "long.wav", waveform)
    _, page = report_files(stage_3, [path], tmp_path / "page.html")
    first, second = page.results
    assert first.name.startswith(f"{path}, 0.0 to ")
    assert first.figures
    assert (second.text, second.figures) == ("", [])
    assert second.note.startswith("Silent, so nothing is decoded. The file continues")


def test_what_precedes_damage_is_shown(stage_3, tmp_path):
    path = tmp_path / "damaged.flac"
    soundfile.write(path, noise(20), RATE)
    data = bytearray(path.read_bytes())
    data[-4000:-3000] = bytes(1000)
    path.write_bytes(data)
    _, page = report_files(stage_3, [path], tmp_path / "page.html")
    [shown] = page.results
    assert shown.figures
    assert shown.note.endswith("; this is what can be read.")


def test_a_bad_file_is_reported_and_the_others_are_shown(stage_3, corpora, tmp_path):
    """It is named on stderr and on the page."""
    bad = tmp_path / "text.mp4"
    bad.write_text("not a video")
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
    assert len(embedded_audio(text)) == 1


def test_unusable_files_and_checkpoints_are_rejected(stage_1, stage_3, corpora, tmp_path):
    """With one message that names the file, and without writing a page."""
    good = corpora / "asr" / "0.wav"
    clr = load_checkpoint(stage_1)
    clr["cfg"]["criterion"]["_name"] = "mmpt_contrastive"
    torch.save(clr, tmp_path / "clr.pt")
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    tab = write_audio(tmp_path / "a\tb.wav", noise(1))
    silent = write_video(tmp_path / "silent.mp4", 30)
    like_a_slice = write_audio(tmp_path / "talk.wav", noise(1)).rename(tmp_path / "talk:10:30")
    cases = [
        (
            tmp_path / "clr.pt",
            good,
            r"clr\.pt has nothing to show: mmpt_contrastive does not reconstruct",
        ),
        (tmp_path / "none.pt", good, r"there is no checkpoint .*none\.pt"),
        (stage_1, text, r"text\.mp4 cannot be used: "),
        (stage_1, tmp_path / "none.mp4", r"there is no audio file .*none\.mp4"),
        (stage_1, tmp_path, r"is a folder"),
        (stage_1, tab, r"a\\tb\.wav' has a tab"),
        (stage_1, like_a_slice, r"talk:10:30 ends like a slice of a recording; rename it"),
        (stage_3, silent, r"silent\.mp4 has no audio track"),
    ]
    out = tmp_path / "page.html"
    for checkpoint, path, message in cases:
        with pytest.raises(InputError, match=message):
            report_files(checkpoint, [path], out)
    with pytest.raises(InputError, match=r"does not end in \.html"):
        report_files(stage_1, [good], tmp_path / "page.md")
    with pytest.raises(InputError, match=r"cannot be written"):
        report_files(stage_3, [good], tmp_path / "text.mp4" / "page.html")
    with pytest.raises(SystemExit, match="needs an audio or video file"):
        main([str(stage_1)])
    assert not out.exists()
