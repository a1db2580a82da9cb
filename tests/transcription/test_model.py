"""Transcripts of files agree with the training data pipeline, in any batch."""

import itertools
import os
import tracemalloc

import numpy as np
import pytest
import torch
from fairseq.dataclass.configs import GenerationConfig
from omegaconf import OmegaConf

import mmpt_fairseq
from manifests.errors import InputError, UnreadableClip
from mmpt_fairseq.checkpoint import load_checkpoint
from mmpt_fairseq.data.video import read_frames
from mmpt_fairseq.data.waveform import read_waveform
from mmpt_fairseq.data.waveform_stream import waveform_blocks
from mmpt_fairseq.report.probes import load_probe
from mmpt_fairseq.transcription.features import pieces
from mmpt_fairseq.transcription.search import Search, SearchOptions, max_text_length
from mmpt_fairseq.transcription.segments import segments
from tests.helpers import RATE, noise, write_audio, write_video


def fairseq_texts(checkpoint, manifest, decoding: str) -> list[str]:
    """Texts by fairseq-generate's path through task, dataset and generator, row by row."""
    probe = load_probe(checkpoint, manifest)
    probe.task.cfg.decoding = decoding
    options = OmegaConf.structured(GenerationConfig(beam=5, max_len_b=30))
    generator = probe.task.build_generator([probe.model], options)
    bpe, texts = probe.task.build_bpe(None), []
    for row in range(len(probe.dataset)):
        batch = probe.dataset.collater([probe.dataset[row]])
        [[best, *_]] = probe.task.inference_step(generator, [probe.model], batch)
        ignored = generator.symbols_to_strip_from_output
        symbols = probe.task.target_dictionary.string(
            best["tokens"], extra_symbols_to_ignore=ignored, unk_string="⁇"
        )
        texts.append(" ".join(bpe.decode(symbols).split()))
    return texts


@pytest.mark.parametrize("decoding", ["ctc", "attention"])
def test_texts_match_fairseq_generate(recogniser, checkpoint, corpora, decoding):
    manifest = corpora / "asr" / "test.tsv"
    paths = [corpora / "asr" / f"{i}.wav" for i in range(8)]
    found = recogniser.transcribe(paths, decoding=decoding, batch_size=3)
    texts = [transcript.text for transcript in found]
    assert texts == fairseq_texts(checkpoint, manifest, decoding)
    assert len(set(texts)) >= 3
    assert [transcript.path for transcript in found] == [str(path) for path in paths]


def test_hypothesis_length_is_limited_by_the_piece(recogniser, monkeypatch):
    """One token per encoder frame of the piece itself, whatever else is in the batch."""
    pieces = [np.random.default_rng(n).normal(size=(n, 80)).astype(np.float32) for n in (90, 700)]
    with torch.no_grad():
        search = Search(recogniser.model, recogniser.task, SearchOptions(decoding="attention"))
        search.longest = search.generator.max_len = 1000  # the model's own limit is 30
        head = recogniser.model.decoder.output_projection
        monkeypatch.setattr(head, "forward", without_eos(head.forward, search.dictionary.eos()))
        alone = [search.hypotheses([piece])[0]["tokens"] for piece in pieces]
        both = [hypothesis["tokens"] for hypothesis in search.hypotheses(pieces[::-1])][::-1]
    assert [max_text_length(frames) for frames in (1, 500, 501)] == [125, 125, 250]
    assert [len(tokens) - 1 for tokens in alone] == [125, 250]
    assert all(torch.equal(a, b) for a, b in zip(alone, both, strict=True))


def without_eos(forward, eos: int):
    """Patch a decoder's output projection so that it never predicts EOS."""

    def patched(x):
        logits = forward(x)
        logits[..., eos] = -1e4
        return logits

    return patched


def test_default_decoding_is_ctc(recogniser, corpora):
    path = corpora / "asr" / "7.wav"
    assert recogniser.transcribe(path) == recogniser.transcribe(path, decoding="ctc")


