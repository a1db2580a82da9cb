"""A small generated corpus that the tests share."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import ROOT
from tests.manifests.generated.command import arguments


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """A corpus written by two workers in another process."""
    out = tmp_path_factory.mktemp("corpus")
    command = [sys.executable, "-m", "manifests.generated", *arguments(out), "--jobs=2"]
    subprocess.run(command, cwd=ROOT, check=True)
    return out
