"""Recipes of the corpora of four SUPERB tasks."""

import pytest

from manifests.errors import InputError
from tests.manifests.corpora import make_audio, rows, run, skipped, text
from tests.manifests.learning import learn_a_task_of_superb


def test_speech_commands(tmp_path):
    corpus = tmp_path / "speech_commands_v0.01"
    names = ["yes/aa_nohash_0", "yes/bb_nohash_0", "bed/cc_nohash_0", "bed/dd_nohash_1"]
    for name in names:
        make_audio(corpus / f"{name}.wav", 1.0)
    make_audio(corpus / "_background_noise_/pink.wav", 10.5)
    text(corpus / "validation_list.txt", "yes/bb_nohash_0.wav")
    text(corpus / "testing_list.txt", "bed/dd_nohash_1.wav")
    with pytest.raises(InputError, match="SUPERB's test set; give its folder with --test-set"):
        run("speech_commands", corpus, tmp_path / "out")
    for label in ("yes", "_unknown_", "_silence_"):
        make_audio(tmp_path / f"speech_commands_test_set_v0.01/{label}/ee_nohash_0.wav", 1.0)
    with pytest.raises(InputError, match="has no folder of a class; give the unpacked speech_comm"):
        run("speech_commands", corpus, tmp_path / "out", "--test-set", str(tmp_path))
    run("speech_commands", corpus, tmp_path / "out")
    found = {s: rows(tmp_path / f"out/{s}.tsv") for s in ("train", "valid", "test")}
    labels = {s: [r["tgt_text"] for r in table] for s, table in found.items()}
    assert sorted(labels["train"]) == ["_silence_"] * 9 + ["_unknown_", "yes"]
    assert sorted(labels["valid"]) == ["_silence_", "yes"]
    assert sorted(labels["test"]) == ["_silence_", "_unknown_", "yes"]
    silences = [r["audio"] for r in found["valid"] if r["tgt_text"] == "_silence_"]
    assert silences == [f"{corpus / '_background_noise_/pink.wav'}:144000:16000"]
    assert {r["speaker"] for r in found["train"]} == {"", "aa", "cc"}
    learn_a_task_of_superb(tmp_path / "out", "keyword_spotting")


def test_fluent_speech_commands(tmp_path):
    corpus = tmp_path / "fluent"
    header = ",path,speakerId,transcription,action,object,location"
    wavs = []
    for i, split in enumerate(("train", "valid", "test")):
        path = f"wavs/speakers/s{i}/a-{i}.wav"
        wavs.append(make_audio(corpus / path, 1.0))
        lines = [f'0,{path},s{i},"Change, please",change language,none,washroom']
        lines += [f"1,wavs/speakers/s{i}/gone.wav,s{i},Gone,,none,none"]
        louder = f"wavs/speakers/s{i}/b-{i}.wav"
        make_audio(corpus / louder, 0.5)
        lines += ["2,", f"3,{louder},s{i},Louder,increase,volume,none"]
        text(corpus / f"data/{split}_data.csv", header, *lines, end="\r\n")
    run("fluent_speech_commands", corpus, tmp_path / "out")
    row, louder = rows(tmp_path / "out/train.tsv")
    assert row["tgt_text"] == "change_language none washroom"
    assert louder["tgt_text"] == "increase volume none"
    assert (row["src_text"], row["speaker"]) == ("Change, please", "s0")
    assert set(skipped(tmp_path / "out").values()) == {"empty transcript", "unusable row"}
    learn_a_task_of_superb(tmp_path / "out", "intent_classification")


