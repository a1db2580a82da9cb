"""What all recipes share: duplicates, splits, leaks, segments, the summary, the command."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from manifests import compact_video, features, folder
from manifests.candidate import Candidate, Limits
from manifests.errors import InputError
from manifests.inspection import measure
from manifests.prepare import main
from manifests.recipe import Recipe
from manifests.recording import inspect
from tests.manifests.corpora import (
    candidates,
    empty,
    make_audio,
    make_video,
    rows,
    run,
    run_candidates,
    skipped,
)


def test_relative_paths_are_made_absolute(wav, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    run_candidates(candidates("a", audio="a.wav", video_optional=True, video="a.wav"), tmp_path)
    assert rows(tmp_path / "out/train.tsv")[0]["audio"] == wav


@pytest.mark.parametrize(
    "error", [UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "no"), EOFError("cut"), csv.Error("long")]
)
def test_an_unreadable_list_ends_with_a_message(wav, tmp_path, capsys, error):
    def broken(args):
        yield from candidates("a", audio=wav)
        raise error

    options = [str(tmp_path), str(tmp_path / "out"), "--jobs", "1"]
    with pytest.raises(SystemExit, match="cannot be read, after the clip a"):
        main(Recipe("test", "made up", broken), options)


def test_a_missing_table_is_reported(corpus, tmp_path):
    run("folder", corpus, tmp_path / "out")
    with pytest.raises(InputError, match=r"there is no .*none.csv \(given with --csv\)"):
        run("folder", corpus, tmp_path / "out", "--csv", str(tmp_path / "none.csv"))


def test_duplicates_stay_within_their_split(wav, tmp_path):
    clips = [*candidates("a", "b", "a", audio=wav), *candidates("a", split="test", audio=wav)]
    run_candidates(clips, tmp_path)
    assert [r["id"] for r in rows(tmp_path / "out/train.tsv")] == ["a", "b"]
    assert [r["id"] for r in rows(tmp_path / "out/test.tsv")] == ["a"]
    assert skipped(tmp_path / "out") == {"a": "duplicate id"}
    reported = (tmp_path / "out/skipped.tsv").read_text().splitlines()
    assert reported[0] == "id\tsplit\tpath\treason\tdetail"
    assert reported[1].startswith(f"a\ttrain\t{wav}\tduplicate id\t")


def test_a_duplicate_of_an_unusable_clip_is_kept(wav, tmp_path):
    clips = [*candidates("a", audio="/nowhere.wav"), *candidates("a", audio=wav)]
    run_candidates(clips, tmp_path)
    assert rows(tmp_path / "out/train.tsv")[0]["audio"] == wav


@pytest.mark.parametrize(
    ("kind", "shared"),
    [
        ("speaker", {"columns": {"speaker": "ann"}}),
        ("source", {"source": "video"}),
        ("sentence", {"text": "the same four words"}),
    ],
)
def test_leaks_between_splits_are_refused_unless_allowed(wav, tmp_path, kind, shared, capsys):
    clips = [Candidate(s, s, wav, **shared) for s in ("train", "train-other", "test-clean")]
    with pytest.raises(InputError, match=rf"share a {kind} \(1 in all\).*--allow-leaks {kind}"):
        run_candidates(clips, tmp_path)
    assert not (tmp_path / "out/train.tsv").exists()
    summary = run_candidates(clips, tmp_path, "--allow-leaks", kind)
    assert summary["leaks"][kind]["count"] == 1
    assert run_candidates(clips, tmp_path, allowed=(kind,))["clips"] == 3
    # Training splits may share anything.
    run_candidates(clips[:2], tmp_path, "--restart")
    removed = f"removed {tmp_path / 'out/test-clean.tsv'}, which an earlier run wrote"
    assert removed in capsys.readouterr().err
    assert not (tmp_path / "out/test-clean.tsv").exists()


def test_sentences_that_differ_in_punctuation_are_the_same(wav, tmp_path):
    texts = {"train": "The cat sat, on the mat.", "test": "the cat sat on the mat"}
    clips = [Candidate(split, split, wav, text=text) for split, text in texts.items()]
    with pytest.raises(InputError, match="share a sentence"):
        run_candidates(clips, tmp_path)


def test_short_phrases_are_not_leaks(wav, tmp_path):
    clips = [Candidate(s, s, wav, text="thank you so") for s in ("train", "test")]
    assert run_candidates(clips, tmp_path)["leaks"] == {}


@pytest.mark.parametrize("split", ["../escaped", "/tmp/x", "skipped", "a b", "train,test", ""])
def test_split_names_that_are_not_safe_file_names_are_refused(wav, tmp_path, split):
    with pytest.raises(InputError, match="a split cannot be called"):
        run_candidates(candidates("a", audio=wav, split=split), tmp_path)
    assert not list(tmp_path.rglob("*.tsv"))


@pytest.mark.parametrize(
    ("name", "split"),
    [("validation", "valid"), ("Training", "train"), ("val", "val"), ("tst-COMMON", "tst-COMMON")],
)
def test_splits_get_fairseqs_names(wav, tmp_path, name, split):
    run_candidates(candidates("a", audio=wav, split=name), tmp_path)
    assert [r["id"] for r in rows(tmp_path / "out" / f"{split}.tsv")] == ["a"]


def kill_this_process():
    os.kill(os.getpid(), signal.SIGKILL)


class Kills(str):
    """A text that kills the worker it is sent to, like a decoder that crashes on a damaged file."""

    def __reduce__(self):
        return kill_this_process, ()


def test_only_the_clip_that_kills_its_worker_is_left_out(wav, tmp_path):
    clips = candidates("a", "b", "c", "d", audio=wav)
    clips[2] = replace(clips[2], columns={"speaker": Kills("ann")})
    assert run_candidates(clips, tmp_path)["clips"] == 3
    assert "c\ttrain" in (tmp_path / "out/skipped.tsv").read_text()
    assert "it crashes the process that reads it" in (tmp_path / "out/skipped.tsv").read_text()
    # The next run does not try it again.
    assert run_candidates(clips, tmp_path)["clips"] == 3


def test_names_that_a_manifest_cannot_hold_are_left_out(tmp_path):
    make_audio(tmp_path / "corpus/a.wav", 0.5)
    make_audio(tmp_path / "corpus/tab\there.wav", 0.5)
    os.rename(
        make_audio(tmp_path / "corpus/b.wav", 0.5),
        os.fsencode(tmp_path / "corpus") + b"/l\xe4tin.wav",
    )
    run("folder", tmp_path / "corpus", tmp_path / "out", "--valid-every", "0")
    assert [r["id"] for r in rows(tmp_path / "out/train.tsv")] == ["a"]
    assert set(skipped(tmp_path / "out").values()) == {"unusable name"}


def test_the_summary_has_the_statistics_of_the_corpus(wav, tmp_path):
    clips = [
        Candidate("a", "train", wav, text="a red <b>boat</b>", columns={"speaker": "ann"}),
        Candidate("b", "train", wav, text="a boat", columns={"src_lang": "en", "tgt_lang": "de"}),
        Candidate("c", "train", "/nowhere.wav"),
    ]
    run_candidates(clips, tmp_path)
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    train = summary["splits"]["train"]
    assert (train["clips"], train["words"], train["distinct_words"]) == (2, 5, 4)
    assert (train["speakers"], train["languages"]) == (1, ["en-de"])
    assert (summary["skipped"], summary["files_left_out"]) == ({"missing file": 1}, 1)
    assert summary["command"] == f"python -m manifests.test {tmp_path} {tmp_path}/out --jobs 1"
    page = (tmp_path / "out/summary.html").read_text()
    assert "a red &lt;b&gt;boat&lt;/b&gt;" in page
    assert page.count("data:audio/flac;base64,") == 2
    assert "mathdefault" not in page  # matplotlib's math text
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_manifests_that_no_longer_point_to_caches_are_reported(tmp_path, capsys):
    """A recipe that is run again writes the corpus's own paths."""
    make_video(tmp_path / "corpus/a.mp4")
    arguments = [str(tmp_path / "corpus"), str(tmp_path / "out"), "--jobs", "1", "--without-texts"]
    reported = []
    for made in (None, features, compact_video):
        if made:
            made.main([f"{tmp_path / made.__name__}.zip", str(tmp_path / "out"), "--jobs", "1"])
        capsys.readouterr()
        main(folder.RECIPE, arguments)
        reported.append(re.findall(r"run python -m manifests\.(\w+) once", capsys.readouterr().err))
    assert reported == [[], ["features"], ["compact_video"]]


