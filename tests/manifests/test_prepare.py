"""What all recipes share: resuming, shards, duplicates, leaks, the summary, the command."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from manifests import folder
from manifests.candidate import Candidate, Limits
from manifests.catalogue import Catalogue
from manifests.common import CorpusError
from manifests.inspection import measure
from manifests.journal import Journal, journal_path
from manifests.prepare import Recipe, look_at_clips, main, parse, prepare
from manifests.recording import inspect
from tests.manifests.corpora import empty, film, rows, run, skipped, sound, text


def candidates(*ids, split="train", **kwargs):
    return [Candidate(id=name, split=split, **kwargs) for name in ids]


def run_candidates(clips, tmp_path, *options, **kwargs):
    recipe = Recipe("test", "made up", lambda args: iter(clips), **kwargs)
    options = [str(tmp_path), str(tmp_path / "out"), "--jobs", "1", *options]
    return prepare(recipe, parse(recipe, options))


@pytest.fixture
def wav(tmp_path):
    return str(sound(tmp_path / "a.wav", 1.0))


@pytest.fixture
def corpus(tmp_path):
    """Forty clips, two of them of no use."""
    for i in range(38):
        sound(tmp_path / f"corpus/{i:02d}.wav", 0.3 + i / 100, i)
    empty(tmp_path / "corpus/97.wav")
    film(tmp_path / "corpus/98.mp4", silent=True)
    return tmp_path / "corpus"


def manifests(out):
    return {p.name: p.read_bytes() for p in [*out.glob("*.tsv")]}


def test_a_killed_run_goes_on_without_loss_or_doubles(corpus, tmp_path):
    run("folder", corpus, tmp_path / "whole")
    out = tmp_path / "killed"
    # Clips arrive slowly, so that the kill falls among them.
    code = (
        "import sys, time\nfrom manifests import folder, prepare\n"
        "from dataclasses import replace\nprepare.CHUNK = 3\n"
        "def slow(args):\n"
        "    for clip in folder.candidates(args):\n        time.sleep(0.05)\n        yield clip\n"
        "sys.exit(prepare.main(replace(folder.RECIPE, candidates=slow)))"
    )
    command = [sys.executable, "-c", code, str(corpus), str(out), "--jobs", "1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    journal = out / ".journal/0-of-1.jsonl"
    for _ in range(600):
        time.sleep(0.05)
        if journal.is_file() and journal.read_bytes().count(b"\n") > 6:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    found = journal.read_bytes().count(b"\n") - 1
    assert 6 <= found < 40
    assert not list(out.glob("*.tsv"))
    # The kill fell in the middle of a line.
    with journal.open("ab") as file:
        file.write(b'{"n": 12, "id": "1')
    looked_at = []

    def watched(args):
        for clip in folder.candidates(args):
            looked_at.append(clip.id)
            yield clip

    recipe = replace(folder.RECIPE, candidates=watched)
    summary = prepare(recipe, parse(recipe, [str(corpus), str(out), "--jobs", "1"]))
    assert summary["clips"] == 38
    assert manifests(out) == manifests(tmp_path / "whole")
    assert journal.read_bytes().count(b"\n") == 42  # settings, forty clips, the end


def test_two_processes_do_not_write_one_journal(corpus, tmp_path):
    with (
        Journal(journal_path(tmp_path / "out", 0, 1), {}),
        pytest.raises(CorpusError, match="another process writes"),
    ):
        run("folder", corpus, tmp_path / "out")


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_journal_cut_anywhere_is_completed(corpus, tmp_path, cut):
    run("folder", corpus, tmp_path / "out")
    before, journal = manifests(tmp_path / "out"), tmp_path / "out/.journal/0-of-1.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut])
    run("folder", corpus, tmp_path / "out")
    assert manifests(tmp_path / "out") == before
    assert journal.read_bytes().count(b"\n") == 42


def test_a_finished_run_looks_at_nothing_again(corpus, tmp_path, monkeypatch):
    run("folder", corpus, tmp_path / "out")
    monkeypatch.setattr(Journal, "write", None)
    assert run("folder", corpus, tmp_path / "out")["clips"] == 38


def test_shards_and_processes_change_nothing(corpus, tmp_path):
    run("folder", corpus, tmp_path / "one")
    sharded = [str(corpus), str(tmp_path / "three"), "--nshard", "3"]
    assert (
        run("folder", *map(str, (corpus, tmp_path / "three")), *sharded[2:], "--rank", "2") is None
    )
    assert not list((tmp_path / "three").glob("*.tsv"))
    run("folder", corpus, tmp_path / "three", "--nshard", "3", "--rank", "0")
    recipe = folder.RECIPE
    options = [str(corpus), str(tmp_path / "three"), "--nshard", "3", "--rank", "1", "--jobs", "2"]
    assert prepare(recipe, parse(recipe, options))["clips"] == 38
    assert manifests(tmp_path / "three") == manifests(tmp_path / "one")
    with pytest.raises(
        CorpusError, match="begun with --nshard 3; give --rank and --nshard as then"
    ):
        run("folder", corpus, tmp_path / "three")


def shard(corpus, out, rank, *options):
    return run("folder", corpus, out, "--nshard", "2", "--rank", str(rank), *options)


def test_shards_of_other_settings_are_not_merged(corpus, tmp_path):
    out = tmp_path / "out"
    shard(corpus, out, 0, "--max-seconds", "0.4")
    with pytest.raises(CorpusError, match=r"longest 0.4 there, None here.*also --rank 0"):
        shard(corpus, out, 1)
    with pytest.raises(CorpusError, match=r"longest None there, 0.4 here.*run --rank 1"):
        shard(corpus, out, 1, "--restart")
    assert shard(corpus, out, 0, "--restart")["clips"] == 38


def test_shards_of_two_states_of_a_corpus_are_not_merged(corpus, tmp_path):
    out = tmp_path / "out"
    assert shard(corpus, out, 0) is None
    assert shard(corpus, out, 1)["clips"] == 38
    sound(corpus / "04b.wav", 0.5)
    with pytest.raises(CorpusError, match="when --rank 0 and --rank 1 looked at it; run the latt"):
        shard(corpus, out, 0, "--restart")
    assert shard(corpus, out, 1, "--restart")["clips"] == 39
    assert len(rows(out / "train.tsv") + rows(out / "valid.tsv")) == 39


def test_what_has_changed_is_looked_at_again(corpus, tmp_path, capsys):
    out, told = tmp_path / "out", "clips had changed and were looked at again"
    for i in (1, 2, 3):
        text(corpus / f"{i:02d}.txt", f"the first text of {i}")
    run("folder", corpus, out)
    text(corpus / "01.txt", "another text")
    sound(corpus / "02.wav", 0.9)
    sound(corpus / "97.wav", 0.7)  # was empty
    assert run("folder", corpus, out)["clips"] == 39
    assert f"3 {told}" in capsys.readouterr().err
    found = {r["id"]: r for r in rows(out / "train.tsv") + rows(out / "valid.tsv")}
    assert found["01"]["tgt_text"] == "another text"
    assert (found["02"]["n_frames"], found["97"]["n_frames"]) == ("88", "68")
    run("folder", corpus, tmp_path / "anew")
    assert manifests(out) == manifests(tmp_path / "anew")
    # Nor is anything forgotten or told twice, whatever a kill takes away.
    journal = out / ".journal/0-of-1.jsonl"
    journal.write_bytes(journal.read_bytes()[:-250])
    sound(corpus / "02.wav", 0.8)
    run("folder", corpus, out)
    run("folder", corpus, out)
    assert told not in capsys.readouterr().err.split("looked at again")[-1]
    run("folder", corpus, tmp_path / "anew", "--restart")
    assert manifests(out) == manifests(tmp_path / "anew")


def test_a_clip_that_was_missing_is_found_later(wav, tmp_path):
    clips = [*candidates("a", audio=wav), *candidates("b", audio=str(tmp_path / "b.wav"))]
    assert run_candidates(clips, tmp_path)["skipped"] == {"missing file": 1}
    sound(tmp_path / "b.wav", 0.5)
    assert run_candidates(clips, tmp_path)["clips"] == 2


def test_memory_does_not_grow_with_the_clips(wav, tmp_path):
    files = [wav, str(sound(tmp_path / "b.wav", 0.5))]

    def offer(args):
        for i in range(1500):
            yield Candidate(f"clip {i:06d} of a long name", "train", files[i % 2], text="a b")

    def most(work):
        tracemalloc.start()
        work()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    recipe = Recipe("test", "made up", offer)
    args = parse(recipe, [str(tmp_path), str(tmp_path / "out"), "--jobs", "1"])

    def look():
        with Journal(journal_path(args.out, 0, 1), {}) as journal:
            look_at_clips(recipe, args, Limits(), journal)

    def merge():
        with closing(Catalogue([journal_path(args.out, 0, 1)], {})) as catalogue:
            assert sum(1 for _ in catalogue.rows("train")) == 1500

    # Bytes. A list of the candidates alone has over 700,000; five chunks of 32 are under way.
    assert most(look) < 400_000
    assert most(look) < 200_000  # again, from the journal
    assert most(merge) < 200_000


def test_relative_paths_are_made_absolute(wav, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    run_candidates(candidates("a", audio="a.wav", video_optional=True, video="a.wav"), tmp_path)
    assert rows(tmp_path / "out/train.tsv")[0]["audio"] == wav


@pytest.mark.parametrize(
    "error", [UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "no"), EOFError("cut"), csv.Error("long")]
)
def test_a_list_that_cannot_be_read_ends_in_a_sentence(wav, tmp_path, capsys, error):
    def broken(args):
        yield from candidates("a", audio=wav)
        raise error

    options = [str(tmp_path), str(tmp_path / "out"), "--jobs", "1"]
    assert main(Recipe("test", "made up", broken), options) == 1
    assert "cannot be read, behind the clip a" in capsys.readouterr().err


def test_another_corpus_or_other_settings_are_refused(corpus, tmp_path):
    run("folder", corpus, tmp_path / "out")
    with pytest.raises(CorpusError, match=r"other settings \(shortest 0.1 there, 0.5 here\)"):
        run("folder", corpus, tmp_path / "out", "--min-seconds", "0.5")
    (corpus / "05.wav").unlink()
    with pytest.raises(CorpusError, match="changed since"):
        run("folder", corpus, tmp_path / "out")
    options = ("--restart", "--valid-every", "0")
    assert run("folder", corpus, tmp_path / "out", *options)["clips"] == 37
    assert [p.name for p in sorted((tmp_path / "out").glob("[tv]*.tsv"))] == ["train.tsv"]
    with pytest.raises(CorpusError, match="is the corpus itself"):
        run("folder", corpus, corpus)


def test_one_machine_may_begin_anew_after_several(corpus, tmp_path):
    shard(corpus, tmp_path / "out", 0)
    assert run("folder", corpus, tmp_path / "out", "--restart")["clips"] == 38
    assert [p.name for p in (tmp_path / "out/.journal").iterdir()] == ["0-of-1.jsonl"]


def test_a_table_that_is_not_there(corpus, tmp_path):
    run("folder", corpus, tmp_path / "out")
    with pytest.raises(CorpusError, match=r"there is no .*none.csv, which --csv names"):
        run("folder", corpus, tmp_path / "out", "--csv", str(tmp_path / "none.csv"))


def test_duplicates_stay_within_their_split(wav, tmp_path):
    clips = [*candidates("a", "b", "a", audio=wav), *candidates("a", split="test", audio=wav)]
    run_candidates(clips, tmp_path)
    assert [r["id"] for r in rows(tmp_path / "out/train.tsv")] == ["a", "b"]
    assert [r["id"] for r in rows(tmp_path / "out/test.tsv")] == ["a"]
    assert skipped(tmp_path / "out") == {"a": "duplicate id"}
    told = (tmp_path / "out/skipped.tsv").read_text().splitlines()
    assert told[0] == "id\tsplit\tpath\treason\tdetail"
    assert told[1].startswith(f"a\ttrain\t{wav}\tduplicate id\t")


def test_a_duplicate_of_an_unusable_clip_is_kept(wav, tmp_path):
    clips = [*candidates("a", audio="/nowhere.wav"), *candidates("a", audio=wav)]
    run_candidates(clips, tmp_path)
    assert rows(tmp_path / "out/train.tsv")[0]["audio"] == wav


@pytest.mark.parametrize(
    ("kind", "shared"),
    [
        ("speaker", {"columns": {"speaker": "ann"}}),
        ("source", {"source": "film"}),
        ("sentence", {"text": "the same four words"}),
    ],
)
def test_leaks_between_splits_are_refused_unless_allowed(wav, tmp_path, kind, shared):
    clips = [Candidate(s, s, wav, **shared) for s in ("train", "train-other", "test-clean")]
    with pytest.raises(CorpusError, match=f"1 times splits share a {kind}.*--allow-leaks {kind}"):
        run_candidates(clips, tmp_path)
    assert not (tmp_path / "out/train.tsv").exists()
    summary = run_candidates(clips, tmp_path, "--allow-leaks", kind)
    assert summary["leaks"][kind]["count"] == 1
    assert run_candidates(clips, tmp_path, allowed=(kind,))["clips"] == 3
    # Two training splits may share what they like.
    run_candidates(clips[:2], tmp_path, "--restart")


def test_short_phrases_are_no_leak(wav, tmp_path):
    clips = [Candidate(s, s, wav, text="thank you so") for s in ("train", "test")]
    assert run_candidates(clips, tmp_path)["leaks"] == {}


@pytest.mark.parametrize("split", ["../escaped", "/tmp/x", "skipped", "a b", "train,test", ""])
def test_a_split_is_a_file_in_the_folder(wav, tmp_path, split):
    with pytest.raises(CorpusError, match="a split cannot be called"):
        run_candidates(candidates("a", audio=wav, split=split), tmp_path)
    assert not list(tmp_path.rglob("*.tsv"))


@pytest.mark.parametrize(
    ("name", "split"),
    [("validation", "valid"), ("Training", "train"), ("val", "val"), ("tst-COMMON", "tst-COMMON")],
)
def test_splits_have_the_names_that_fairseq_gives_them(wav, tmp_path, name, split):
    run_candidates(candidates("a", audio=wav, split=name), tmp_path)
    assert [r["id"] for r in rows(tmp_path / "out" / f"{split}.tsv")] == ["a"]


def test_names_that_a_manifest_cannot_hold(tmp_path):
    sound(tmp_path / "corpus/a.wav", 0.5)
    sound(tmp_path / "corpus/tab\there.wav", 0.5)
    os.rename(
        sound(tmp_path / "corpus/b.wav", 0.5), os.fsencode(tmp_path / "corpus") + b"/l\xe4tin.wav"
    )
    run("folder", tmp_path / "corpus", tmp_path / "out", "--valid-every", "0")
    assert [r["id"] for r in rows(tmp_path / "out/train.tsv")] == ["a"]
    assert set(skipped(tmp_path / "out").values()) == {"unusable name"}


def test_the_summary_tells_what_there_is(wav, tmp_path):
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
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_only_the_beginning_of_a_film_is_decoded_for_the_summary(monkeypatch):
    from manifests import summary

    taken = []
    blocks = (taken.append(i) or np.zeros(16_000, np.float32) for i in range(3600))
    monkeypatch.setattr(summary, "waveform_blocks", lambda source: blocks)
    assert summary._sound("film.mp4").startswith("data:audio/flac")
    assert len(taken) < 9


def test_the_command_ends_with_a_sentence_and_a_loud_warning(corpus, tmp_path, capsys):
    assert main(folder.RECIPE, [str(tmp_path / "no"), str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("error: there is no")
    empty(corpus / "99.wav")
    assert main(folder.RECIPE, [str(corpus), str(tmp_path / "out"), "--jobs", "1"]) == 0
    output = capsys.readouterr()
    assert "38 clips (train " in output.out
    assert "WARNING: 3 of 41 clips (7%), of 3 files, are LEFT OUT" in output.err


def test_workers_import_no_fairseq():
    code = (
        "import sys, pkgutil, importlib, manifests\n"
        "own = {'vocabulary', 'pieces', 'features', 'summary', 'writing', 'repoint', 'generated'}\n"
        "for module in pkgutil.iter_modules(manifests.__path__):\n"
        "    if module.name not in own: importlib.import_module('manifests.' + module.name)\n"
        "sys.exit('fairseq' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_lengths_that_are_too_short_or_too_long(wav):
    clip = Candidate("a", "train", wav)
    assert measure(clip, Limits(longest=0.9)).reason == "too long"
    assert measure(clip, Limits(shortest=1.1)).reason == "too short"
    assert not measure(clip, Limits(longest_text=0.9)).reason
    assert measure(replace(clip, text="a"), Limits(longest_text=0.9)).reason == "too long"
    assert measure(replace(clip, video=wav), Limits()).reason == "no video track"
    assert measure(replace(clip, seconds=float("nan")), Limits()).reason == "unusable times"
    text_only = replace(clip, text=" ")
    assert measure(text_only, Limits()).reason == "empty transcript"


def test_a_part_without_an_end_goes_to_the_end(tmp_path):
    path = str(film(tmp_path / "a.mp4", 2.0))
    clip = Candidate("a", "train", path, video=path, start=1.5)
    found = measure(clip, Limits())
    samples = inspect(path).samples
    assert found.row["audio"] == f"{path}:24000:{samples - 24_000}"
    assert (found.row["video"], found.row["video_frames"]) == (f"{path}:37:13", 13)
    assert measure(replace(clip, start=2.5), Limits()).reason == "past the end of its recording"
    assert measure(replace(clip, start=-1.0), Limits()).reason == "unusable times"
    assert measure(replace(clip, seconds=-1.0), Limits()).reason == "unusable times"


def test_sound_that_cannot_be_used_gives_way_to_the_other(wav, tmp_path):
    broken = str(empty(tmp_path / "b.wav"))
    assert measure(Candidate("a", "train", broken, audio_else=wav), Limits()).row["audio"] == wav
    assert measure(Candidate("a", "train", wav, audio_else=broken), Limits()).row["audio"] == wav
    neither = Candidate("a", "train", broken, audio_else="/nowhere.wav")
    assert measure(neither, Limits()).reason == "unreadable"


def test_a_text_that_is_not_utf_8_is_told_as_such(wav):
    clip = Candidate("a", "train", wav, text=b"na\xefve".decode("utf-8", "surrogateescape"))
    assert measure(clip, Limits()).reason == "unreadable text"
    assert measure(replace(clip, text="a", id="a\udcef"), Limits()).reason == "unusable name"