def test_librispeech_phones(tmp_path, capsys):
    corpus = tmp_path / "LibriSpeech"
    for split, speaker in (("train-clean-100", 1), ("test-clean", 2)):
        chapter = corpus / f"{split}/{speaker}/5"
        lines = []
        for i, words in enumerate(["HELLO WORLD", "HELLO GHOST WORLD HAUNT GHOST"]):
            make_audio(chapter / f"{speaker}-5-000{i}.flac", 0.5)
            lines.append(f"{speaker}-5-000{i} {words}")
        text(chapter / f"{speaker}-5.trans.txt", *lines)
    first = text(tmp_path / "first.txt", "HELLO\tHH AH0 L OW1", "HELLO(2) HH EH0 L OW1")
    second = text(tmp_path / "second.txt", "WORLD  W ER1 L D", "HELLO X X")
    lexicon = ("--lexicon", str(first), str(second))
    run("librispeech_phones", corpus, tmp_path / "out", *lexicon)
    [row] = rows(tmp_path / "out/train.tsv")
    assert row["tgt_text"] == "HH AH0 L OW1 W ER1 L D"
    assert row["src_text"] == "hello world"
    assert set(skipped(tmp_path / "out").values()) == {"word out of the lexicon"}
    assert "ghost haunt" in (tmp_path / "out/skipped.tsv").read_text()
    counts = (tmp_path / "out/out_of_lexicon.txt").read_text()
    assert counts == "ghost\t4\nhaunt\t2\n"
    message = "2 words are not in the lexicon, 6 occurrences in all"
    assert message in capsys.readouterr().err
    # Again, from the journal: its settings hold lists and paths.
    run("librispeech_phones", corpus, tmp_path / "out", *lexicon)
    learn_a_task_of_superb(tmp_path / "out", "phoneme_recognition")


def test_libri2mix(tmp_path, capsys):
    # As written by SUPERB's preparation, including ``dev2`` of its later version.
    splits = {"train": "train-100", "dev2": "dev", "test": "test"}
    for split, official in splits.items():
        mixture = f"{split}-1_{split}-2"
        path = tmp_path / f"max/{official}/mix_both/{mixture}.wav"
        make_audio(path, 2.0)
        make_audio(path.with_name("lonely.wav"), 2.0)
        labels = tmp_path / "labels" / split
        text(
            labels / "rttm",
            f"SPEAKER\t{mixture}\t1\t0.5\t1.0\t<NA>\t<NA>\tben{split}\t<NA>",
            f"SPEAKER\t{mixture}\t1\t0.1\t0.6\t<NA>\t<NA>\tann{split}\t<NA>",
            f"SPEAKER\t{mixture}\t1\t1.0\t0.001\t<NA>\t<NA>\tann{split}\t<NA>",
            f"SPEAKER\t{mixture}\t1\t0.006\t0.006\t<NA>\t<NA>\tann{split}\t<NA>",
            f"SPEAKER\t{mixture}\t1\t-0.002\t0.05\t<NA>\t<NA>\tann{split}\t<NA>",
            f"SPEAKER lonely 1 0 1 <NA> <NA> ann{split} <NA> <NA>",
        )
        text(
            labels / "wav.scp",
            f"{mixture} /moved/away/{mixture}.wav",
            f"unlabelled {path.with_name('lonely.wav')}",
        )
    mixtures = ("--mixtures", str(tmp_path / "max"))
    run("libri2mix", tmp_path / "labels", tmp_path / "out", *mixtures)
    [row] = rows(tmp_path / "out/train.tsv")
    assert row["segments"] == "anntrain:0.00-0.05;anntrain:0.10-0.70;bentrain:0.50-1.50"
    assert row["audio"].endswith("max/train-100/mix_both/train-1_train-2.wav")
    left_out = {"lonely": "not two speakers", "unlabelled": "not two speakers"}
    assert skipped(tmp_path / "out") == left_out
    assert "--mixtures" not in capsys.readouterr().err
    with pytest.raises(InputError, match="not one clip"):
        run("libri2mix", tmp_path / "labels", tmp_path / "moved")
    assert "2 mixtures of train are not where" in (shown := capsys.readouterr().err)
    assert "; see --mixtures" in shown
    # A LibriSpeech speaker, by the beginning of an utterance id.
    for split, who in (("train", "84-1-2"), ("test", "84")):
        with (tmp_path / f"labels/{split}/rttm").open("a") as file:
            file.write(f"SPEAKER lonely 1 1 1 <NA> <NA> {who} <NA> <NA>\n")
    with pytest.raises(InputError, match="1 speakers are in two splits, such as 84 in test and"):
        run("libri2mix", tmp_path / "labels", tmp_path / "out", *mixtures, "--restart")
    allowed = ("--restart", "--allow-leaks", "speaker")
    assert run("libri2mix", tmp_path / "labels", tmp_path / "out", *mixtures, *allowed)
    learn_a_task_of_superb(tmp_path / "out", "speaker_diarization")
