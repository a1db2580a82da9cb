"""The demo: its corpus is generated once, and an interrupted run ends cleanly."""

import os
import signal
import subprocess
import sys
import time

import pytest

from examples.demo.systems import Demo, Sizes
from mmpt_fairseq.data.manifest import Manifest
from tests.commands import ROOT

pytest.importorskip("espeakng_loader")


@pytest.mark.slow
def test_the_corpus_is_generated_once(tmp_path):
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
def test_a_signal_ends_it_with_a_message_and_leaves_no_process(tmp_path, name):
    # Background jobs of a shell ignore SIGINT, and the tests' commands inherit that.
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
    assert (
        rest.splitlines()[-1] == "mmpt_fairseq: interrupted; run the same command again to resume"
    )
    assert "Traceback" not in rest
    deadline = time.monotonic() + 120  # a worker that is still importing may be slow
    while alive(started.pid) and time.monotonic() < deadline:
        time.sleep(0.1)  # workers exit after their parent
    assert not alive(started.pid)


def alive(group: int) -> bool:
    """Whether a process of the group is still running."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
