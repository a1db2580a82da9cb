"""Videos without audio: left out and counted, or kept as video alone for stage 1."""

import numpy as np
import pytest

from manifests import kinetics600
from manifests.candidate import Candidate, Limits
from manifests.errors import InputError
from manifests.features import cache_features
from manifests.inspection import measure
from manifests.prepare import main
from manifests.states import store_states
from mmpt_fairseq.data.audio import num_frames
from mmpt_fairseq.data.video import read_frames
from mmpt_fairseq.data.waveform import split_slice
from tests.helpers import frame_number, write_video
from tests.manifests.corpora import (
    check_lengths,
    m4a,
    make_audio,
    make_video,
    rows,
    run,
    skipped,
    text,
    truncated,
)
from tests.manifests.learning import learn_to_reconstruct

NAMES = [f"{c * 11}_000001_000011" for c in "abcdef"]


@pytest.fixture
def k600(tmp_path):
    """Two clips with audio, three without: mp4, mkv, and a truncated one."""
    folder = tmp_path / "k600/train/playing chess"
    for name, seconds in zip(NAMES[:2], (1.0, 1.2), strict=True):
        make_video(folder / f"{name}.mp4", seconds)
    make_video(folder / f"{NAMES[2]}.mp4", 1.0, silent=True)
    make_video(folder / f"{NAMES[3]}.mkv", 2.0, silent=True)
    truncated(make_video(folder / f"{NAMES[4]}.mp4", 1.0, silent=True))
    return tmp_path / "k600"


def test_kinetics600_keeps_videos_without_audio(k600, tmp_path):
    summary = run("kinetics600", k600, tmp_path / "out", "--keep-silent")
    found = {row["id"]: row for row in rows(tmp_path / "out/train.tsv")}
    assert list(found) == NAMES[:4]
    for name, seconds in ((NAMES[2], 1), (NAMES[3], 2)):
        assert found[name]["audio"] == ""
        assert found[name]["video_frames"] == str(25 * seconds)
        assert found[name]["n_frames"] == str(num_frames(16_000 * seconds))
    assert found[NAMES[0]]["audio"] == found[NAMES[0]]["video"]
    assert skipped(tmp_path / "out") == {NAMES[4]: "unreadable"}
    assert summary["splits"]["train"]["without_sound"] == 2
    assert "without audio" in (tmp_path / "out/summary.html").read_text()
    check_lengths(tmp_path / "out/train.tsv")
    for objective in ("mae", "clr", "mae_clr"):
        logs = learn_to_reconstruct(tmp_path / "out", objective=objective)
        counts = {name: n for name, n in logs.items() if name in ("mae_audio_clips", "clr_clips")}
        assert set(counts.values()) == {2}
        assert logs.get("mae_video_clips", 4) == 4  # none in CLR


def test_left_out_videos_are_reported_with_the_option_to_keep_them(k600, tmp_path, capsys):
    options = [str(k600), str(tmp_path / "out"), "--jobs", "1"]
    main(kinetics600.RECIPE, options)
    output = capsys.readouterr().err
    assert "no audio track: 2" in output
    assert "2 without audio: --keep-silent with --restart keeps their frames" in output
    assert skipped(tmp_path / "out")[NAMES[2]] == "no audio track"
    with pytest.raises(SystemExit, match="keep_silent False there, True here"):
        main(kinetics600.RECIPE, [*options, "--keep-silent"])
    main(kinetics600.RECIPE, [*options, "--keep-silent", "--restart"])
    output = capsys.readouterr()
    assert "4 clips (train 4)" in output.out
    assert output.out.endswith("hours, 2 without audio\n")
    assert "--keep-silent" not in output.err


@pytest.fixture
def videos(tmp_path):
    """A silent video with uneven frame times, one with a separate wav, and audio alone."""
    times = np.cumsum([0, *np.random.default_rng(0).integers(20, 100, 49)])
    (tmp_path / "c").mkdir()
    write_video(tmp_path / "c/mute.mp4", 50, times=times)
    make_video(tmp_path / "c/beside.mp4", 2.0, silent=True)
    make_audio(tmp_path / "c/beside.wav", 2.0)
    make_audio(tmp_path / "c/heard.flac", 2.0)
    return tmp_path / "c", times


