"""Cached filterbanks: the same features when read from the archive, also by fairseq's reader."""

import shutil
import tracemalloc
from contextlib import closing

import numpy as np
import pytest
from fairseq.data.audio.audio_utils import get_features_or_waveform

from manifests.errors import InputError
from manifests.features import cache_features
from manifests.repoint import Files
from mmpt_fairseq.data.audio import read_filterbank
from mmpt_fairseq.data.manifest import Manifest, write_manifest
from tests.helpers import noise, write_audio
from tests.manifests.corpora import make_audio


@pytest.fixture
def folders(corpora, tmp_path):
    """Two folders of manifests with the same clips."""
    shutil.copytree(corpora / "asr", tmp_path / "asr")
    shutil.copytree(corpora / "asr", tmp_path / "st", ignore=shutil.ignore_patterns("*.wav"))
    for path in (tmp_path / "st").glob("*.tsv"):
        manifest = Manifest(path)
        text = path.read_text()
        for audio in manifest.column("audio"):
            text = text.replace(f"\t{audio}\t", f"\t../asr/{audio}\t")
        path.write_text(text)
    return [tmp_path / "asr", tmp_path / "st"]


def sources(path):
    manifest = Manifest(path)
    return [manifest.resolve("audio", i) for i in range(len(manifest))]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0.0), ("float16", 0.02)])
def test_cached_features_equal_those_of_the_recordings(folders, tmp_path, dtype, tolerance):
    computed = [read_filterbank(source) for source in sources(folders[1] / "train.tsv")]
    assert cache_features(tmp_path / "features.zip", folders, dtype) == (len(computed), 0)
    cached = sources(folders[1] / "train.tsv")
    assert all(".zip:" in source for source in cached)
    for source, features in zip(cached, computed, strict=True):
        np.testing.assert_allclose(read_filterbank(source), features, rtol=0, atol=tolerance)
        np.testing.assert_array_equal(get_features_or_waveform(source), read_filterbank(source))


def test_a_linked_folder_points_to_the_archive(folders, tmp_path):
    (tmp_path / "disk").mkdir()
    folders[0].rename(tmp_path / "disk/asr")
    folders[0].symlink_to(tmp_path / "disk/asr")
    computed = [read_filterbank(source) for source in sources(folders[0] / "train.tsv")]
    for _ in range(2):
        cache_features(tmp_path / "features.zip", folders)
        cached = [read_filterbank(source) for source in sources(folders[0] / "train.tsv")]
        for features, expected in zip(cached, computed, strict=True):
            np.testing.assert_array_equal(features, expected)


