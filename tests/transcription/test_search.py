"""Words, times and confidences from the frame-wise output of the CTC head."""

import math
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from fairseq.data import encoders
from fairseq.dataclass.configs import GenerationConfig

from manifests.errors import InputError
from mmpt_fairseq.checkpoint import load_checkpoint
from mmpt_fairseq.transcription.search import Search, SearchOptions, group_tokens
from tests.helpers import speech_model, speech_task
from tests.language_models import untrained_language_model

SYMBOLS = ("▁", "a", "b", "c", "▁a", "ab")
BLANK, PROBABILITY = "<s>", 0.9  # probability of each frame's label


class Pieces:
    """Stand-in for SentencePiece: a word starts at a piece that starts with ``▁``."""

    @staticmethod
    def decode(text: str) -> str:
        return text.replace(" ", "").replace("▁", " ").strip()


def scripted(
    labels: list[str], symbols: tuple[str, ...] = SYMBOLS, ctc_text: str = "target", **options
) -> Search:
    """A search whose model's CTC head outputs ``labels[t]`` at frame t for any input."""
    model, task = speech_model(symbols), speech_task(symbols)
    task.ctc_text = ctc_text
    task.cfg.max_target_positions = 8  # an untrained decoder seldom predicts EOS
    task.build_bpe = lambda _: Pieces()
    vocabulary = len(task.target_dictionary)
    rest = math.log((1 - PROBABILITY) / (vocabulary - 1))
    logits = torch.full((1, len(labels), vocabulary), rest)
    for time, label in enumerate(labels):
        logits[0, time, task.target_dictionary.index(label)] = math.log(PROBABILITY)
    model.encoder.ctc_projection.register_forward_hook(
        lambda _, inputs, __: logits.expand(len(inputs[0]), -1, -1)
    )
    return Search(model, task, SearchOptions(**options))


def decoded_words(labels: list[str], **kwargs):
    features = np.zeros((4 * len(labels), 80), np.float32)
    [words] = scripted(labels, **kwargs)([features])
    return words


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        # characters: the space symbol belongs to no word
        ("▁ a a _ b _ ▁ _ c", [("ab", 1, 5), ("c", 8, 9)]),
        # subwords: the space symbol is part of the piece
        ("_ ▁a _ ab c _ ▁a _", [("aabc", 1, 5), ("a", 6, 7)]),
        ("_ _ ▁ _ ▁ _", []),
        ("_ _ _", []),
        ("a _ a _", [("aa", 0, 3)]),
        # a word ends when its last token does
        ("▁a ▁a ▁a ▁a _ ▁ c c c", [("a", 0, 4), ("c", 6, 9)]),
    ],
)
def test_words_and_times(labels, expected):
    labels = [BLANK if label == "_" else label for label in labels.split()]
    words = decoded_words(labels)
    assert [word.text for word in words] == [text for text, _, _ in expected]
    for word, (_, start, end) in zip(words, expected, strict=True):
        assert word.start == pytest.approx(0.04 * start)
        assert word.end == pytest.approx(0.04 * end)
        assert word.confidence == pytest.approx(PROBABILITY, abs=1e-5)


def test_group_tokens_matches_detokenising_every_prefix():
    """Although it detokenises only the last words for each token."""
    rng = np.random.default_rng(0)
    for symbols in (
        ["\u2581", "a", "b"],
        ["\u2581a", "b", "\u2581", "\u2581\u2581"],
        ["a", "b\u2581c", "\u2581"],
    ):
        tokens = rng.choice(symbols, 60).tolist()
        lengths = []

        def detokenise(begin, end, tokens=tokens, lengths=lengths):
            lengths.append(end - begin)
            return Pieces.decode(" ".join(tokens[begin:end])).split()

        found = group_tokens(len(tokens), detokenise)
        assert [text for text, _ in found] == detokenise(0, len(tokens))
        expected, before = [[] for _ in found], []
        for index in range(len(tokens)):
            after = detokenise(0, index + 1)
            extended = range(len(before), len(after)) or range(len(after) - 1, len(after))
            for word in extended if after != before else ():
                expected[word].append(index)
            before = after
        assert [indices for _, indices in found] == expected
        assert max(lengths[: len(tokens)]) < 40


