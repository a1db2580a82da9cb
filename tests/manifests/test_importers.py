"""What users have from other toolkits."""

import gzip
import json

import pytest

from manifests.common import CorpusError
from tests.helpers import noise, write_video
from tests.manifests.corpora import rows, run, skipped, sound, text


def test_kaldi(tmp_path):
    data = tmp_path / "data"
    sound(tmp_path / "wav/rec 1.wav", 4.0)
    sound(tmp_path / "wav/rec2.flac", 1.0)
    text(
        data / "train/wav.scp",
        f"rec1 {tmp_path}/wav/rec 1.wav",
        f"rec2 flac -c -d -s {tmp_path}/wav/rec2.flac |",
        "rec3 sox in.wav -t wav - speed 0.9 |",
    )
    text(
        data / "train/segments",
        "ann-1 rec1 0.0 1.5",
        "ann-2 rec1 1.5 3.0",
        "ben-1 rec2 0.25 0.75",
        "cem-1 rec3 0 1",
        "dan-1 rec1 3.5 4.5",
    )
    text(data / "train/text", "ann-1 first  words", "ben-1 straße", "cem-1 x", "dan-1 y")
    text(data / "train/utt2spk", "ann-1 ann", "ann-2 ann", "ben-1 ben")
    text(data / "test/wav.scp", f"whole {sound(tmp_path / 'wav/rec4.ogg', 1.0)}")
    run("kaldi", data, tmp_path / "out", "--target-lang", "de")
    first, second = rows(tmp_path / "out/train.tsv")
    assert (first["id"], first["tgt_text"], first["speaker"]) == ("ann-1", "first words", "ann")
    assert first["audio"] == f"{tmp_path}/wav/rec 1.wav:0:24000"
    assert second["audio"].endswith("rec2.flac:4000:8000")
    assert (second["tgt_text"], second["tgt_lang"]) == ("straße", "de")
    assert rows(tmp_path / "out/test.tsv")[0]["tgt_text"] == ""
    assert skipped(tmp_path / "out") == {
        "ann-2": "no transcript",
        "cem-1": "unreadable",
        "dan-1": "past the end of its recording",
    }
    text(data / "train/text", "ben-1 b", "ann-1 a", "cem-1 c")
    with pytest.raises(CorpusError, match="is not sorted at ann-1"):
        run("kaldi", data / "train", tmp_path / "unsorted")


def cut(name, path, start=0.0, duration=2.0, words="Hello", **more):
    recording = {
        "id": "rec",
        "sources": [{"type": "file", "channels": [0], "source": str(path)}],
        "sampling_rate": 16000,
        "num_samples": 32000,
        "duration": 2.0,
    }
    supervision = {"id": name, "recording_id": "rec", "start": 0, "duration": duration}
    supervision |= {"text": words, "speaker": "ann", "language": "en"}
    whole = {"id": name, "start": start, "duration": duration, "channel": 0, "type": "MonoCut"}
    return {**whole, "supervisions": [supervision], "recording": recording | more}


def test_lhotse(tmp_path):
    wav = sound(tmp_path / "a.wav", 2.0)
    cuts = [
        cut("whole", wav),
        cut("part", wav, 0.5, 1.0),
        cut("fast", wav, transforms=[{"name": "Speed", "kwargs": {"factor": 1.1}}]),
        {"id": "mixed", "type": "MixedCut", "tracks": []},
    ]
    folder = tmp_path / "fbank"
    folder.mkdir()
    with gzip.open(folder / "corpus_cuts_train-clean.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(c) + "\n" for c in cuts)
    run("lhotse", folder, tmp_path / "out")
    whole, part = rows(tmp_path / "out/train-clean.tsv")
    assert (whole["audio"], whole["tgt_text"], whole["speaker"]) == (str(wav), "Hello", "ann")
    assert part["audio"] == f"{wav}:8000:16000"
    assert skipped(tmp_path / "out") == {"fast": "unreadable", "mixed": "unreadable"}
    text(folder / "cuts_dev.jsonl", "{not json")
    with pytest.raises(CorpusError, match=r"cuts_dev.jsonl, line 1 is no JSON object"):
        run("lhotse", folder / "cuts_dev.jsonl", tmp_path / "broken")


def test_huggingface(tmp_path):
    folder = tmp_path / "hf"
    for split in ("train", "validation"):
        sound(folder / f"data/{split}/a.wav", 1.0)
    header, lines = "file_name,transcription,language", ['a.wav,"one, two",en', "b.wav,gone,en"]
    text(folder / "data/train/metadata.csv", header, *lines)
    text(folder / "data/validation/metadata.jsonl", '{"file_name": "a.wav", "text": "three"}')
    run("huggingface", folder, tmp_path / "out")
    [train] = rows(tmp_path / "out/train.tsv")
    assert (train["id"], train["tgt_text"], train["src_lang"]) == ("a", "one, two", "en")
    assert rows(tmp_path / "out/valid.tsv")[0]["tgt_text"] == "three"
    assert skipped(tmp_path / "out") == {"b": "missing file"}


def test_fairseqs_own(tmp_path):
    folder = tmp_path / "manifests"
    wav = sound(tmp_path / "wav/a.wav", 1.0)
    video = write_video(tmp_path / "v.mp4", 25, audio=noise(1.0))
    text(folder / "train.tsv", str(tmp_path / "wav"), "a.wav\t16000", "gone.wav\t16000")
    text(folder / "train.ltr", "H E L L O | Y O U |", "G O N E |")
    text(folder / "valid.tsv", "/", f"valid/1\t{video}\t{wav}\t25\t16000")
    text(folder / "valid.wrd", "hello")
    run("fairseq_manifests", folder, tmp_path / "out")
    [train], [valid] = (rows(tmp_path / f"out/{split}.tsv") for split in ("train", "valid"))
    assert (train["id"], train["tgt_text"]) == ("a", "HELLO YOU")
    assert (valid["audio"], valid["video"]) == (str(wav), str(video))
    assert (valid["video_frames"], valid["tgt_text"]) == ("25", "hello")
    text(folder / "train.ltr", "H I |")
    with pytest.raises(CorpusError, match=r"train.tsv has more rows than its labels"):
        run("fairseq_manifests", folder, tmp_path / "short")
