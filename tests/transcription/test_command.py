"""``mmpt-transcribe``: stdout, stderr, output files and exit status."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from manifests.annotations import read_textgrid
from manifests.errors import UnreadableClip
from mmpt_fairseq.data.waveform import read_waveform
from mmpt_fairseq.transcription.__main__ import main
from tests.commands import ROOT
from tests.helpers import RATE, noise, write_audio, write_video
from tests.language_models import untrained_language_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """``a`` and ``b`` with noise, a silent file, and a text file named .wav."""
    folder = tmp_path_factory.mktemp("sounds")
    write_audio(folder / "a.wav", noise(1.2))
    write_audio(folder / "b.flac", noise(2.0, seed=1))
    write_audio(folder / "silence.ogg", np.zeros(RATE))
    (folder / "text.wav").write_text("this is no audio")
    return folder


def test_good_files_are_transcribed_and_bad_ones_named(checkpoint, folder, recogniser):
    """In a separate process, started in a folder with nothing but the files."""
    names = ["a.wav", "text.wav", "missing.wav", "silence.ogg", "b.flac"]
    result = subprocess.run(
        [sys.executable, "-m", "mmpt_fairseq.transcription", checkpoint, *names],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1
    texts = [recogniser.transcribe(folder / name).text for name in ("a.wav", "b.flac")]
    assert result.stdout.split("\n") == [texts[0], "", "", "", texts[1], ""]
    assert all(texts)
    assert "mmpt-transcribe: text.wav cannot be read as audio" in result.stderr
    assert "mmpt-transcribe: there is no audio file missing.wav" in result.stderr
    assert result.stderr.count("no words were recognised in") == 1
    assert "no words were recognised in silence.ogg" in result.stderr
    assert result.stderr.rstrip().endswith("mmpt-transcribe: 2 of 5 files failed")
    assert "transcribed" in result.stderr  # the progress bar
    assert "Traceback" not in result.stderr


def test_ctrl_c_ends_with_a_message(checkpoint, folder):
    # Background jobs of a shell ignore SIGINT, and the commands of tests inherit that.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "mmpt_fairseq.transcription"]
    files = [folder / "a.wav"] * 5000
    started = subprocess.Popen(
        [*command, checkpoint, *files, "--batch-size", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert started.stdout.readline().strip()
    started.send_signal(signal.SIGINT)
    _, stderr = started.communicate(timeout=60)
    assert started.returncode == 130
    assert stderr.splitlines()[-1] == "mmpt_fairseq: interrupted"
    assert "Traceback" not in stderr


def run(*arguments) -> int | str | None:
    """Run the command in this process; return its exit status."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code
    return 0


def test_json_has_one_object_per_file(checkpoint, folder, capsys, recogniser):
    files = [folder / name for name in ("a.wav", "text.wav", "b.flac")]
    status = run(checkpoint, *files, "--format", "json", "--batch-size", 1)
    assert status == "mmpt-transcribe: 1 of 3 files failed"
    a, text, b = map(json.loads, capsys.readouterr().out.splitlines())
    assert [found["file"] for found in (a, text, b)] == [str(path) for path in files]
    assert "cannot be read as audio" in text["error"]
    words = recogniser.transcribe(files[2]).words
    assert [word["word"] for word in b["segments"][0]["words"]] == [word.text for word in words]
    assert [word["start"] for word in b["segments"][0]["words"]] == pytest.approx(
        [word.start for word in words]
    )


def test_language_model_option_changes_the_text(checkpoint, corpora, folder, tmp_path, capsys):
    untrained_language_model(corpora / "asr", tmp_path / "lm.pt")
    texts = []
    for options in (["--decoding", "ctc_beam"], ["--lm-path", tmp_path / "lm.pt"]):
        assert run(checkpoint, folder / "a.wav", *options) == 0
        texts.append(capsys.readouterr().out)
    assert all(texts)
    assert texts[0] != texts[1]
    assert "there is no checkpoint none.pt" in run(checkpoint, "a.wav", "--lm-path", "none.pt")
    assert "not a language model" in run(checkpoint, "a.wav", "--lm-path", checkpoint)


