"""The corpora that several examples use: finding audio files, and rejecting empty corpora."""

import pytest

from examples.corpora import SPEECH, grid_clips, recordings, speech_clips
from examples.probe.prepare import prepare
from examples.superb.data import speaker_diarization
from manifests.errors import InputError
from tests.helpers import noise, write_audio


def librispeech(data, names=("19-198-0000", "19-198-0001", "26-495-0000")):
    """Write utterances in LibriSpeech's release layout and one of ARCTIC."""
    for name in names:
        speaker, chapter, _ = name.split("-")
        folder = data / SPEECH[0] / speaker / chapter
        folder.mkdir(parents=True, exist_ok=True)
        write_audio(folder / f"{name}.flac", noise(0.3))
        (folder / f"{speaker}-{chapter}.trans.txt").write_text(f"{name} NOISE\n")
    (data / SPEECH[1]).mkdir(parents=True)
    write_audio(data / SPEECH[1] / "arctic_a0001.wav", noise(0.3))
    return data


def test_librispeech_is_found_in_its_release_layout(tmp_path):
    clips = speech_clips(librispeech(tmp_path))
    assert [clip["id"] for clip in clips][::3] == ["19-198-0000", "arctic_a0001"]
    assert [clip["speaker"] for clip in clips[:3]] == ["19", "19", "26"]


def test_a_recording_in_two_formats_counts_once(tmp_path):
    for suffix in ("wav", "ogg", "flac"):
        write_audio(tmp_path / f"a.{suffix}", noise(0.3))
    assert [path.name for path in recordings(tmp_path)] == ["a.flac"]


def test_an_empty_corpus_is_rejected_with_its_folder(tmp_path):
    data = librispeech(tmp_path)
    (data / "grid").mkdir()
    (data / "grid" / "clips.tsv").write_text("id\tvideo\tspeaker\twords\n")
    with pytest.raises(InputError, match=r"grid/clips\.tsv lists no clip"):
        grid_clips(data / "grid")
    with pytest.raises(InputError, match=r"grid/clips\.tsv lists no clip"):
        prepare(data, tmp_path / "out")
    (data / SPEECH[1] / "arctic_a0001.wav").unlink()
    with pytest.raises(InputError, match=r"no flac, ogg or wav file under \S+arctic/audio"):
        speech_clips(data)


def test_mixtures_need_two_speakers(tmp_path):
    """Three utterances of one speaker do not suffice."""
    data = librispeech(tmp_path, ["19-198-0000", "19-198-0001", "19-198-0002"])
    with pytest.raises(InputError, match="too few speakers for the split train"):
        speaker_diarization(data, tmp_path / "sd", 1)
