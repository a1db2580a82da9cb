"""Shallow fusion with fairseq language models, and the text they are trained on."""

import math
import re
import shutil
from argparse import Namespace

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator

from manifests.errors import InputError
from manifests.pieces import Pieces, main
from mmpt_fairseq.decoding.choice import DECODINGS
from mmpt_fairseq.decoding.language_model import (
    check_files,
    check_language_model,
    load_language_model,
)
from mmpt_fairseq.transcription.search import Search, SearchOptions
from tests.commands import generate, refused, succeeded
from tests.decoding.alignments import EOS, emissions, text_probabilities
from tests.helpers import speech_batch, speech_model, speech_task, words
from tests.language_models import untrained_language_model


@torch.no_grad()
def test_fusion_adds_the_weighted_language_model_score(tmp_path):
    (tmp_path / "dict.txt").write_text("a 1\nb 1\nc 1\n")
    lm, model = untrained_language_model(tmp_path), speech_model()
    batch = speech_batch([60], [[4]])
    generator = SequenceGenerator(
        [model],
        model.decoder.dictionary,
        beam_size=3,
        max_len_b=5,
        normalize_scores=False,
        lm_model=lm,
        lm_weight=0.7,
    )
    for hypothesis in generator.generate([model], batch)[0]:
        tokens = hypothesis["tokens"]
        previous = torch.cat([torch.tensor([2]), tokens[:-1]])[None]
        inputs = batch["net_input"]
        own, _ = model(inputs["src_tokens"], inputs["src_lengths"], previous)
        both = own.log_softmax(-1) + 0.7 * lm(previous)[0].log_softmax(-1)
        expected = both[0].gather(1, tokens[:, None]).sum().item()
        assert hypothesis["score"].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
@torch.no_grad()
def test_ctc_beam_with_a_language_model_finds_the_best_text(seed, tmp_path):
    """Without a decoder, against an enumeration of all texts and their alignments."""
    (tmp_path / "dict.txt").write_text("a 1\nb 1\nc 1\n")
    lm, lprobs, weight = untrained_language_model(tmp_path), emissions(1, 4, seed), 0.8

    def total(text: tuple[int, ...], probability: float) -> float:
        tokens = torch.tensor([EOS, *text, EOS])
        lm_score = lm(tokens[None, :-1])[0][0].log_softmax(-1).gather(1, tokens[1:, None]).sum()
        return math.log(probability) + weight * lm_score.item()

    candidates = {text: p for text, p in text_probabilities(lprobs[0]).items() if text and p > 0}
    totals = {text: total(text, p) for text, p in candidates.items()}
    assert max(totals, key=totals.get) != max(candidates, key=candidates.get)
    model, task = speech_model(decoder_layers=0), speech_task()
    model.encoder.ctc_projection.register_forward_hook(lambda *_: lprobs)
    task.cfg.results_path, task.cfg.decoding = None, "ctc_beam"
    args = Namespace(beam=6, nbest=6, max_len_b=5, unnormalized=True)
    fusion = {"lm_model": lm, "lm_weight": weight}
    generator = task.build_generator([model], args, extra_gen_cls_kwargs=fusion)
    batch = speech_batch([16], [[4]])  # 4 frames of the encoder
    found = generator.generate([model], batch)[0]
    assert found[0]["score"].item() == pytest.approx(max(totals.values()), abs=1e-4)
    for hypothesis in found:
        text = tuple(hypothesis["tokens"].tolist())[:-1]
        if text in totals:
            assert hypothesis["score"].item() == pytest.approx(totals[text], abs=1e-4)


