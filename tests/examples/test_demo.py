"""The demo's corpus can be asked for again, and what is done stays as it is."""

import os
import signal
import subprocess
import sys
import time

import pytest

from examples.demo.run import Demo, Sizes
from mmpt_fairseq.data.manifest import Manifest
from tests.commands import ROOT

pytest.importorskip("espeakng_loader")


@pytest.mark.slow
def test_the_corpus_is_made_once(tmp_path):
    sizes = Sizes(pretrain=2, translated=2, phrases=2, transcribed=2, test=2)
    demo = Demo(tmp_path, sizes, "nl")
    demo.generate_corpus()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert tmp_path / "corpus" / "st_en-nl" / "dict.txt" in before
    demo.generate_corpus()
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert after == before
    manifest = Manifest(demo.corpus / "asr" / "train.tsv")
    assert all("features.zip:" in source for source in manifest.column("audio"))


@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_stopped_it_ends_with_a_sentence_and_leaves_nothing_running(tmp_path, name):
    # In the background of a shell Ctrl-C's signal is ignored, and the tests' commands inherit that.
    command = ["env", f"--default-signal={name}", sys.executable, "-m", "examples.demo.run"]
    started = subprocess.Popen(
        [*command, "--out", tmp_path / "demo"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    for line in started.stderr:
        if line.startswith("$ python -m manifests.generated"):
            break
    started.send_signal(getattr(signal, f"SIG{name}"))
    rest = started.stderr.read()
    assert started.wait(60) == 130
    assert rest.splitlines()[-1] == "mmpt_fairseq: interrupted; the same command goes on from here"
    assert "Traceback" not in rest
    deadline = time.monotonic() + 30
    while alive(started.pid) and time.monotonic() < deadline:
        time.sleep(0.1)  # workers follow the process that they lost
    assert not alive(started.pid)


def alive(group: int) -> bool:
    """Whether a process of the group still runs."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