def test_a_killed_run_resumes_after_the_last_archive(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("manifests.features.IN_ARCHIVE", 3)
    archive, train = tmp_path / "features.zip", folders[0] / "train.tsv"
    before = train.read_bytes()
    computed = [read_filterbank(source) for source in sources(train)]
    assert cache_features(archive, folders) == (8, 0)
    archives = [tmp_path / f"features{end}.zip" for end in ("", "-1", "-2")]
    assert sorted(tmp_path.glob("*.zip")) == sorted(archives)
    found, first = train.read_bytes(), archive.stat().st_mtime_ns
    # As if killed while writing the last archive.
    train.write_bytes(before)
    archives[2].unlink()
    assert cache_features(archive, folders) == (8, 0)
    assert (train.read_bytes(), archive.stat().st_mtime_ns) == (found, first)
    # The archive of a recording that changes is computed again.
    changed = sorted(folders[0].glob("*.wav"))[-1]
    make_audio(changed, 0.7, seed=5)
    times = [path.stat().st_mtime_ns for path in archives]
    cache_features(archive, folders)
    assert [p.stat().st_mtime_ns == t for p, t in zip(archives, times, strict=True)].count(
        True
    ) == 2
    for source, features in zip(sources(train), computed, strict=True):
        recorded = train.parent / changed.name
        if Manifest(train).column("recording")[sources(train).index(source)] == recorded.name:
            features = read_filterbank(str(recorded))
        np.testing.assert_array_equal(read_filterbank(source), features)
    # Fewer clips: surplus archives are removed.
    train.write_text("".join(train.read_text().splitlines(keepends=True)[:3]))
    cache_features(archive, folders[:1] + folders[1:])
    assert len(list(tmp_path.glob("*.zip"))) < 4


def test_memory_does_not_grow_with_the_number_of_files():
    tracemalloc.start()
    with closing(Files(f"/data/corpus/{i:09d}.wav" for i in range(12_000))) as files:
        for file in files:
            files.settle(file, "0:1:2")
        assert files.settled() == len(files) == 12_000
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 400_000  # bytes; a list of the paths takes 900,000


def test_a_second_run_starts_from_the_recordings(folders, tmp_path):
    archive = tmp_path / "features.zip"
    before = [read_filterbank(s) for s in sources(folders[0] / "train.tsv")]
    cache_features(archive, folders)
    first = (archive.read_bytes(), (folders[0] / "train.tsv").read_bytes())
    cache_features(archive, folders)
    assert (archive.read_bytes(), (folders[0] / "train.tsv").read_bytes()) == first
    after = [read_filterbank(s) for s in sources(folders[0] / "train.tsv")]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    recordings = Manifest(folders[0] / "train.tsv").column("recording")
    assert all((folders[0] / name).is_file() for name in recordings)


def test_an_unreadable_clip_keeps_its_path(folders, tmp_path, capsys):
    broken = sources(folders[0] / "train.tsv")[0]
    with open(broken, "wb") as file:
        file.write(b"no sound")
    stored, left = cache_features(tmp_path / "features.zip", folders[:1])
    assert (stored, left) == (7, 1)
    assert broken in capsys.readouterr().err
    assert sources(folders[0] / "train.tsv")[0] == broken


def test_names_may_contain_unicode_line_breaks(tmp_path):
    names = ["plain.wav", "with\u2028separator.wav", "next\x85line.wav"]
    for name in names:
        write_audio(tmp_path / name, noise(0.5))
    rows = [{"id": str(i), "audio": name, "n_frames": 48} for i, name in enumerate(names)]
    write_manifest(tmp_path / "train.tsv", rows)
    assert cache_features(tmp_path / "features.zip", [tmp_path]) == (3, 0)
    assert all(".zip:" in source for source in sources(tmp_path / "train.tsv"))


def test_an_archive_of_other_folders_is_not_replaced(folders, tmp_path):
    archive = tmp_path / "features.zip"
    cache_features(archive, folders)
    before = archive.read_bytes()
    with pytest.raises(InputError, match=r"also holds the features of .*asr;"):
        cache_features(archive, folders[1:])
    assert archive.read_bytes() == before
    other = tmp_path / "other.zip"
    other.write_bytes(b"something else")
    with pytest.raises(InputError, match="not written by this command"):
        cache_features(other, folders)


def test_columns_that_would_be_lost_and_audio_root_are_refused(folders, tmp_path):
    archive = tmp_path / "features.zip"
    train = folders[0] / "train.tsv"
    whole = train.read_text()
    header, *rows = whole.splitlines()
    train.write_text("\n".join([header + "\tmood", *(row + "\tsad" for row in rows)]) + "\n")
    with pytest.raises(InputError, match="would lose the column mood"):
        cache_features(archive, folders)
    train.write_text(whole)
    (folders[0] / "config.yaml").write_text("audio_root: /somewhere\n")
    with pytest.raises(InputError, match="audio_root"):
        cache_features(archive, folders)
    assert train.read_text() == whole
    assert not archive.exists()


def test_an_archive_without_zip_suffix_is_refused(folders, tmp_path):
    with pytest.raises(InputError, match=r"features must end in \.zip; use .*features\.zip"):
        cache_features(tmp_path / "features", [folders[0]])


def test_nothing_readable_is_an_error(folders, tmp_path):
    for wav in folders[0].glob("*.wav"):
        wav.write_bytes(b"no sound")
    before = (folders[0] / "train.tsv").read_text()
    with pytest.raises(InputError, match="none of 8 recordings"):
        cache_features(tmp_path / "features.zip", folders)
    assert (folders[0] / "train.tsv").read_text() == before


def test_a_folder_without_manifests_is_refused(tmp_path):
    with pytest.raises(InputError, match="no manifest"):
        cache_features(tmp_path / "features.zip", [tmp_path])
