"""Damaged files from real corpora."""

import pytest

from manifests.errors import UnreadableClip
from mmpt_fairseq.data.audio import read_filterbank
from mmpt_fairseq.data.manifest import write_manifest
from tests.commands import refused, train


@pytest.mark.real_data
def test_real_damaged_files_are_named_and_stop_a_training(real_data, tmp_path):
    """A training on damaged files alone stops at once."""
    damaged = sorted((real_data / "broken").glob("*.flac"))
    assert damaged
    for path in damaged:
        with pytest.raises(UnreadableClip, match=f"{path.name} cannot be read as audio"):
            read_filterbank(str(path))
    rows = [{"id": p.stem, "audio": str(p), "n_frames": 300} for p in damaged]
    for split in ("train", "valid"):
        write_manifest(tmp_path / f"{split}.tsv", rows)
    output = train("pretraining", tmp_path, tmp_path / "run")
    assert "clips could not be used" in refused(output) or "none of the clips" in refused(output)
    assert "cannot be read as audio" in output.stdout
