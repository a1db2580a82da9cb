"""Resuming after a kill, sharing work between machines, and detecting changes."""

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from contextlib import closing
from dataclasses import replace

import pytest

from manifests import folder
from manifests.candidate import Candidate, Limits
from manifests.catalogue import Catalogue
from manifests.errors import InputError
from manifests.journal import Journal, compare_settings, journal_path
from manifests.prepare import inspect_clips, prepare
from manifests.recipe import Recipe, parse
from tests.manifests.corpora import candidates, make_audio, rows, run, run_candidates, text


def manifests(out):
    return {p.name: p.read_bytes() for p in [*out.glob("*.tsv")]}


def test_a_killed_run_resumes_without_lost_or_duplicate_clips(corpus, tmp_path):
    run("folder", corpus, tmp_path / "whole")
    out = tmp_path / "killed"
    # Clips arrive slowly, so that the kill happens while some remain.
    code = (
        "import sys, time\nfrom manifests import folder, prepare\n"
        "from dataclasses import replace\nprepare.CHUNK = 3\n"
        "def slow(args):\n"
        "    for clip in folder.candidates(args):\n        time.sleep(0.05)\n        yield clip\n"
        "prepare.main(replace(folder.RECIPE, candidates=slow))"
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
    # As if the kill had truncated a line.
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


def test_two_processes_cannot_write_the_same_journal(corpus, tmp_path):
    with (
        Journal(journal_path(tmp_path / "out", 0, 1), {}),
        pytest.raises(InputError, match="another process is writing"),
    ):
        run("folder", corpus, tmp_path / "out")


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_journal_truncated_anywhere_is_completed(corpus, tmp_path, cut):
    run("folder", corpus, tmp_path / "out")
    before, journal = manifests(tmp_path / "out"), tmp_path / "out/.journal/0-of-1.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut])
    run("folder", corpus, tmp_path / "out")
    assert manifests(tmp_path / "out") == before
    assert journal.read_bytes().count(b"\n") == 42


def test_a_finished_run_inspects_nothing_again(corpus, tmp_path, monkeypatch):
    run("folder", corpus, tmp_path / "out")
    monkeypatch.setattr(Journal, "write", None)
    assert run("folder", corpus, tmp_path / "out")["clips"] == 38


def test_shards_and_processes_do_not_change_the_manifests(corpus, tmp_path):
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
    with pytest.raises(InputError, match="started with --nshard 3; use the same --rank and"):
        run("folder", corpus, tmp_path / "three")


def shard(corpus, out, rank, *options):
    return run("folder", corpus, out, "--nshard", "2", "--rank", str(rank), *options)


def test_shards_with_other_settings_are_not_merged(corpus, tmp_path):
    out = tmp_path / "out"
    shard(corpus, out, 0, "--max-seconds", "0.4")
    with pytest.raises(InputError, match=r"longest 0.4 there, None here.*also --rank 0"):
        shard(corpus, out, 1)
    with pytest.raises(InputError, match=r"longest None there, 0.4 here.*run --rank 1"):
        shard(corpus, out, 1, "--restart")
    assert shard(corpus, out, 0, "--restart")["clips"] == 38


def test_shards_of_a_corpus_that_changed_are_not_merged(corpus, tmp_path):
    out = tmp_path / "out"
    assert shard(corpus, out, 0) is None
    assert shard(corpus, out, 1)["clips"] == 38
    make_audio(corpus / "04b.wav", 0.5)
    with pytest.raises(InputError, match="differed between --rank 0 and --rank 1; run the latt"):
        shard(corpus, out, 0, "--restart")
    assert shard(corpus, out, 1, "--restart")["clips"] == 39
    assert len(rows(out / "train.tsv") + rows(out / "valid.tsv")) == 39


def test_changed_clips_are_inspected_again(corpus, tmp_path, capsys):
    out, message = tmp_path / "out", "clips had changed and were inspected again"
    for path in list(corpus.iterdir()):
        text(path.with_suffix(".txt"), f"the first text of {path.stem}")
    run("folder", corpus, out)
    text(corpus / "01.txt", "another text")
    make_audio(corpus / "02.wav", 0.9)
    make_audio(corpus / "97.wav", 0.7)  # was empty
    assert run("folder", corpus, out)["clips"] == 39
    assert f"3 {message}" in capsys.readouterr().err
    found = {r["id"]: r for r in rows(out / "train.tsv") + rows(out / "valid.tsv")}
    assert found["01"]["tgt_text"] == "another text"
    assert (found["02"]["n_frames"], found["97"]["n_frames"]) == ("88", "68")
    run("folder", corpus, tmp_path / "anew")
    assert manifests(out) == manifests(tmp_path / "anew")
    # Nothing is lost or reported twice, whatever a kill truncates.
    journal = out / ".journal/0-of-1.jsonl"
    journal.write_bytes(journal.read_bytes()[:-250])
    make_audio(corpus / "02.wav", 0.8)
    run("folder", corpus, out)
    run("folder", corpus, out)
    assert capsys.readouterr().err.count("inspected again") == 1
    run("folder", corpus, tmp_path / "anew", "--restart")
    assert manifests(out) == manifests(tmp_path / "anew")


def test_a_clip_that_was_missing_is_found_later(wav, tmp_path):
    clips = [*candidates("a", audio=wav), *candidates("b", audio=str(tmp_path / "b.wav"))]
    assert run_candidates(clips, tmp_path)["skipped"] == {"missing file": 1}
    make_audio(tmp_path / "b.wav", 0.5)
    assert run_candidates(clips, tmp_path)["clips"] == 2


def test_memory_does_not_grow_with_the_number_of_clips(wav, tmp_path):
    files = [wav, str(make_audio(tmp_path / "b.wav", 0.5))]

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
            inspect_clips(recipe, args, Limits(), journal)

    def merge():
        with closing(Catalogue([journal_path(args.out, 0, 1)], {})) as catalogue:
            assert sum(1 for _ in catalogue.rows("train")) == 1500

    # Bytes. A list of the candidates alone takes over 700,000; five chunks of 32 are in flight.
    assert most(look) < 400_000
    assert most(look) < 200_000  # again, from the journal
    assert most(merge) < 200_000


def test_another_corpus_or_other_settings_are_refused(corpus, tmp_path):
    run("folder", corpus, tmp_path / "out")
    with pytest.raises(InputError, match=r"other settings \(shortest 0.1 there, 0.5 here\)"):
        run("folder", corpus, tmp_path / "out", "--min-seconds", "0.5")
    (corpus / "05.wav").unlink()
    with pytest.raises(InputError, match="changed since"):
        run("folder", corpus, tmp_path / "out")
    options = ("--restart", "--valid-every", "0")
    assert run("folder", corpus, tmp_path / "out", *options)["clips"] == 37
    assert [p.name for p in sorted((tmp_path / "out").glob("[tv]*.tsv"))] == ["train.tsv"]
    with pytest.raises(InputError, match="is the corpus itself"):
        run("folder", corpus, corpus)


def test_one_machine_can_restart_after_several(corpus, tmp_path):
    shard(corpus, tmp_path / "out", 0)
    assert run("folder", corpus, tmp_path / "out", "--restart")["clips"] == 38
    assert [p.name for p in (tmp_path / "out/.journal").iterdir()] == ["0-of-1.jsonl"]


def test_a_setting_is_the_same_as_a_list_of_one(tmp_path):
    """As earlier versions stored ``--csv``, which could be given once."""
    compare_settings(tmp_path, {"csv": "a.csv"}, {"csv": ["a.csv"], "min_confidence": None})
    with pytest.raises(InputError, match="started with other settings"):
        compare_settings(tmp_path, {"csv": "a.csv"}, {"csv": ["a.csv", "b.csv"]})
