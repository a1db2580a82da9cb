"""Data formats of other toolkits."""

import gzip
import json

import numpy as np
import pytest

from manifests import huggingface
from manifests.errors import InputError
from manifests.prepare import main
from tests.helpers import noise, write_audio, write_video
from tests.manifests.corpora import make_audio, rows, run, skipped, text, truncated
from tests.manifests.learning import learn_to_write


def test_kaldi(tmp_path):
    data = tmp_path / "data"
    make_audio(tmp_path / "wav/rec 1.wav", 4.0)
    make_audio(tmp_path / "wav/rec2.flac", 1.0)
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
        "eve-1 rec1 1.0 -1",
        "fay-1 rec9 0 1",
        "gus-1 rec1",
        "hal-1 rec2 0 0.5 0",
        "ida-1 rec5 0 0.5 1",
    )
    stereo = np.stack([noise(1.0), noise(1.0, 1)], 1)
    with (data / "train/wav.scp").open("a") as file:
        file.write(f"rec5 {write_audio(tmp_path / 'wav/rec5.wav', stereo)}\n")
    text(data / "train/text", "ann-1 first  words", "ben-1 straße", "cem-1 x", "dan-1 y", *AND)
    text(data / "train/utt2spk", "ann-1 ann", "ann-2 ann", "ben-1 ben")
    text(data / "test/wav.scp", f"whole {make_audio(tmp_path / 'wav/rec4.ogg', 1.0)}")
    run("kaldi", data, tmp_path / "out", "--target-lang", "de")
    first, second, open_end, channel = rows(tmp_path / "out/train.tsv")
    assert (first["id"], first["tgt_text"], first["speaker"]) == ("ann-1", "first words", "ann")
    assert open_end["audio"] == f"{tmp_path}/wav/rec 1.wav:16000:48000"
    assert channel["id"] == "hal-1"
    assert first["audio"] == f"{tmp_path}/wav/rec 1.wav:0:24000"
    assert second["audio"].endswith("rec2.flac:4000:8000")
    assert (second["tgt_text"], second["tgt_lang"]) == ("straße", "de")
    assert rows(tmp_path / "out/test.tsv")[0]["tgt_text"] == ""
    assert skipped(tmp_path / "out") == {
        "ann-2": "no transcript",
        "cem-1": "no file of its own",
        "dan-1": "past the end of its recording",
        "fay-1": "missing file",
        "gus-1": "unusable row",
        "ida-1": "one channel of several",
    }
    text(data / "train/text", "ben-1 b", "ann-1 a", "cem-1 c")
    with pytest.raises(InputError, match="is not sorted at ann-1"):
        run("kaldi", data / "train", tmp_path / "unsorted")
    text(data / "train/text", "ann-1 a", "ben-1 b")
    text(data / "train/segments", "ben-1 rec1 0 1", "ann-1 rec1 1 2")
    with pytest.raises(InputError, match=r"segments, or .* is not sorted at ann-1"):
        run("kaldi", data / "train", tmp_path / "unsorted segments")
    learn_to_write(tmp_path / "out")


@pytest.mark.parametrize("table", ["text", "utt2spk"])
def test_kaldi_tables_with_their_last_line_first_are_refused(tmp_path, table):
    """Every later line would seem to be missing: all lookups end before the first one."""
    data, names = tmp_path / "train", ["ann-1", "ben-1", "cem-1"]
    text(data / "wav.scp", *(f"{n} {make_audio(tmp_path / f'{n}.wav', 0.5)}" for n in names))
    lines = [f"{name} {name[:3]}" for name in names]
    text(data / "text", *lines)
    text(data / "utt2spk", *lines)
    text(data / table, lines[-1], *lines[:-1])
    with pytest.raises(InputError, match=f"{table} is not sorted at ann-1"):
        run("kaldi", data, tmp_path / "out")
    assert not (tmp_path / "out/train.tsv").exists()


def test_kaldi_utterances_without_a_speaker_are_counted(tmp_path, capsys):
    data = tmp_path / "train"
    for name in ("ann-1", "ben-1"):
        make_audio(tmp_path / f"{name}.wav", 0.5)
    text(data / "wav.scp", f"ann-1 {tmp_path}/ann-1.wav", f"ben-1 {tmp_path}/ben-1.wav")
    text(data / "utt2spk", "ben-1 ben")
    run("kaldi", data, tmp_path / "out")
    assert [row["speaker"] for row in rows(tmp_path / "out/train.tsv")] == ["", "ben"]
    assert "utt2spk lacks 1 utterances" in capsys.readouterr().err


AND = ["eve-1 z", "fay-1 z", "gus-1 z", "hal-1 z", "ida-1 z"]


def source(path, *channels, kind="file"):
    return {"type": kind, "channels": channels, "source": str(path)}