def test_byte_tokens_that_form_white_space_belong_to_no_word():
    """The first two bytes of U+3000 decode to characters, all three to a space."""
    steps = {1: ["a"], 2: ["a", "?"], 3: ["a", "??"], 4: ["a"], 5: ["a", "b"]}
    assert group_tokens(5, lambda begin, end: steps[end]) == [("a", [0]), ("b", [4])]


def test_unknown_tokens_are_shown_and_padding_is_dropped():
    assert [word.text for word in decoded_words(["a", "▁", "<unk>", "<pad>", "b"])] == ["a", "⁇b"]


def test_an_untrained_ctc_head_is_not_the_default():
    task = speech_task(SYMBOLS)
    task.ctc_learnt = False
    search = Search(speech_model(SYMBOLS), task, SearchOptions())
    assert not search.aligns
    assert not search.by_ctc
    with pytest.raises(InputError, match="was not trained"):
        Search(speech_model(SYMBOLS), task, SearchOptions(decoding="ctc"))


def test_word_confidence_is_the_geometric_mean():
    search = scripted(["a", "b", "▁", "c"])
    a, b, c = (search.dictionary.index(symbol) for symbol in "abc")
    hypothesis = {
        "tokens": torch.tensor([a, b, search.dictionary.index("▁"), c, search.dictionary.eos()]),
        "positional_scores": torch.tensor([0.5, 0.25, 0.1, 0.8, 1.0]).log(),
    }
    first, second = search.words(hypothesis)
    assert first.confidence == pytest.approx(math.sqrt(0.5 * 0.25))
    assert second.confidence == pytest.approx(0.8)
    assert first.start is first.end is None  # this hypothesis has no frames


def test_language_selects_the_tag_of_the_hypothesis():
    tagged = ("▁", "a", "<lang:de>", "<lang:it>")
    with pytest.raises(InputError, match="several languages; choose one of de, it"):
        scripted(["a"], symbols=tagged)
    with pytest.raises(InputError, match="does not write nl; choose one of de, it"):
        scripted(["a"], symbols=tagged, language="nl")
    search = scripted(["a"], symbols=tagged, language="it", decoding="attention", beam=2)
    started = []
    generate = search.generator.generate
    search.generator.generate = lambda *a, **k: (
        started.append(k["prefix_tokens"]) or generate(*a, **k)
    )
    search([np.zeros((20, 80), np.float32), np.zeros((9, 80), np.float32)])
    assert started[0].tolist() == [[search.dictionary.index("<lang:it>")]] * 2


def test_language_is_rejected_for_ctc():
    """It could not affect the output, so the decoder is the default."""
    tagged = ("▁", "a", "<lang:de>", "<lang:it>")
    for decoding in ("ctc", "ctc_beam"):
        with pytest.raises(InputError, match="leave out the language it or the decoding ctc"):
            scripted(["a"], symbols=tagged, language="it", decoding=decoding)
        assert decoded_words(["▁", "a"], symbols=tagged, decoding=decoding)[0].text == "a"
    assert hasattr(scripted(["a"], symbols=tagged, language="it").generator, "beam_size")


def test_a_ctc_head_for_the_source_gives_no_times_for_a_translation():
    search = scripted(["a", "b"], ctc_text="source")
    assert hasattr(search.generator, "beam_size")  # the decoder's
    tokens = [search.dictionary.index("a"), search.dictionary.eos()]
    hypothesis = {"tokens": torch.tensor(tokens), "positional_scores": torch.zeros(2)}

    def written(models: list, sample: dict, **_) -> list[list[dict]]:
        search.generator.model.forward_encoder(sample["net_input"])
        return [[dict(hypothesis)]]

    search.generator.generate = written
    [[word]] = search([np.zeros((8, 80), np.float32)])
    assert (word.text, word.start, word.end) == ("a", None, None)
    # If selected, CTC gives the transcript.
    assert decoded_words(["a", "b"], ctc_text="source", decoding="ctc")[0].text == "ab"