def test_file_name_that_is_not_utf_8_is_transcribed(checkpoint, folder, tmp_path, capsys):
    name = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))
    shutil.copy(folder / "a.wav", name)
    assert run(checkpoint, folder / "a.wav") == 0
    expected = capsys.readouterr().out
    assert run(checkpoint, name) == 0
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("kind", ["mp3", "wav", "aiff", "au", "mkv"])
def test_truncated_file_is_reported(checkpoint, tmp_path, capsys, kind):
    whole, half = tmp_path / f"whole.{kind}", tmp_path / f"half.{kind}"
    if kind == "mkv":
        write_video(whole, 200, audio=noise(8))
    else:
        soundfile.write(whole, noise(8), RATE)
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    video = tmp_path / f"video.{'mkv' if kind == 'mkv' else 'mp4'}"
    write_video(video, 100, audio=noise(1))  # four seconds of video
    assert run(checkpoint, whole, half, video) == 0
    printed = capsys.readouterr()
    assert f"whole.{kind} ends" not in printed.err
    assert f"{video.name} ends" not in printed.err
    message = rf"half\.{kind} ends after [345]\.\d s, but its header states 8\.\d s"
    assert re.search(message, printed.err)
    assert len(printed.out.splitlines()) == 3


def test_length_of_a_wav_from_a_pipe_is_ignored(checkpoint, tmp_path, capsys):
    """A program that writes to a pipe cannot know the size and states the largest one."""
    path = write_audio(tmp_path / "a.wav", noise(3))
    data = path.read_bytes()
    size = data.index(b"data") + 4
    path.write_bytes(data[:size] + b"\xff\xff\xff\xff" + data[size + 4 :])
    assert run(checkpoint, path) == 0
    assert "ends after" not in capsys.readouterr().err


def test_subtitles_are_written_to_the_output_dir(checkpoint, folder, tmp_path, capsys):
    files = [folder / "a.wav", folder / "b.flac"]
    assert run(checkpoint, *files, "--format", "srt", "--output-dir", tmp_path / "new" / "srt") == 0
    assert capsys.readouterr().out == ""
    written = sorted(path.name for path in (tmp_path / "new" / "srt").iterdir())
    assert written == ["a.srt", "b.srt"]
    assert (tmp_path / "new" / "srt" / "b.srt").read_text().startswith("1\n00:00:0")


def test_a_textgrid_that_exists_is_not_replaced(checkpoint, folder, tmp_path):
    """It may have been corrected; those of the first run are kept, and nothing is transcribed."""
    options = ["--format", "textgrid", "--output-dir", tmp_path]
    assert run(checkpoint, folder / "a.wav", *options) == 0
    corrected = tmp_path / "a.TextGrid"
    assert "words" in read_textgrid(corrected.read_text(encoding="utf-8"))
    corrected.write_text("corrected")
    with pytest.raises(SystemExit, match="exists and may have been corrected"):
        main([str(x) for x in (checkpoint, folder / "b.flac", folder / "a.wav", *options)])
    assert corrected.read_text() == "corrected"
    assert not (tmp_path / "b.TextGrid").exists()


def test_vtt_is_written_to_stdout(checkpoint, folder, capsys):
    assert run(checkpoint, folder / "a.wav", "--format", "vtt") == 0
    assert capsys.readouterr().out.startswith("WEBVTT\n\n00:00:0")


def test_tsv_of_several_files_has_one_header(checkpoint, folder, tmp_path, capsys):
    files = [folder / "a.wav", folder / "b.flac"]
    assert run(checkpoint, *files, "--format", "tsv") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "file\tstart\tend\ttext\tconfidence"
    assert {line.split("\t")[0] for line in lines[1:]} == {str(path) for path in files}
    assert run(checkpoint, *files, "--format", "tsv", "--output-dir", tmp_path) == 0
    written = [(tmp_path / f"{path.stem}.tsv").read_text().splitlines() for path in files]
    assert [rows[0] for rows in written] == [lines[0]] * 2
    assert [row for rows in written for row in rows[1:]] == lines[1:]


@pytest.mark.parametrize("style", ["tsv", "vtt"])
def test_failed_file_writes_nothing_as_tsv_or_vtt(checkpoint, tmp_path, capsys, style):
    assert run(checkpoint, tmp_path / "none.wav", "--format", style) != 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", ["flac", "mp4"])
