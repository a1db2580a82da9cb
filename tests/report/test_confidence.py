"""Error rates by confidence."""

import pytest

from manifests.errors import InputError
from mmpt_fairseq.data.manifest import write_manifest
from mmpt_fairseq.report.confidence import main, quarters

CLIPS = {"a": ("one two", 0.9, "one two"), "b": ("one two", 0.2, "one"), "c": ("x", 0.95, "x")}
CLIPS |= {"d": ("one two", 0.5, "two two"), "e": ("yes", 0.1, "no"), "f": ("x y", 0.6, "x y")}


@pytest.fixture
def files(tmp_path):
    rows = [
        {"id": name, "audio": f"features.zip:{i}:9", "n_frames": 9, "tgt_text": text}
        | {"recording": f"clips/{name}.wav"}
        for i, (name, (text, *_)) in enumerate(CLIPS.items())
    ]
    write_manifest(tmp_path / "valid.tsv", rows)
    lines = [f"{tmp_path}/clips/{n}.wav\t0\t1\t{t}\t{c}\n" for n, (_, c, t) in CLIPS.items()]
    table = tmp_path / "found.tsv"
    table.write_text("file\tstart\tend\ttext\tconfidence\n" + "".join(lines))
    return tmp_path / "valid.tsv", table


def test_quarters_are_sorted_by_confidence(files, capsys):
    found = quarters(*files)
    assert [(low, high) for low, high, _ in found] == [
        (0.1, 0.1),
        (0.2, 0.5),
        (0.6, 0.6),
        (0.9, 0.95),
    ]
    assert [rates["wer"] for *_, rates in found] == [100.0, 50.0, 0.0, 0.0]
    main([str(path) for path in files])
    assert "0.200-0.500    50.0" in capsys.readouterr().out


def test_clips_that_cannot_be_compared_are_refused(files, tmp_path):
    manifest, table = files
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join([*lines, lines[1]]))
    with pytest.raises(InputError, match=r"a\.wav needs one row"):
        quarters(manifest, table)
    table.write_text("".join(lines[:4]))
    with pytest.raises(InputError, match="3 clips, too few for 4 quarters"):
        quarters(manifest, table)
    table.write_text("".join(lines).replace("a.wav", "other.wav"))
    with pytest.raises(InputError, match=r"other\.wav needs one row"):
        quarters(manifest, table)