def test_attention_hypotheses_are_aligned_by_the_ctc_head():
    """Words have no times if the tokens do not fit into the frames."""
    labels = [BLANK, "a", "a", BLANK, "b", BLANK, "▁", BLANK, "c", BLANK]
    search = scripted(labels, decoding="attention")
    tokens = [search.dictionary.index(symbol) for symbol in ("a", "b", "▁", "c")]
    hypothesis = {
        "tokens": torch.tensor([*tokens, search.dictionary.eos()]),
        "positional_scores": torch.zeros(5),
    }
    _patch_generator(search, hypothesis)
    [[first, second]] = search([np.zeros((40, 80), np.float32)])
    assert (first.text, second.text) == ("ab", "c")
    times = [first.start, first.end, second.start, second.end]
    assert times == pytest.approx([0.04, 0.2, 0.32, 0.36])
    short = scripted(["a", "b"], decoding="attention")
    _patch_generator(short, hypothesis)
    [words] = short([np.zeros((8, 80), np.float32)])
    assert [(word.start, word.end) for word in words] == [(None, None)] * 2


def _patch_generator(search: Search, hypothesis: dict) -> None:
    """Make fairseq's search return ``hypothesis`` for any input."""

    def generate(models: list, sample: dict, **_) -> list[list[dict]]:
        search.generator.model.forward_encoder(sample["net_input"])
        return [[dict(hypothesis)]]

    search.generator.generate = generate


@pytest.mark.parametrize("decoding", ["attention", "joint", "ctc", "ctc_beam", "fusion"])
def test_each_batch_is_encoded_once(decoding, tmp_path):
    """Times and confidences use the encoder outputs of the search."""
    options = {"decoding": decoding}
    if decoding == "fusion":
        (tmp_path / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in SYMBOLS))
        untrained_language_model(tmp_path, tmp_path / "lm.pt")
        options = {"lm_path": str(tmp_path / "lm.pt")}
    search, passes = scripted(["a", BLANK, "b"], **options), []
    encoder = search.model.encoder
    encoder.audio_encoder.register_forward_hook(lambda *_: passes.append(1))
    for batches in (1, 2):
        search([np.zeros((12, 80), np.float32)] * 3)
        assert len(passes) == batches


def test_attention_is_the_default_without_a_ctc_head():
    model, task = speech_model(ctc=False), speech_task()
    assert hasattr(Search(model, task, SearchOptions()).generator, "beam_size")
    with pytest.raises(InputError, match="has no CTC head"):
        Search(model, task, SearchOptions(decoding="ctc"))


def test_language_model_weight_changes_the_words(tmp_path):
    """With weight 0, text, times and confidences match CTC prefix beam search."""
    (tmp_path / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in SYMBOLS))
    untrained_language_model(tmp_path, tmp_path / "lm.pt")
    labels = ["▁", "a", "a", BLANK, "b", BLANK, "▁", BLANK, "c", BLANK]
    fusion = {"lm_path": str(tmp_path / "lm.pt")}
    plain = decoded_words(labels, decoding="ctc_beam")
    assert [word.text for word in plain] == ["ab", "c"]
    with_none = decoded_words(labels, lm_weight=0.0, **fusion)
    assert [(w.text, w.start, w.end) for w in with_none] == [
        (w.text, w.start, w.end) for w in plain
    ]
    for ours, theirs in zip(with_none, plain, strict=True):
        assert ours.confidence == pytest.approx(theirs.confidence, rel=1e-5)
    assert [w.text for w in decoded_words(labels, lm_weight=20.0, **fusion)] != ["ab", "c"]
    assert decoded_words([BLANK] * 6, lm_weight=5.0, **fusion) == []  # no words in silence


def test_language_model_scores_are_excluded_from_confidences(tmp_path):
    """A uniform language model changes neither words nor confidences."""
    (tmp_path / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in SYMBOLS))
    model = untrained_language_model(tmp_path, tmp_path / "lm.pt")
    state = load_checkpoint(tmp_path / "lm.pt")
    state["model"] = {name: torch.zeros_like(w) for name, w in model.state_dict().items()}
    torch.save(state, tmp_path / "lm.pt")
    labels = ["▁", "a", BLANK, "b", BLANK, "▁", "c", BLANK]
    for decoding in ("joint", "attention", "ctc_beam"):
        plain = decoded_words(labels, decoding=decoding, beam=2)
        fused = decoded_words(labels, decoding=decoding, beam=2, lm_path=str(tmp_path / "lm.pt"))
        assert [word.text for word in fused] == [word.text for word in plain]
        for ours, theirs in zip(fused, plain, strict=True):
            assert ours.confidence == pytest.approx(theirs.confidence, rel=1e-4)


