"""Shallow fusion with a language model of fairseq's own."""

import math
import re
from argparse import Namespace

import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.sequence_generator import SequenceGenerator
from fairseq.tasks import setup_task

from manifests.pieces import main, pieces
from mmpt_fairseq.decoding.choice import DECODINGS, check_language_model
from mmpt_fairseq.errors import InputError
from tests.commands import generate, refused, succeeded
from tests.decoding.alignments import EOS, emissions, texts
from tests.helpers import speech_batch, speech_model, speech_task, words

ARCHITECTURE = ["--arch", "transformer_lm", "--decoder-layers", "1", "--decoder-embed-dim", "16"]
ARCHITECTURE += ["--decoder-ffn-embed-dim", "32", "--decoder-attention-heads", "2"]


def language_model(data, path=None):
    """An untrained ``transformer_lm`` over ``data/dict.txt``, saved as fairseq saves one."""
    parser = options.get_training_parser("language_modeling")
    settings = [str(data), "--task", "language_modeling", *ARCHITECTURE]
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, settings))
    torch.manual_seed(5)
    model = setup_task(cfg.task).build_model(cfg.model).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5) if parameter.dim() > 1 else None
    if path is not None:
        state = {"cfg": cfg, "args": None, "model": model.state_dict(), "extra_state": {}}
        history = {"num_updates": 0, "optimizer_name": "FairseqAdam", "lr_scheduler_state": {}}
        torch.save({**state, "optimizer_history": [history]}, path)
    return model


@torch.no_grad()
def test_the_language_model_adds_its_weighted_log_probability(tmp_path):
    (tmp_path / "dict.txt").write_text("a 1\nb 1\nc 1\n")
    lm, model = language_model(tmp_path), speech_model()
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
def test_ctc_with_a_language_model_finds_the_best_text(seed, tmp_path):
    """Without a decoder: the best of all texts by their alignments and the language model."""
    (tmp_path / "dict.txt").write_text("a 1\nb 1\nc 1\n")
    lm, lprobs, weight = language_model(tmp_path), emissions(1, 4, seed), 0.8

    def total(text: tuple[int, ...], probability: float) -> float:
        tokens = torch.tensor([EOS, *text, EOS])
        fluency = lm(tokens[None, :-1])[0][0].log_softmax(-1).gather(1, tokens[1:, None]).sum()
        return math.log(probability) + weight * fluency.item()

    heard = {text: p for text, p in texts(lprobs[0]).items() if text and p > 0}
    totals = {text: total(text, p) for text, p in heard.items()}
    assert max(totals, key=totals.get) != max(heard, key=heard.get)
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


def test_another_vocabulary_or_search_is_refused(tmp_path):
    (tmp_path / "dict.txt").write_text("a 1\nb 1\n")
    lm = language_model(tmp_path)
    check_language_model(None, words("a"), "ctc")
    for decoding in ("attention", "joint", "ctc_beam"):
        check_language_model(lm, words("a", "b"), decoding)
    with pytest.raises(InputError, match="--srcdict"):
        check_language_model(lm, words("a", "c"), "attention")
    with pytest.raises(InputError, match="--decoding ctc_beam"):
        check_language_model(lm, words("a", "b"), "ctc")


def test_without_a_decoder_every_refusal_leads_to_a_search(tmp_path):
    """Following what is said, with a language model or without, ends in a search."""
    (tmp_path / "dict.txt").write_text("a 1\nb 1\nc 1\n")
    task, model = speech_task(), speech_model(decoder_layers=0)
    task.cfg.results_path, args = None, Namespace(beam=2)
    for fusion in ({"lm_model": language_model(tmp_path)}, {}):
        for decoding in DECODINGS:
            task.cfg.decoding = decoding
            if decoding == "ctc_beam" or (decoding == "ctc" and not fusion):
                assert task.build_generator([model], args, extra_gen_cls_kwargs=fusion)
                continue
            with pytest.raises(SystemExit, match="ctc_beam"):
                task.build_generator([model], args, extra_gen_cls_kwargs=fusion)


def test_text_becomes_pieces(corpora, tmp_path, capsys):
    data = corpora / "asr"
    assert list(pieces(data, ["red cat", " ", "one"])) == ["▁ r e d ▁ c a t", "▁ o n e"]
    main([str(data)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    vocabulary = {line.split()[0] for line in (data / "dict.txt").read_text().splitlines()}
    assert {piece for line in lines for piece in line.split()} <= vocabulary
    with pytest.raises(SystemExit, match=r"manifests\.vocabulary"):
        main([str(tmp_path), "--text", str(data / "train.tsv")])
    with pytest.raises(SystemExit, match="no text file"):
        main([str(data), "--text", str(tmp_path / "none.txt")])


def test_joint_decoding_with_a_language_model_and_n_best(stages, corpora, tmp_path):
    """The command line: joint scores, fusion, three hypotheses a row, CER."""
    data, lm = corpora / "asr", tmp_path / "lm.pt"
    language_model(data, lm)
    checkpoint = stages / "finetuning" / "checkpoint_last.pt"
    search = ["--decoding", "joint", "--ctc-decoding-weight", "0.4", "--beam", "3", "--nbest", "3"]
    fusion = ["--lm-path", lm, "--lm-weight", "0.2", "--max-len-b", "10", "--scoring", "cer"]
    output = succeeded(generate(checkpoint, data, "test", *search, *fusion))
    assert len(re.findall(r"^D-\d+\t", output, re.MULTILINE)) == 24
    assert re.search(r"CER: \d+\.\d\d", output)
    sentence = refused(generate(checkpoint, data, "test", "--decoding", "ctc", *fusion))
    assert "takes no language model" in sentence
    output = succeeded(generate(checkpoint, data, "test", "--decoding", "ctc_beam", *fusion))
    assert len(re.findall(r"^D-\d+\t", output, re.MULTILINE)) == 8