@pytest.mark.real_data
@pytest.mark.parametrize("decoding", ["ctc", "attention"])
def test_real_speech_is_independent_of_batch_size(recogniser, real_data, decoding):
    """WAV, FLAC, Ogg, MP4 and MPEG files, 8 to 44.1 kHz, some cut into pieces."""
    patterns = {
        "fsdd": "**/*.wav",
        "librispeech/LibriSpeech/test-clean": "**/*.flac",
        "arctic": "**/*.ogg",
        "grid/video": "**/*.mp4",
        "grid/original": "*.mpg",
    }
    paths = [
        p for f, pattern in patterns.items() for p in sorted((real_data / f).glob(pattern))[:2]
    ]
    assert {path.suffix for path in paths} == {".wav", ".flac", ".ogg", ".mp4", ".mpg"}
    one, *others = (
        recogniser.transcribe(paths, batch_size=size, longest=4, decoding=decoding, beam=2)
        for size in (1, 3, 16)
    )
    assert sum(len(transcript.segments) for transcript in one) > len(paths)
    assert len({transcript.text for transcript in one}) >= len(paths) // 2
    for other in others:
        for a, b in zip(one, other, strict=True):
            assert [s.text for s in a.segments] == [s.text for s in b.segments]
            assert [(w.start, w.end) for w in a.words] == [(w.start, w.end) for w in b.words]
            for x, y in zip(a.words, b.words, strict=True):
                assert x.confidence == pytest.approx(y.confidence, abs=1e-4)