def test_options_apply_to_one_search_only():
    search = scripted(["a", "b"], decoding="joint", ctc_weight=0.9)
    assert search.generator.model.weight == 0.9
    model, task = speech_model(SYMBOLS), speech_task(SYMBOLS)
    task.build_bpe = lambda _: Pieces()
    weights = [
        Search(model, task, SearchOptions(decoding="joint", ctc_weight=w)).generator.model.weight
        for w in (0.9, None)
    ]
    assert weights == [0.9, task.cfg.ctc_decoding_weight]
    configured = str(task.cfg.decoding), task.cfg.results_path
    Search(model, task, SearchOptions(decoding="ctc"))
    assert (str(task.cfg.decoding), task.cfg.results_path) == configured


def test_threads_do_not_share_options():
    """Each search has its own weight, and the task's is unchanged afterwards."""
    model, task = speech_model(SYMBOLS), speech_task(SYMBOLS)
    task.build_bpe = lambda _: Pieces()
    configured = str(task.cfg.decoding), task.cfg.ctc_decoding_weight

    def weight(wanted: float) -> float:
        options = SearchOptions(decoding="joint", ctc_weight=wanted)
        return Search(model, task, options).generator.model.weight

    interval, wanted = sys.getswitchinterval(), [i / 100 for i in range(100)]
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(weight, wanted)) == wanted
    finally:
        sys.setswitchinterval(interval)
    assert (str(task.cfg.decoding), task.cfg.ctc_decoding_weight) == configured


def test_options_that_ctc_ignores_are_warned_of(caplog):
    task, model = speech_task(), speech_model()
    task.cfg.decoding, task.cfg.results_path = "ctc_beam", None
    task.build_generator([model], GenerationConfig(max_len_b=1000))
    assert "ignores" not in caplog.text
    task.build_generator([model], GenerationConfig(lenpen=0, sampling=True))
    assert "--decoding ctc_beam ignores --lenpen, --sampling" in caplog.text
    assert "--nbest" not in caplog.text
    task.build_generator([model], GenerationConfig(nbest=5))
    assert "--nbest" not in caplog.text
    task.build_generator([model], GenerationConfig(nbest=6))
    assert "--nbest 6 exceeds --beam 5" in caplog.text
    task.cfg.decoding, task.cfg.ctc_decoding_weight, task.cfg.decodes_with = "ctc", 0.9, None
    task.build_generator([model], GenerationConfig())  # in training it is set for later decodes
    assert "--ctc-decoding-weight" not in caplog.text
    task.cfg.decodes_with = "some.pt"
    task.build_generator([model], GenerationConfig(beam=50))
    assert "--decoding ctc ignores --beam" in caplog.text
    assert "--decoding ctc ignores --ctc-decoding-weight" in caplog.text


@pytest.mark.parametrize(
    ("options", "decoding", "fault"),
    [
        ({"ctc": False}, "ctc_beam", "no CTC head"),
        ({"ctc": False}, "joint", "no CTC head"),
        ({"decoder_layers": 0}, "attention", "no decoder"),
        ({}, "greedy", "choose one of .*'ctc_beam'"),
    ],
)
def test_decodings_the_model_does_not_support_are_rejected(options, decoding, fault):
    with pytest.raises(InputError, match=fault):
        Search(speech_model(**options), speech_task(), SearchOptions(decoding=decoding))


def test_stand_in_decodes_like_sentencepiece(tmp_path):
    """The stand-in above against SentencePiece itself."""
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["ab cab", "a b c", "cab ab"]),
        model_writer=model,
        vocab_size=12,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / "m.model").write_bytes(model.getvalue())
    from argparse import Namespace

    real = encoders.build_bpe(
        Namespace(bpe="sentencepiece", sentencepiece_model=str(tmp_path / "m.model"))
    )
    for text in ["ab cab", "a b", "cab"]:
        symbols = real.encode(text)
        assert real.decode(symbols) == Pieces.decode(symbols) == text