def test_only_the_beginning_of_a_recording_is_decoded_for_the_summary(monkeypatch):
    from manifests import summary

    taken = []
    blocks = (taken.append(i) or np.zeros(16_000, np.float32) for i in range(3600))
    monkeypatch.setattr(summary, "waveform_blocks", lambda source: blocks)
    assert summary._audio_uri("video.mp4").startswith("data:audio/flac")
    assert len(taken) < 9


def test_the_command_ends_with_an_error_message_or_a_loud_warning(corpus, tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"^mmpt_fairseq: there is no"):
        main(folder.RECIPE, [str(tmp_path / "no"), str(tmp_path / "out")])
    empty(corpus / "99.wav")
    main(folder.RECIPE, [str(corpus), str(tmp_path / "out"), "--jobs", "1"])
    output = capsys.readouterr()
    assert "38 clips (train " in output.out
    assert "WARNING: 3 of 41 clips (7%), from 3 of 41 files, are LEFT OUT (" in output.err


def test_workers_import_no_fairseq():
    code = (
        "import sys, pkgutil, importlib, manifests\n"
        "own = {'vocabulary', 'pieces', 'features', 'states', 'summary', 'writing', 'repoint'}\n"
        "own |= {'generated'}\n"
        "for module in pkgutil.iter_modules(manifests.__path__):\n"
        "    if module.name not in own: importlib.import_module('manifests.' + module.name)\n"
        "sys.exit('fairseq' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_clips_that_are_too_short_or_too_long(wav):
    clip = Candidate("a", "train", wav)
    assert measure(clip, Limits(longest=0.9)).reason == "too long"
    assert measure(clip, Limits(shortest=1.1)).reason == "too short"
    assert not measure(clip, Limits(longest_text=0.9)).reason
    assert measure(replace(clip, text="a"), Limits(longest_text=0.9)).reason == "too long"
    assert measure(replace(clip, video=wav), Limits()).reason == "no video track"
    assert measure(replace(clip, seconds=float("nan")), Limits()).reason == "unusable times"
    text_only = replace(clip, text=" ")
    assert measure(text_only, Limits()).reason == "empty transcript"


def test_a_segment_without_an_end_extends_to_the_end(tmp_path):
    path = str(make_video(tmp_path / "a.mp4", 2.0))
    clip = Candidate("a", "train", path, video=path, start=1.5)
    found = measure(clip, Limits())
    samples = inspect(path).samples
    assert found.row["audio"] == f"{path}:24000:{samples - 24_000}"
    assert (found.row["video"], found.row["video_frames"]) == (f"{path}:37:13", 13)
    assert measure(replace(clip, start=2.5), Limits()).reason == "past the end of its recording"
    assert measure(replace(clip, start=-1.0), Limits()).reason == "unusable times"
    assert measure(replace(clip, seconds=-1.0), Limits()).reason == "unusable times"


def test_alternative_audio_replaces_unusable_audio(wav, tmp_path):
    broken = str(empty(tmp_path / "b.wav"))
    assert measure(Candidate("a", "train", broken, audio_else=wav), Limits()).row["audio"] == wav
    assert measure(Candidate("a", "train", wav, audio_else=broken), Limits()).row["audio"] == wav
    neither = Candidate("a", "train", broken, audio_else="/nowhere.wav")
    assert measure(neither, Limits()).reason == "unreadable"


def test_a_text_that_is_not_utf_8_has_its_own_reason(wav):
    clip = Candidate("a", "train", wav, text=b"na\xefve".decode("utf-8", "surrogateescape"))
    assert measure(clip, Limits()).reason == "unreadable text"
    assert measure(replace(clip, text="a", id="a\udcef"), Limits()).reason == "unusable name"
