"""Fixtures of every test: one thread, and the real data where it is at hand."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def real_data() -> Path:
    """The folder of the real corpora."""
    folder = os.environ.get("MMPT_REAL_DATA")
    if not folder:
        pytest.skip("MMPT_REAL_DATA does not name the folder of the real corpora")
    return Path(folder)