def test_pieces_are_contiguous_and_independent(recogniser, tmp_path):
    path = write_audio(tmp_path / "a.wav", noise(11))
    transcript = recogniser.transcribe(path, longest=4)
    bounds = [(segment.start, segment.end) for segment in transcript.segments]
    assert len(bounds) >= 3
    assert bounds[0][0] == 0
    assert bounds[-1][1] == transcript.duration == 11
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(bounds))
    times = [time for word in transcript.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert times[-1] > 8
    # Each piece is transcribed as a separate clip, with times in the recording.
    start, end = (round(time * RATE) for time in bounds[1])
    write_audio(tmp_path / "b.wav", read_waveform(str(path))[start:end])
    alone = recogniser.transcribe(tmp_path / "b.wav")
    assert alone.text == transcript.segments[1].text
    assert alone.words[0].start + bounds[1][0] == transcript.segments[1].words[0].start


def test_memory_does_not_grow_with_the_recording(tmp_path):
    """Three minutes of 44.1 kHz stereo are 64 MB as samples."""
    stereo = np.tile(noise(30, rate=44_100)[:, None], (6, 2))
    blocks = waveform_blocks(str(write_audio(tmp_path / "a.wav", stereo, 44_100)))
    short = write_audio(tmp_path / "b.wav", noise(1, rate=44_100), 44_100)
    list(segments(waveform_blocks(str(short))))  # imports, of scipy too
    tracemalloc.start()
    samples = sum(len(segment.waveform) for segment in segments(blocks))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples == 180 * RATE
    assert peak < 20e6


def test_silence_noise_and_very_short_files(recogniser, tmp_path):
    """Silence has no words; noise and a clip of 50 ms are transcribed without an error."""
    silence = recogniser.transcribe(write_audio(tmp_path / "a.wav", np.zeros(RATE)))
    assert (silence.text, silence.words, silence.duration) == ("", [], 1)
    short = recogniser.transcribe(write_audio(tmp_path / "b.wav", noise(0.05)))
    assert short.duration == 0.05
    assert recogniser.transcribe(write_audio(tmp_path / "c.wav", noise(3))).duration == 3
    with pytest.raises(UnreadableClip, match=r"lasts 20 ms, less than one 25 ms frame"):
        recogniser.transcribe(write_audio(tmp_path / "d.wav", noise(0.02)))


def test_progress_bar_with_a_header_that_states_too_little(
    recogniser, tmp_path, monkeypatch, capsys
):
    """As in AAC files; the progress bar stays at its end."""
    path = write_audio(tmp_path / "a.wav", noise(3))
    monkeypatch.setattr("mmpt_fairseq.transcription.model.duration", lambda _: 1.0)
    found = list(recogniser.transcribe_each([path] * 3, batch_size=1, progress=True))
    assert [transcript.duration for transcript in found] == [3, 3, 3]
    assert "transcribed: 3 of 3 s 100%" in capsys.readouterr().err


def test_times_of_audio_that_starts_after_the_video(recogniser, tmp_path, monkeypatch):
    """In a file whose name FFmpeg would take for a URL."""
    write_video(tmp_path / "12:30.mkv", 90, audio=noise(2), late=1.5)
    monkeypatch.chdir(tmp_path)
    transcript = recogniser.transcribe("12:30.mkv", progress=True)
    assert read_frames("12:30.mkv", np.array([3])).shape[0] == 1
    assert transcript.segments[0].start == pytest.approx(1.5, abs=0.1)  # AAC begins a bit early
    assert transcript.duration == pytest.approx(3.5, abs=0.05)


def test_a_named_pipe_is_rejected_before_it_is_opened(tmp_path):
    """Nothing writes to it, so opening it would block for ever."""
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(UnreadableClip, match="is a pipe or a device"):
        next(pieces(str(tmp_path / "a.mp4"), 20.0))


def test_transcribe_each_continues_after_a_bad_file(recogniser, tmp_path):
    good = write_audio(tmp_path / "a.wav", noise(1))
    paths = [good, tmp_path / "missing.wav", tmp_path, good]
    first, missing, folder, last = recogniser.transcribe_each(paths)
    assert first == last
    assert "there is no audio file" in str(missing)
    assert "is a folder" in str(folder)
    with pytest.raises(UnreadableClip, match=r"missing\.wav"):
        recogniser.transcribe(paths)


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_samples_give_the_same_result_as_their_file(recogniser, tmp_path, rate):
    waveform = noise(23, rate=rate)
    whole = np.round(waveform * 32767).astype(np.int16)
    path = write_audio(tmp_path / "a.wav", whole, rate)
    expected = recogniser.extract_features(path)
    for given in (whole, whole.astype(">i2"), whole / 32768, torch.from_numpy(whole / 32768)):
        found = recogniser.extract_features(given, rate=float(rate))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    transcript = recogniser.transcribe(path)
    alone = recogniser.transcribe(whole, rate=rate)
    assert (alone.segments, alone.path) == (transcript.segments, "samples 1")
    both = recogniser.transcribe([path, whole], rate=rate)
    assert [t.segments for t in both] == 2 * [transcript.segments]
    assert [t.path for t in both] == [str(path), "samples 2"]
    named = recogniser.transcribe(np.array([str(path)] * 2))
    assert [t.segments for t in named] == 2 * [transcript.segments]
    [each] = recogniser.transcribe_each(str(path))
    assert each == transcript


def test_an_iterator_is_read_as_the_work_proceeds(recogniser):
    taken = []
    waves = (taken.append(i) or noise(1) for i in range(40))
    transcripts = recogniser.transcribe_each(waves, batch_size=2, rate=RATE)
    assert next(transcripts).path == "samples 1"
    assert len(taken) < 10
    assert len(list(transcripts)) == 39


def test_invalid_audio_input_is_rejected(recogniser):
    wave = noise(1)
    for given, options, fault in (
        (wave, {}, "samples 1 need their rate in Hz"),
        (wave, {"rate": 0}, "need their rate"),
        *(
            (wave, {"rate": rate}, "need their rate in Hz, a whole number")
            for rate in (22050.5, float("nan"), float("inf"), "16000")
        ),
        (
            torch.zeros(RATE, requires_grad=True),
            {"rate": RATE},
            r"cannot be read as an array: .*detach",
        ),
        (wave[None], {"rate": RATE}, r"have the shape \(1, 16000\); give one channel"),
        (np.arange(9), {"rate": RATE}, "are int64; give floats"),
        (None, {}, "not NoneType"),
        (b"a.wav", {}, "not bytes"),
        ([3], {}, "audio must be a path or an array of samples, not int"),
    ):
        with pytest.raises(InputError, match=fault):
            recogniser.transcribe(given, **options)
    for given, fault in ((wave[:0], "holds no samples"), (wave[:100], "less than one 25 ms")):
        [found] = recogniser.transcribe_each([given], rate=RATE)
        assert isinstance(found, UnreadableClip)
        assert fault in str(found)
    with pytest.raises(UnreadableClip, match="samples holds samples that are infinite"):
        recogniser.extract_features(np.full(RATE, np.nan), rate=RATE)
    with pytest.raises(UnreadableClip, match="/dev/null is a pipe or a device"):
        recogniser.transcribe("/dev/null")


def test_prefix_beam_search_gives_the_word_confidences_of_greedy_ctc(
    recogniser, corpora, monkeypatch
):
    """With posteriors so peaked that both find the same text in the same frames."""
    head = recogniser.model.encoder.ctc_projection
    forward = head.forward
    monkeypatch.setattr(head, "forward", lambda x: 30 * forward(x))
    paths, agreed = [corpora / "asr" / f"{i}.wav" for i in range(8)], set()
    for path in paths:
        greedy, beam = (
            recogniser.transcribe(path, decoding=name).words for name in ("ctc", "ctc_beam")
        )
        if [w.text for w in greedy] == [w.text for w in beam]:
            for a, b in zip(greedy, beam, strict=True):
                assert (b.start, b.end) == (a.start, a.end)
                assert b.confidence == pytest.approx(a.confidence, abs=1e-5)
            agreed |= {w.confidence for w in beam}
    assert len(agreed) > 3


def test_load_ignores_world_size(checkpoint, monkeypatch):
    """Loading is not training: each process of a launcher may load a model of its own."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert mmpt_fairseq.load(checkpoint).encoder


def test_invalid_options_are_rejected(recogniser, tmp_path):
    faults = {
        "batch_size=0": {"batch_size": 0},
        "beam=0": {"beam": 0},
        "not between 1 s and the model's 60 s": {"longest": 61},
        "leave out the language de": {"language": "de"},
        "0.5 applies to joint decoding; leave it out with ctc": {"ctc_weight": 0.5},
        "ctc_decoding_weight=1.5 is not between": {"ctc_weight": 1.5, "decoding": "joint"},
    }
    for fault, options in faults.items():
        with pytest.raises(InputError, match=fault):
            recogniser.transcribe(tmp_path / "a.wav", **options)


def test_stage_1_extracts_features_but_does_not_transcribe(stage_1, tmp_path):
    model = mmpt_fairseq.load(stage_1)
    path = write_audio(tmp_path / "a.wav", noise(1.5))
    assert model.extract_features(path).shape == (37, 16)
    with pytest.raises(InputError, match="is of stage 1, which does not learn text"):
        model.transcribe(path)


def test_load_names_a_model_that_is_not_registered(checkpoint, tmp_path):
    """As of an extension that was not imported."""
    state = load_checkpoint(checkpoint)
    state["cfg"]["model"]["_name"] = "mine"
    torch.save(state, tmp_path / "mine.pt")
    with pytest.raises(InputError, match=r"mine\.pt is of the model mine, which is not registered"):
        mmpt_fairseq.load(tmp_path / "mine.pt")


def test_load_rejects_other_files(checkpoint, tmp_path):
    (tmp_path / "text.pt").write_text("no checkpoint")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    for name in ("missing.pt", "text.pt", "other.pt"):
        with pytest.raises(InputError, match=name):
            mmpt_fairseq.load(tmp_path / name)
    state = load_checkpoint(checkpoint)
    name = next(name for name in state["model"] if "subsample" in name)
    del state["model"][name]
    torch.save(state, tmp_path / "incomplete.pt")
    with pytest.raises(InputError, match=rf"weights in .*incomplete\.pt do not fit .*{name}"):
        mmpt_fairseq.load(tmp_path / "incomplete.pt")