def test_unsupported_vocabulary_or_decoding_is_rejected(tmp_path):
    (tmp_path / "dict.txt").write_text("a 1\nb 1\n")
    fusion = {"lm_model": untrained_language_model(tmp_path), "lm_weight": 0.5}
    check_language_model({"lm_weight": 0.0}, words("a"), "ctc")
    for decoding in ("attention", "joint", "ctc_beam"):
        check_language_model(fusion, words("a", "b"), decoding)
    with pytest.raises(InputError, match=r"manifests\.pieces"):
        check_language_model(fusion, words("a", "c"), "attention")
    with pytest.raises(InputError, match="--decoding ctc_beam"):
        check_language_model(fusion, words("a", "b"), "ctc")
    with pytest.raises(InputError, match="several languages"):
        check_language_model(fusion, words("a", "b"), "joint", {5})


def test_weight_without_a_model_is_rejected_and_zero_weight_warned_of(tmp_path, caplog):
    with pytest.raises(InputError, match=r"lm_weight=0\.3 is set .* name one with --lm-path"):
        check_language_model({"lm_weight": 0.3}, words("a"), "ctc")
    with pytest.raises(InputError, match=r"lm_weight=0\.3"):
        Search(speech_model(), speech_task(), SearchOptions(lm_weight=0.3))
    (tmp_path / "dict.txt").write_text("a 1\nb 1\n")
    fusion = {"lm_model": untrained_language_model(tmp_path)}
    with pytest.raises(InputError, match="lm_weight=nan is not a finite number"):
        check_language_model(fusion | {"lm_weight": math.nan}, words("a", "b"), "ctc_beam")
    check_language_model(fusion, words("a", "b"), "ctc_beam")  # fairseq's generator defaults to 1.0
    assert "has no effect" not in caplog.text
    check_language_model(fusion | {"lm_weight": 0.0}, words("a", "b"), "ctc_beam")
    assert "has no effect" in caplog.text


def test_without_a_decoder_every_error_names_a_valid_decoding(tmp_path):
    """With and without a language model."""
    (tmp_path / "dict.txt").write_text("a 1\nb 1\nc 1\n")
    task, model = speech_task(), speech_model(decoder_layers=0)
    task.cfg.results_path, args = None, Namespace(beam=2)
    for fusion in ({"lm_model": untrained_language_model(tmp_path)}, {}):
        for decoding in DECODINGS:
            task.cfg.decoding = decoding
            if decoding == "ctc_beam" or (decoding == "ctc" and not fusion):
                assert task.build_generator([model], args, extra_gen_cls_kwargs=fusion)
                continue
            with pytest.raises(SystemExit, match="ctc_beam"):
                task.build_generator([model], args, extra_gen_cls_kwargs=fusion)


def test_language_model_loads_without_its_data_if_the_vocabulary_matches(stages, tmp_path):
    (tmp_path / "dict.txt").write_text("a 1\nb 1\n")
    saved = untrained_language_model(tmp_path, tmp_path / "lm.pt")
    loaded = load_language_model(tmp_path / "lm.pt", words("a", "b"))
    tokens = torch.tensor([[2, 4, 5, 4]])
    assert torch.equal(loaded(tokens)[0], saved(tokens)[0])
    (tmp_path / "dict.txt").unlink()
    with pytest.raises(InputError, match="lacks the recogniser's vocabulary of 7 entries"):
        load_language_model(tmp_path / "lm.pt", words("a", "b", "c"))
    (tmp_path / "dict.txt").write_text("b 1\na 1\n")
    with pytest.raises(InputError, match=r"trained on .*\.txt, which is not the recogniser's"):
        load_language_model(tmp_path / "lm.pt", words("a", "b"))
    with pytest.raises(InputError, match=r"trained on .*\.txt, which is not the recogniser's"):
        check_files(str(tmp_path / "lm.pt"), str(other_vocabulary(tmp_path)))
    with pytest.raises(InputError, match="of the task mmpt_speech_to_text, not a language model"):
        load_language_model(stages / "finetuning" / "checkpoint_last.pt", words("a", "b"))


def other_vocabulary(folder):
    """A data folder with a different vocabulary of the same size."""
    (folder / "other").mkdir()
    (folder / "other" / "dict.txt").write_text("a 1\nb 1\n")
    return folder / "other"