def test_readable_part_of_a_damaged_file_is_transcribed(checkpoint, tmp_path, capsys, kind):
    """FLAC up to where it is truncated; in a container also packets after damaged ones."""
    path = tmp_path / f"half.{kind}"
    if kind == "flac":
        soundfile.write(path, noise(40), RATE)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        write_video(path, 50, audio=noise(40))
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 2000] = bytes(2000)
        path.write_bytes(content)
    status = run(checkpoint, path, "--format", "json", "--longest", 4)
    assert status == "mmpt-transcribe: 1 of 1 files failed"
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert "half" in found["error"]
    assert f"mmpt-transcribe: {found['error']}; the readable" in printed.err
    assert len(found["segments"]) >= 5
    seconds = (18, 20) if kind == "flac" else (39, 41)
    assert seconds[0] < found["duration"] < seconds[1]
    with pytest.raises(UnreadableClip):
        read_waveform(str(path))


@pytest.mark.real_data
def test_real_damaged_files_are_named(checkpoint, real_data, capsys):
    files = sorted((real_data / "broken").glob("*.flac"))
    good = real_data / "fsdd" / "recordings" / "0_george_0.wav"
    good = good if good.exists() else sorted((real_data / "fsdd").glob("**/*.wav"))[0]
    status = run(checkpoint, *files, good)
    assert status == f"mmpt-transcribe: {len(files)} of {len(files) + 1} files failed"
    found = capsys.readouterr()
    assert len(found.out.splitlines()) == len(files) + 1
    assert all(f"{path.name} cannot be read as audio" in found.err for path in files)


def test_unusable_arguments_are_reported_in_one_sentence(checkpoint, stage_1, folder, tmp_path):
    a = folder / "a.wav"
    (tmp_path / "file").write_text("")
    (tmp_path / "a.mp3").write_text("")
    faults = {
        "is of stage 1, which does not learn text": [stage_1, a],
        "there is no checkpoint": [tmp_path / "none.pt", a],
        "is a folder; name a checkpoint in it": [tmp_path, a],
        "is not a readable checkpoint": [a, a],
        "cannot share stdout; give --output-dir": [checkpoint, a, a, "--format", "srt"],
        "would all be written to": [
            *(checkpoint, a, tmp_path / "a.mp3"),
            *("--output-dir", tmp_path / "out"),
        ],
        "cannot make --output-dir": [checkpoint, a, "--output-dir", tmp_path / "file"],
        "batch_size=0 must be at least 1": [checkpoint, a, "--batch-size", 0],
        "leave out the language nl": [checkpoint, a, "--language", "nl"],
        "the device gpu": [checkpoint, a, "--device", "gpu"],
    }
    for fault, arguments in faults.items():
        sentence = run(*arguments)
        assert isinstance(sentence, str), fault
        assert sentence.startswith("mmpt_fairseq: ")
        assert fault in sentence
        assert "\n" not in sentence


def test_closed_stdout_ends_without_a_traceback(checkpoint, folder):
    """As in ``mmpt-transcribe ... | head -0``."""
    script = "from mmpt_fairseq.transcription.__main__ import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", script, checkpoint, "a.wav", "b.flac"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


def test_full_disk_is_reported(checkpoint, folder):
    """Simulated by Linux's /dev/full."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "mmpt_fairseq.transcription", checkpoint, "a.wav"],
            cwd=folder,
            env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.endswith(
        "mmpt_fairseq: stdout cannot be written: No space left on device\n"
    )
    assert "Traceback" not in ended.stderr


def test_stdout_is_utf_8(checkpoint, folder, tmp_path, monkeypatch):
    name = "日本ɛɔ.wav"
    shutil.copy(folder / "a.wav", tmp_path / name)
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    assert run(checkpoint, tmp_path / name, "--format", "json") == 0
    assert json.loads(written.getvalue().decode("utf-8"))["file"].endswith(name)
    monkeypatch.setattr(sys, "stdout", None)  # of a service without one
    assert run(checkpoint, tmp_path / name, "--output-dir", tmp_path / "out") == 0


def test_file_name_that_is_not_utf_8_is_kept_in_the_output(checkpoint, folder, tmp_path):
    name = os.fsdecode(b"caf\xe9.wav")
    shutil.copy(folder / "a.wav", tmp_path / name)
    out = tmp_path / "out"
    assert run(checkpoint, tmp_path / name, "--format", "json", "--output-dir", out) == 0
    [written] = os.listdir(os.fsencode(out))
    assert written == b"caf\xe9.json"
    assert b"caf\xe9.wav" in (out / os.fsdecode(written)).read_bytes()
