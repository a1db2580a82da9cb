"""The real-speech example on a small part of the real corpora: prepared, then trained on."""

import pytest

from examples.mboshi.prepare import prepare
from mmpt_fairseq.data.audio import read_filterbank
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from mmpt_fairseq.errors import UnreadableClip
from tests.commands import losses, refused, succeeded, train


def some(source, target, rows: int) -> None:
    """The first rows of a corpus table, and links to everything else beside it."""
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.suffix == ".tsv":
            lines = path.read_text(encoding="utf-8").splitlines()[: rows + 1]
            (target / path.name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        else:
            (target / path.name).symlink_to(path)


@pytest.fixture
def manifests(real_data, tmp_path):
    data = tmp_path / "data"
    some(real_data / "grid", data / "grid", 56)
    some(real_data / "mboshi", data / "mboshi", 250)
    for folder in ("librispeech/train-clean-100", "arctic/audio"):
        (data / folder).mkdir(parents=True)
        for clip in sorted((real_data / folder).rglob("*.ogg"))[:6]:
            (data / folder / clip.name).symlink_to(clip)
    (data / "arctic" / "audio" / "zz_empty.ogg").write_bytes(b"")
    counts = prepare(data, tmp_path / "manifests", minutes=2.0)
    assert counts["pretrain/valid"] == 50
    assert counts["pretrain/train"] == 6 + 12 + 250
    assert counts["asr/dev"] == counts["st/dev"] == 250
    skipped = (tmp_path / "manifests" / "skipped.tsv").read_text()
    assert "zz_empty\t" in skipped
    assert "zero bytes" in skipped
    return tmp_path / "manifests"


def test_three_stages_on_real_speech(manifests, tmp_path):
    """GRID's mp4, Ogg Opus, Mboshi's tones: two updates of each stage, from one to the next."""
    minutes = Manifest(manifests / "asr" / "train.tsv").n_frames.sum() / 6000
    assert 1.5 < minutes < 2.5
    assert not any(Manifest(manifests / "pretrain" / "train.tsv").column("tgt_text"))
    start = []
    for name, folder in (("pretraining", "pretrain"), ("midtraining", "st"), ("finetuning", "asr")):
        options = ["dataset.max_tokens=6000", *start]
        output = succeeded(train(name, manifests / folder, tmp_path / name, *options))
        assert float(losses(output)[-1]) > 0
        start = [f"model.init_encoder_from={tmp_path / name / 'checkpoint_last.pt'}"]


def test_files_damaged_in_the_wild(real_data, tmp_path):
    """Each is named as unreadable, and nothing but such files stops a training at once."""
    damaged = sorted((real_data / "broken").glob("*.flac"))
    assert damaged
    for path in damaged:
        with pytest.raises(UnreadableClip, match=f"{path.name} cannot be read as audio"):
            read_filterbank(str(path))
    rows = [{"id": p.stem, "audio": str(p), "n_frames": 300} for p in damaged]
    for split in ("train", "valid"):
        write_manifest(tmp_path / f"{split}.tsv", rows)
    output = train("pretraining", tmp_path, tmp_path / "run")
    assert "clips could not be used" in refused(output) or "not one clip" in refused(output)
    assert "cannot be read as audio" in output.stdout