def test_silent_videos_in_a_folder_are_cut_into_pieces(videos, tmp_path):
    corpus, times = videos
    summary = run("folder", corpus, tmp_path / "out", "--cut", "1", "--keep-silent")
    found = [row for split in ("train", "valid") for row in rows(tmp_path / f"out/{split}.tsv")]
    assert skipped(tmp_path / "out") == {}
    mute = [row for row in found if not row["audio"]]
    assert [row["id"] for row in mute] == [f"mute_{i:04d}" for i in range(len(mute))]
    assert sum(split["without_sound"] for split in summary["splits"].values()) == len(mute)
    last = times[-1] - times[-2]  # the last frame is displayed as long as the one before
    length = (times[-1] + last) / 1000 / len(mute)
    assert 0.7 < length < 1.4
    for i, row in enumerate(mute):
        path, first, count = split_slice(row["video"])
        assert path == str(corpus / "mute.mp4")
        assert first == np.searchsorted(times, 1000 * i * length + 1, side="right") - 1
        assert abs(int(row["n_frames"]) - num_frames(round(16_000 * length))) <= 1
        shown = read_frames(row["video"], np.array([0, count - 1]))
        assert [frame_number(p) for p in shown] == [first, first + count - 1]
    assert first + count == 50
    assert sum(row["audio"].split(":")[0].endswith("beside.wav") for row in found) == 2
    check_lengths(tmp_path / "out/train.tsv")
    learn_to_reconstruct(tmp_path / "out")


def test_a_killed_run_with_keep_silent_resumes(videos, tmp_path):
    options = ("--cut", "1", "--keep-silent", "--valid-every", "0")
    run("folder", videos[0], tmp_path / "out", *options)
    manifest, journal = tmp_path / "out/train.tsv", tmp_path / "out/.journal/0-of-1.jsonl"
    whole, lines = manifest.read_bytes(), journal.read_bytes().splitlines(keepends=True)
    for kept in range(2, 5):
        journal.write_bytes(b"".join(lines[:kept])[:-5])
        run("folder", videos[0], tmp_path / "out", *options)
        assert manifest.read_bytes() == whole
        assert journal.read_bytes() == b"".join(lines)


def test_transcribed_clips_without_audio_are_left_out(tmp_path):
    for name in ("a", "b"):
        make_video(tmp_path / f"c/{name}.mp4", 1.0, silent=name == "b")
        text(tmp_path / f"c/{name}.txt", "what is said")
    run("folder", tmp_path / "c", tmp_path / "out", "--keep-silent", "--valid-every", "0")
    assert [row["id"] for row in rows(tmp_path / "out/train.tsv")] == ["a"]
    assert skipped(tmp_path / "out") == {"b": "no audio track"}


def test_keep_silent_hides_no_damage_missing_files_or_length_limits(tmp_path):
    """Only an absent audio track is accepted."""
    mute, song = (
        make_video(tmp_path / "mute.mp4", 1.0, silent=True),
        m4a(tmp_path / "song.m4a", 1.0),
    )
    broken = truncated(make_video(tmp_path / "broken.mp4"))

    def outcome(audio, video, limits=None, **part):
        clip = Candidate("a", "train", str(audio), video=str(video), audio_optional=True, **part)
        found = measure(clip, limits or Limits())
        return found.reason or (found.samples, found.row["audio"], found.row["video_frames"])

    assert outcome(mute, mute) == (16_000, "", 25)
    assert outcome(mute, mute, start=0.2, seconds=0.4) == (6400, "", 10)
    assert outcome(mute, mute, start=0.6) == (6400, "", 10)
    assert outcome(mute, mute, start=0.6, seconds=0.8) == "past the end of its recording"
    assert outcome(mute, mute, Limits(shortest=1.5)) == "too short"
    assert outcome(mute, mute, Limits(longest=0.5)) == "too long"
    assert outcome(mute, mute, Limits(shortest=0.0), start=1.0) == "past the end of its recording"
    assert outcome(mute, mute, Limits(decode=True)) == (16_000, "", 25)
    assert outcome(mute, broken) == outcome(broken, mute) == "unreadable"
    assert outcome(tmp_path / "none.wav", mute) == "missing file"
    assert outcome(mute, song) == "no audio track"
    assert outcome(mute, "") == "no audio track"


def test_features_are_cached_for_clips_with_audio(videos, tmp_path):
    """Storing an encoder's states, which need audio, reports that it is missing."""
    run("folder", videos[0], tmp_path / "out", "--keep-silent", "--valid-every", "0")
    before = {row["id"]: row for row in rows(tmp_path / "out/train.tsv")}
    assert cache_features(tmp_path / "features.zip", [tmp_path / "out"]) == (2, 0)
    after = {row["id"]: row for row in rows(tmp_path / "out/train.tsv")}
    assert after["mute"] == before["mute"]
    assert all(".zip:" in after[name]["audio"] for name in ("beside", "heard"))
    with pytest.raises(InputError, match="column audio is empty; rows without audio"):
        store_states(tmp_path / "none.pt", tmp_path / "out", tmp_path / "states", False)
