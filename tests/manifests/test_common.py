"""Files that are whole or absent, whoever is killed."""

import os
import subprocess
import sys

from manifests.common import atomic_path, remove_stale


def test_only_what_the_dead_left_is_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    left = tmp_path / "deep" / f".clip.mp4.{dead.pid}.part"
    left.parent.mkdir()
    left.touch()
    with atomic_path(tmp_path / "deep" / "clip.mp4") as partial:
        partial.write_text("half")
        assert str(os.getpid()) in partial.name
        remove_stale(tmp_path)
        assert partial.exists()
        assert not left.exists()
    assert (tmp_path / "deep" / "clip.mp4").read_text() == "half"
