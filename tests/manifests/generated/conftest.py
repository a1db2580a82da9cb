"""One small generated corpus for all tests of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import ROOT
from tests.manifests.generated.command import arguments


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Written by two workers of another process."""
    out = tmp_path_factory.mktemp("corpus")
    command = [sys.executable, "-m", "manifests.generated", *arguments(out), "--jobs=2"]
    subprocess.run(command, cwd=ROOT, check=True)
    return out