def test_text_becomes_pieces(corpora, tmp_path, capsys):
    data = corpora / "asr"
    pieces = Pieces(data)
    assert list(pieces(["red cat", " ", "one"])) == ["▁ r e d ▁ c a t", "▁ o n e"]
    assert (pieces.written, pieces.unknown) == (12, 0)
    lines = training_lines(data, tmp_path / "lm")
    assert len(lines) == 8
    vocabulary = {line.split()[0] for line in (data / "dict.txt").read_text().splitlines()}
    assert {piece for line in lines for piece in line.split()} <= vocabulary
    assert (tmp_path / "lm" / "dict.txt").read_text() == (data / "dict.txt").read_text()
    stderr = capsys.readouterr().err
    assert "8 sentences for training, 8 of them transcripts, 8 for validation; 0 lines" in stderr
    faults = {"none.txt": "no text file", "latin.txt": "is not UTF-8"}
    (tmp_path / "latin.txt").write_bytes("Käse".encode("latin-1"))
    for name, sentence in faults.items():
        with pytest.raises(SystemExit, match=sentence):
            main([str(data), str(tmp_path / "lm"), "--text", str(tmp_path / name)])
    (data_without := tmp_path / "without").mkdir()
    for split in ("train", "valid"):
        shutil.copy(data / f"{split}.tsv", data_without)
    with pytest.raises(SystemExit, match=r"manifests\.vocabulary"):
        main([str(data_without), str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="name another folder"):
        main([str(data), str(data)])
    assert not (data / "train").exists()


def training_lines(data, out, *options) -> list[str]:
    """Run ``manifests.pieces``; return the training lines."""
    main([str(data), str(out), *map(str, options)])
    return (out / "train").read_text().splitlines()


def test_sentences_of_other_splits_are_excluded(corpora, tmp_path, capsys):
    """The training split's own targets are kept even if other splits contain them."""
    data = shutil.copytree(corpora / "asr", tmp_path / "asr")
    for split, text in (("valid", "one red boat"), ("test", "the two")):
        path = data / f"{split}.tsv"
        path.write_text(path.read_text().replace("a red boat", text))
    (data / "av.tsv").write_text("id\taudio\tn_frames\n0\t0.wav\t50\n")  # stage 1's: no texts
    (data / "table.tsv").write_text("name\tvalue\n")
    further = tmp_path / "further.txt"
    further.write_text("the  two\nOne red boat.\n\nthe red boat\nZ\n")
    lines = training_lines(data, tmp_path / "lm", "--text", further)
    assert lines[8:] == ["▁ t h e ▁ r e d ▁ b o a t", "▁ Z"]
    assert "▁ t h e ▁ c a t" in lines[:8]  # in valid and test too
    stderr = capsys.readouterr().err
    assert "2 lines that occur in other splits" in stderr
    assert "% of the pieces are unknown" in stderr
    assert all(f"{name}.tsv" in stderr for name in ("av", "table"))


def test_joint_decoding_with_a_language_model_and_n_best(stages, corpora, tmp_path):
    """On the command line: joint scores, fusion, three hypotheses per row, CER."""
    data, lm = corpora / "asr", tmp_path / "lm.pt"
    untrained_language_model(data, lm)
    checkpoint = stages / "finetuning" / "checkpoint_last.pt"
    search = ["--decoding", "joint", "--ctc-decoding-weight", "0.4", "--beam", "3", "--nbest", "3"]
    fusion = ["--lm-path", lm, "--lm-weight", "0.2", "--max-len-b", "10", "--scoring", "cer"]
    output = succeeded(generate(checkpoint, data, "test", *search, *fusion))
    assert len(re.findall(r"^D-\d+\t", output, re.MULTILINE)) == 24
    assert re.search(r"CER: \d+\.\d\d", output)
    sentence = refused(generate(checkpoint, data, "test", "--decoding", "ctc", *fusion))
    assert "takes no language model" in sentence