def cut(name, path, start=0.0, duration=2.0, words="Hello", channel=0, **more):
    recording = {
        "id": "rec",
        "sources": [source(path, 0)],
        "sampling_rate": 16000,
        "num_samples": 32000,
        "duration": 2.0,
    }
    supervision = {"id": name, "recording_id": "rec", "start": 0, "duration": duration}
    supervision |= {"text": words, "speaker": "ann", "language": "en"}
    whole = {"id": name, "start": start, "duration": duration, "type": "MonoCut"}
    whole["channel"] = channel
    return {**whole, "supervisions": [supervision], "recording": recording | more}


def test_lhotse(tmp_path):
    wav, other = (make_audio(tmp_path / f"{name}.wav", 2.0) for name in "ab")
    cuts = [
        cut("whole", wav),
        cut("part", wav, 0.5, 1.0),
        cut("fast", wav, transforms=[{"name": "Speed", "kwargs": {"factor": 1.1}}]),
        {"id": "mixed", "type": "MixedCut", "tracks": []},
        cut("second", wav, channel=1, sources=[source(wav, 0), source(other, 1)]),
        cut("stereo", wav, channel=1, sources=[source(wav, 0, 1)]),
        cut("both", wav, channel=[0, 1], sources=[source(wav, 0, 1)]),
        cut("third", wav, channel=2),
        cut("far", wav, sources=[source("http://x", 0, kind="url")]),
        cut("resampled", wav, 0.5, 1.0, transforms=[{"name": "Resample", "kwargs": {}}]),
        {k: v for k, v in cut("headless", wav).items() if k != "start"},
    ]
    folder = tmp_path / "fbank"
    folder.mkdir()
    with gzip.open(folder / "corpus_cuts_train-clean.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(c) + "\n" for c in cuts)
    run("lhotse", folder, tmp_path / "out")
    whole, part, second, both, resampled = rows(tmp_path / "out/train-clean.tsv")
    assert (whole["audio"], whole["tgt_text"], whole["speaker"]) == (str(wav), "Hello", "ann")
    assert part["audio"] == f"{wav}:8000:16000"
    assert (second["audio"], both["audio"]) == (str(other), str(wav))
    assert resampled["audio"] == part["audio"]
    assert skipped(tmp_path / "out") == {
        "fast": "no file of its own",
        "mixed": "no file of its own",
        "stereo": "one channel of several",
        "third": "unusable row",
        "far": "no file of its own",
        "headless": "unusable row",
    }
    text(folder / "cuts_dev.jsonl", "{not json", json.dumps(cut("good", wav)))
    run("lhotse", folder / "cuts_dev.jsonl", tmp_path / "broken")
    assert skipped(tmp_path / "broken") == {"cuts_dev.jsonl, line 1": "unusable row"}
    truncated(folder / "corpus_cuts_train-clean.jsonl.gz", 0.7)
    with pytest.raises(InputError, match=r"jsonl.gz is truncated or damaged .*copy it again"):
        run("lhotse", folder, tmp_path / "cut off")
    learn_to_write(tmp_path / "out", "train-clean")


def test_parts_of_a_split_in_lhotse_belong_together(tmp_path):
    """Whereas a manifest of recordings holds no cuts."""
    folder = tmp_path / "cuts"
    folder.mkdir()
    for part, name in enumerate("ab"):
        path = make_audio(tmp_path / f"{name}.wav", 2.0)
        one = cut(name, path)
        (folder / f"cuts_train.{part:06d}.jsonl").write_text(json.dumps(one) + "\n")
    recording = tmp_path / "recordings.jsonl"
    recording.write_text(json.dumps(one["recording"]) + "\n")
    run("lhotse", folder, tmp_path / "out")
    assert [row["id"] for row in rows(tmp_path / "out/train.tsv")] == ["a", "b"]
    with pytest.raises(InputError, match="not one clip"):
        run("lhotse", recording, tmp_path / "none")
    assert "make cuts with lhotse cut simple" in (tmp_path / "none/skipped.tsv").read_text()


def test_huggingface(tmp_path):
    folder = tmp_path / "hf"
    for split in ("train", "validation"):
        make_audio(folder / f"data/{split}/a.wav", 1.0)
    header, lines = "file_name,transcription,language", ['a.wav,"one, two",en', "b.wav,gone,en"]
    text(folder / "data/train/metadata.csv", header, *lines)
    text(folder / "data/validation/metadata.jsonl", '{"file_name": "a.wav", "text": "three"}')
    run("huggingface", folder, tmp_path / "out")
    [train] = rows(tmp_path / "out/train.tsv")
    assert (train["id"], train["tgt_text"], train["src_lang"]) == ("a", "one, two", "en")
    assert rows(tmp_path / "out/valid.tsv")[0]["tgt_text"] == "three"
    assert skipped(tmp_path / "out") == {"b": "missing file"}
    learn_to_write(tmp_path / "out")


def test_huggingface_takes_splits_from_paths(tmp_path):
    folder = tmp_path / "hf"
    names = ["train/a.wav", "test/a.wav", "validation/a.wav"]
    for name in names:
        make_audio(folder / name, 0.5)
    text(folder / "metadata.csv", "file_name,text", *(f"{name},one" for name in names))
    run("huggingface", folder, tmp_path / "out")
    for split in ("train", "test", "valid"):
        assert len(rows(tmp_path / f"out/{split}.tsv")) == 1


def test_huggingface_without_a_choice_of_the_text_is_refused(tmp_path, capsys):
    folder = tmp_path / "hf"
    for split in ("train", "validation"):
        make_audio(folder / f"{split}/a.wav", 0.5)
        text(folder / split / "metadata.csv", "file_name,transcription,translation", "a.wav,one,un")
    with pytest.raises(InputError, match="columns translation and transcription; choose"):
        run("huggingface", folder, tmp_path / "out")
    run("huggingface", folder, tmp_path / "out", "--text-column", "translation")
    [row] = rows(tmp_path / "out/train.tsv")
    assert (row["src_text"], row["tgt_text"]) == ("one", "un")
    for split in ("train", "validation"):
        text(folder / split / "metadata.csv", "file_name,raw", "a.wav,one")
    main(huggingface.RECIPE, [str(folder), str(tmp_path / "no text")])
    message = capsys.readouterr().err
    assert "unknown column raw is ignored" in message
    assert "no clip has a text" in message


def test_huggingface_takes_folders_that_are_no_splits_for_parts_of_train(tmp_path):
    folder = tmp_path / "hf"
    for name in ("data/english/a.wav", "data/german/a.wav", "data/test-clean/a.wav"):
        make_audio(folder / name, 0.5)
        text(folder / name.replace("a.wav", "metadata.csv"), "file_name,text", "a.wav,one")
    run("huggingface", folder, tmp_path / "out", "--valid-every", "0")
    ids = [row["id"] for row in rows(tmp_path / "out/train.tsv")]
    assert ids == ["data/english/a", "data/german/a"]
    assert [row["id"] for row in rows(tmp_path / "out/test-clean.tsv")] == ["a"]


def test_lhotse_leaves_out_cuts_without_text_among_others(tmp_path):
    wav = str(make_audio(tmp_path / "a.wav", 2.0))
    source = {"type": "file", "channels": [0], "source": wav}
    recording = {"id": "a", "sources": [source], "duration": 2.0}
    cut = {"start": 0.0, "duration": 1.0, "channel": 0, "type": "MonoCut", "recording": recording}
    cuts = [
        {**cut, "id": name, "supervisions": texts}
        for name, texts in (("x", [{"start": 0, "text": "one"}]), ("y", []))
    ]
    text(tmp_path / "cuts_train.jsonl", *map(json.dumps, cuts))
    text(tmp_path / "cuts_dev.jsonl", json.dumps(cuts[1]))
    run("lhotse", tmp_path / "cuts_train.jsonl", tmp_path / "out")
    assert [row["id"] for row in rows(tmp_path / "out/train.tsv")] == ["x"]
    assert skipped(tmp_path / "out") == {"y": "no transcript"}
    run("lhotse", tmp_path / "cuts_dev.jsonl", tmp_path / "silent")
    assert [row["id"] for row in rows(tmp_path / "silent/dev.tsv")] == ["y"]


def test_huggingface_without_a_validation_split(tmp_path):
    folder = tmp_path / "hf"
    for i in range(3):
        make_audio(folder / f"audio/{i}.wav", 0.5)
    text(folder / "metadata.csv", "file_name,text", *(f"audio/{i}.wav,one" for i in range(3)))
    run("huggingface", folder, tmp_path / "out")
    assert len(rows(tmp_path / "out/valid.tsv")) in (1, 2)
    assert len(rows(tmp_path / "out/train.tsv")) in (1, 2)


def test_fairseq_manifests(tmp_path):
    folder = tmp_path / "manifests"
    wav = make_audio(tmp_path / "wav/a.wav", 1.0)
    video = write_video(tmp_path / "v.mp4", 25, audio=noise(1.0))
    lines = ["a.wav\t16000", "gone.wav\t16000", "a"]
    text(folder / "train.tsv", str(tmp_path / "wav"), *lines)
    text(folder / "train.ltr", "H E L L O | Y O U |", "G O N E |", "A |")
    text(folder / "valid.tsv", "/", f"valid/1\t{video}\t{wav}\t25\t16000")
    text(folder / "valid.wrd", "hello")
    run("fairseq_manifests", folder, tmp_path / "out")
    [train], [valid] = (rows(tmp_path / f"out/{split}.tsv") for split in ("train", "valid"))
    assert (train["id"], train["tgt_text"]) == ("a", "HELLO YOU")
    assert (valid["audio"], valid["video"]) == (str(wav), str(video))
    assert (valid["video_frames"], valid["tgt_text"]) == ("25", "hello")
    assert skipped(tmp_path / "out") == {
        "gone": "missing file",
        "train.tsv, line 4": "unusable row",
    }
    text(folder / "train.ltr", "H I |")
    with pytest.raises(InputError, match=r"train.tsv has more rows than its labels"):
        run("fairseq_manifests", folder, tmp_path / "short")
    learn_to_write(tmp_path / "out")
