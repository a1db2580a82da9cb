"""The files of the generated corpus: splits, rows, resuming, rejected settings."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import pytest
import soundfile

from manifests.errors import InputError
from manifests.generated.__main__ import main
from manifests.generated.corpus import Item, Settings, check_plan, plan
from tests.commands import ROOT
from tests.manifests.corpora import rows
from tests.manifests.generated.command import NAMES, arguments, digests

pytest.importorskip("espeakng_loader")


def test_plain_speech_is_flac_and_phrases_are_short(tmp_path):
    out = tmp_path / "out"
    options = ["--plain-speech", "--max-words=6", "--phrases=3", "--jobs=1"]
    main(arguments(out, *options))
    translated = rows(out / "st_en-nl/train.tsv")
    assert len(translated) == 4 + 3
    assert all(len(row["src_text"].split()) <= 4 for row in translated[4:])
    for row in [*translated, *rows(out / "asr/test.tsv")]:
        audio = soundfile.info((out / "asr" / row["audio"]).resolve())
        assert (audio.format, audio.samplerate, audio.channels) == ("FLAC", 16_000, 1)
        assert int(row["n_frames"]) == 1 + (audio.frames - 400) // 160
        assert (row["video"], row["video_frames"]) == ("", "0")
        assert len(row["src_text"].split()) <= 6
    assert all(row["video"] for row in rows(out / "pretrain/train.tsv"))
    before = digests(out)
    main(arguments(out, *options))
    assert digests(out) == before


def test_rows_match_the_decoded_clips(corpus):
    for name, count in (("st_en-de/train", 4), ("st_en-it/test", 2), ("asr/valid", 1)):
        assert len(rows(corpus / f"{name}.tsv")) == count
    for path in corpus.glob("*/*.tsv"):
        for row in rows(path):
            clip = (path.parent / row["video"]).resolve()
            assert row["audio"] == row["video"]
            assert clip.is_relative_to(corpus.resolve())
            with av.open(str(clip)) as container:
                samples = sum(frame.samples for frame in container.decode(audio=0))
                assert container.streams.audio[0].rate == 16_000
                assert container.streams.audio[0].channels == 1
            with av.open(str(clip)) as container:
                frames = list(container.decode(video=0))
            assert int(row["n_frames"]) == 1 + (samples - 400) // 160
            assert int(row["video_frames"]) == len(frames)
            assert abs(samples / 16_000 - len(frames) / 25) < 0.07
            assert (frames[0].width, frames[0].height) == (64, 64)


def test_texts_of_each_manifest_folder(corpus):
    assert {row["tgt_text"] for row in rows(corpus / "pretrain/train.tsv")} == {""}
    asr = rows(corpus / "asr/test.tsv")
    assert all(row["tgt_text"] == row["src_text"] and row["tgt_lang"] == "en" for row in asr)
    de, nl = (rows(corpus / f"st_en-{lang}/train.tsv") for lang in ("de", "nl"))
    assert [row["video"] for row in de] == [row["video"] for row in nl]
    assert all(a["tgt_text"] != b["tgt_text"] for a, b in zip(de, nl, strict=True))


def test_splits_share_no_sentence_and_no_test_speaker(tmp_path):
    items = plan(tmp_path, Settings(speakers=20))
    assert len({item.sentence["en"] for item in items}) == len(items)
    test_voices = {i.clip.speaker.voice for i in items if i.split == "test"}
    assert not test_voices & {i.clip.speaker.voice for i in items if i.split != "test"}
    assert len({item.clip.speaker for item in items}) == 20


def test_bytes_do_not_depend_on_workers_or_resuming(corpus, tmp_path):
    main([*arguments(tmp_path), "--jobs=1"])
    assert digests(tmp_path) == digests(corpus)
    clips = sorted(tmp_path.rglob("*.mp4"))
    clips[0].unlink()
    clips[3].write_bytes(clips[3].read_bytes()[:2000])
    kept = clips[5].stat().st_mtime_ns
    main([*arguments(tmp_path), "--jobs=2"])
    assert digests(tmp_path) == digests(corpus)
    assert clips[5].stat().st_mtime_ns == kept


def test_different_settings_are_rejected(corpus):
    before = digests(corpus)
    with pytest.raises(SystemExit, match="size: 64 stored, 32 now"):
        main(arguments(corpus, "--size=32"))
    assert digests(corpus) == before


@pytest.mark.parametrize(
    "options",
    [
        ["--size=33"],
        ["--speakers=1"],
        ["--speakers=1000"],
        ["--text=nowhere.tsv"],
        ["--max-words=4"],
        [f"--text={__file__}", "--phrases=3"],
    ],
)
def test_impossible_settings_are_rejected(options, tmp_path):
    with pytest.raises(SystemExit, match=r"^mmpt_fairseq: ") as end:
        main([str(tmp_path), *options])
    assert len(str(end.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_missing_espeak_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install espeakng-loader"):
        main([str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def partial(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.part"))


def test_a_killed_run_is_resumed(corpus, tmp_path):
    command = [sys.executable, "-m", "manifests.generated", *arguments(tmp_path), "--jobs=1"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    while not list(tmp_path.rglob("*.mp4")) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    # Its worker ends a moment later, and leaves the clip that it was writing.
    while any(Path(f"/proc/{part.name.split('.')[-2]}").exists() for part in partial(tmp_path)):
        time.sleep(0.02)
    assert not list(tmp_path.rglob("*.tsv"))
    main([*arguments(tmp_path), "--jobs=2"])
    assert digests(tmp_path) == digests(corpus)


def test_invalid_plans_are_rejected(tmp_path):
    settings = Settings(speakers=8, **dict.fromkeys(NAMES, 2))
    items = plan(tmp_path, settings)

    def message(changed: list[Item]) -> str:
        with pytest.raises(InputError) as caught:
            check_plan(changed, settings)
        return str(caught.value)

    check_plan(items, settings)
    assert "not the 2 requested" in message(items[:-1])
    repeated = replace(items[-1], sentence=items[0].sentence)
    assert "two clips" in message([*items[:-1], repeated])
    clip = replace(items[-1].clip, speaker=items[0].clip.speaker)
    assert "speaker" in message([*items[:-1], replace(items[-1], clip=clip)])


def test_settings_are_stored(corpus):
    stored = json.loads((corpus / "corpus.json").read_text())
    assert stored["seed"] == 3
    assert stored["speakers"] == 8
