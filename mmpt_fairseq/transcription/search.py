"""Features to words: the searches of ``fairseq-generate``, with a time for each word."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from fairseq.dataclass.configs import GenerationConfig
from fairseq.models import BaseFairseqModel
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from manifests.errors import InputError, input_error_on_exit
from mmpt_fairseq.data.audio import FRAMES_A_SECOND, SUBSAMPLING, Features
from mmpt_fairseq.data.speech_to_text_dataset import ManifestSpeechToTextDataset
from mmpt_fairseq.decoding.choice import CTC_GENERATORS, DECODINGS
from mmpt_fairseq.decoding.ctc_alignment import token_spans
from mmpt_fairseq.decoding.language_model import load_language_model
from mmpt_fairseq.decoding.text import UNKNOWN, Detokeniser
from mmpt_fairseq.models.speech_to_text import ctc_log_probabilities
from mmpt_fairseq.tasks.speech_to_text import ManifestSpeechToTextTask
from mmpt_fairseq.transcription.transcript import Word

CTC_SEARCHES = tuple(CTC_GENERATORS.values())
ENCODER_FRAME = SUBSAMPLING / FRAMES_A_SECOND  # seconds
# A search that finds no end must have one: a token for each of the encoder's frames, as CTC has it.
# It grows in steps, so that pieces of about the same length are searched together.
LENGTH_STEP = 500  # filterbank frames
FRAMES = ("frames", "last_frames")  # of each token, where a search tells them
OPEN = 2  # last words of a text that the next token may still change
LM_WEIGHT = 0.5  # of a language model, where nothing else is said


def longest_text(frames: int) -> int:
    """Tokens that a search may write for so many filterbank frames (at least one)."""
    return math.ceil(frames / LENGTH_STEP) * LENGTH_STEP // SUBSAMPLING


@dataclass
class SearchOptions:
    """How to search.

    Attributes:
        decoding: one of the task's, by default ``ctc`` where the model has a CTC head that writes
            what its decoder does, in one language. A head that aligns the source of a translation
            (``task.ctc_text=source``) writes the transcript when asked to.
        beam: hypotheses kept by a beam search; greedy CTC keeps one.
        language: of the text, for a model of several; its tag starts the hypothesis.
        lm_path: checkpoint of a language model of fairseq's on the model's vocabulary, with which
            ``ctc_beam`` stands for ``ctc``.
        lm_weight: of its log probability beside the model's, LM_WEIGHT by default.
        ctc_weight: of CTC beside the decoder in ``joint``, by default what the training's config
            says (``task.ctc_decoding_weight``).
    """

    decoding: str | None = None
    beam: int = 5
    language: str | None = None
    lm_path: str | None = None
    lm_weight: float | None = None
    ctc_weight: float | None = None


class Search:
    """Decodes batches with a generator that the task builds.

    Raises:
        InputError: options that the model cannot follow.
    """

    def __init__(
        self, model: BaseFairseqModel, task: ManifestSpeechToTextTask, options: SearchOptions
    ) -> None:
        self.model, self.dictionary = model, task.target_dictionary
        has_ctc = model.encoder.ctc_projection is not None and task.ctc_learnt is not False
        # Else the head knows nothing of when the words of a translation are said.
        self.aligns = has_ctc and task.ctc_text == "target"
        tags = self._language_tags()
        by_ctc = "ctc_beam" if options.lm_path else "ctc"
        by_default = by_ctc if self.aligns and len(tags) <= 1 else "attention"
        decoding = options.decoding or (by_default if model.has_decoder else by_ctc)
        if decoding not in DECODINGS:
            raise InputError(f"there is no decoding {decoding}; choose one of {DECODINGS}")
        if decoding != "attention" and not has_ctc:
            raise InputError(
                "this model has no CTC head, or one that never learnt (criterion.ctc_weight=0); "
                "decode with attention"
            )
        if options.beam < 1:
            raise InputError(f"beam={options.beam} must be at least 1")
        self.by_ctc = decoding in CTC_GENERATORS
        self.prefix = _prefix(tags, options.language, decoding)
        if options.ctc_weight is not None and decoding != "joint":
            raise InputError(
                f"the CTC weight {options.ctc_weight:g} is for the decoding joint; leave it out "
                f"with {decoding}"
            )
        task.cfg.decoding = decoding
        task.cfg.results_path = None  # as fairseq-generate has it; nothing is recorded here
        self.longest = task.cfg.max_target_positions - 1
        self.language_model, self.lm_weight = self._language_model(options)
        generation = GenerationConfig(beam=options.beam, max_len_b=self.longest)
        with input_error_on_exit(), _joining(task, options.ctc_weight):
            self.generator = task.build_generator(
                [model],
                OmegaConf.structured(generation),
                extra_gen_cls_kwargs={
                    "lm_model": self.language_model,
                    "lm_weight": self.lm_weight,
                },
            )
        self.encoded = _encoded_by(self.generator)
        self.text = Detokeniser(task, self.generator)

    def _language_model(self, options: SearchOptions) -> tuple[nn.Module | None, float]:
        """What is to be added to the model's word, and its weight."""
        if not options.lm_path:
            return None, options.lm_weight or 0.0
        language_model = load_language_model(options.lm_path, self.dictionary)
        language_model.to(next(self.model.parameters()).device)
        return language_model, LM_WEIGHT if options.lm_weight is None else options.lm_weight

    def __call__(self, batch: list[Features]) -> list[list[Word]]:
        """The words of each of the pieces ``(T, F)``, their times from the piece's start."""
        return [self.words(hypothesis) for hypothesis in self.hypotheses(batch)]

    @torch.inference_mode()
    def hypotheses(self, batch: list[Features]) -> list[dict[str, Tensor]]:
        """The generator's best for each of the pieces ``(T, F)``.

        How long it may be depends on its own piece, not on what shares the batch.
        """
        if isinstance(self.generator, CTC_SEARCHES):
            return self._found(batch)
        together: dict[int, list[int]] = {}
        for row, features in enumerate(batch):
            together.setdefault(longest_text(len(features)), []).append(row)
        best: dict[int, dict[str, Tensor]] = {}
        for longest, rows in together.items():
            self.generator.max_len_b = min(longest, self.longest)
            best.update(zip(rows, self._found([batch[row] for row in rows]), strict=True))
        return [best[row] for row in range(len(batch))]

    def _found(self, batch: list[Features]) -> list[dict[str, Tensor]]:
        """Of pieces that are searched together."""
        device = next(self.model.parameters()).device
        lengths = torch.tensor([len(features) for features in batch], device=device)
        source = pad_sequence([torch.from_numpy(features) for features in batch], batch_first=True)
        sample = {"net_input": {"src_tokens": source.to(device), "src_lengths": lengths}}
        prefix = None
        if self.prefix is not None:
            prefix = lengths.new_full((len(batch), 1), self.prefix)
        found = self.generator.generate([self.model], sample, prefix_tokens=prefix)
        best = [hypotheses[0] for hypotheses in found]
        if self.language_model is not None and not self.by_ctc:
            self._take_language_model_out(best)
        if (self.aligns or self.by_ctc) and "frames" not in best[0]:
            self._align(best, score=self.by_ctc)
        self.encoded.clear()
        return best

    def _take_language_model_out(self, hypotheses: list[dict[str, Tensor]]) -> None:
        """How sure the recogniser itself is of each token: fairseq adds the other's scores."""
        for hypothesis in hypotheses:
            tokens = hypothesis["tokens"]
            before = torch.cat([tokens.new_tensor([self.dictionary.eos()]), tokens[:-1]])
            model = self.language_model
            lprobs = model.get_normalized_probs(model(before[None]), log_probs=True)[0]
            told = lprobs.gather(1, tokens[:, None])[:, 0]
            hypothesis["positional_scores"] = (
                hypothesis["positional_scores"] - self.lm_weight * told.float()
            )

    def _align(self, hypotheses: list[dict[str, Tensor]], score: bool) -> None:
        """Give hypotheses of other searches the frames that the CTC head sees their tokens in.

        Args:
            score: what these frames say of the tokens is the tokens' score too, for a search that
                has but one for all of them.
        """
        found, lengths = ctc_log_probabilities(self.encoded[0])
        lprobs, lengths = found.cpu().numpy(), lengths.tolist()
        for row, hypothesis in enumerate(hypotheses):
            tokens = hypothesis["tokens"].tolist()
            kept = [i for i, token in enumerate(tokens) if token not in self.text.ignored]
            spans = token_spans(
                lprobs[row, : lengths[row]], [tokens[i] for i in kept], self.dictionary.bos()
            )
            if spans is not None:
                frames = [first for first, _ in spans]
                for name, values in zip(FRAMES, (frames, [x for _, x in spans]), strict=True):
                    hypothesis[name] = torch.zeros(len(tokens), dtype=torch.long)
                    hypothesis[name][kept] = torch.tensor(values, dtype=torch.long)
                if score:
                    told = torch.from_numpy(lprobs[row, frames, [tokens[i] for i in kept]])
                    hypothesis["positional_scores"][kept] = told.to(hypothesis["score"])

    def _language_tags(self) -> dict[str, int]:
        """Languages that the model writes, if it was trained with tags, and their tokens."""
        return {
            symbol.removeprefix("<lang:").removesuffix(">"): index
            for symbol, index in self.dictionary.indices.items()
            if ManifestSpeechToTextDataset.is_lang_tag(symbol)
        }

    def words(self, hypothesis: dict[str, Tensor]) -> list[Word]:
        """Words with times; a token is part of the word that its letters end up in."""
        tokens = hypothesis["tokens"].tolist()
        scores = hypothesis["positional_scores"].tolist()
        told = "frames" in hypothesis
        first, last = (hypothesis[name].tolist() if told else [] for name in FRAMES)
        kept = [i for i, token in enumerate(tokens) if token not in self.text.ignored]

        def spell(begin: int, end: int) -> list[str]:
            return self.text([tokens[i] for i in kept[begin:end]], unknown=UNKNOWN).split()

        words = [(text, [kept[i] for i in places]) for text, places in grown(len(kept), spell)]
        return [
            Word(
                text=spelled,
                start=first[places[0]] * ENCODER_FRAME if told else None,
                end=(last[places[-1]] + 1) * ENCODER_FRAME if told else None,
                confidence=math.exp(sum(scores[i] for i in places) / len(places)),
            )
            for spelled, places in words
        ]


def grown(count: int, spell: Callable[[int, int], list[str]]) -> list[tuple[str, list[int]]]:
    """Words, each with the places of the tokens by which it has grown.

    Args:
        count: of the tokens.
        spell: the words that tokens from one place up to another make.
    """
    closed: list[tuple[str, list[int]]] = []
    begin, texts, words = 0, [], []  # of those that are still looked at
    for end in range(1, count + 1):
        longer = spell(begin, end)
        if longer == texts:
            continue  # a space is no part of a word
        texts = longer
        if len(texts) < len(words):  # bytes that together are white space
            words[len(texts) :] = []
            continue
        begun: list[list[int]] = [[] for _ in range(len(texts) - len(words))]
        words += begun
        for word in begun or words[-1:]:
            word.append(end - 1)
        # To spell all of a long text anew for each token would take longer than to recognise it.
        if len(texts) > OPEN and spell(words[-OPEN][0], end) == texts[-OPEN:]:
            closed += zip(texts[:-OPEN], words[:-OPEN], strict=True)
            begin, texts, words = words[-OPEN][0], texts[-OPEN:], words[-OPEN:]
    return [*closed, *zip(texts, words, strict=True)]


def _encoded_by(generator: nn.Module) -> list[dict[str, list[Tensor]]]:
    """What a search encodes from now on, at hand for others: nothing is to be encoded twice."""
    encoding = generator if isinstance(generator, CTC_SEARCHES) else generator.model
    forward, kept = encoding.forward_encoder, []

    def keep(net_input: dict[str, Tensor]) -> list[dict[str, list[Tensor]]]:
        kept[:] = forward(net_input)
        return list(kept)

    encoding.forward_encoder = keep
    return kept


@contextlib.contextmanager
def _joining(task: ManifestSpeechToTextTask, ctc_weight: float | None) -> Iterator[None]:
    """A generator built meanwhile gives CTC another weight than the training's config, if any."""
    configured = task.cfg.ctc_decoding_weight
    if ctc_weight is not None:
        task.cfg.ctc_decoding_weight = ctc_weight
    try:
        yield
    finally:
        task.cfg.ctc_decoding_weight = configured


def _prefix(tags: dict[str, int], language: str | None, decoding: str) -> int | None:
    """The token that a hypothesis starts with, if the model was trained with such.

    Raises:
        InputError: the language is not one of the model's, or is wanted and not given.
    """
    names = ", ".join(sorted(tags))
    if decoding in CTC_GENERATORS and len(tags) > 1:
        if language is not None:
            raise InputError(
                f"a CTC head writes the language that it hears fit, not the one that is asked for; "
                f"leave out the language {language} or the decoding {decoding}"
            )
        return None
    if language is None and len(tags) <= 1:
        return next(iter(tags.values()), None)
    if not tags:
        raise InputError(f"the model writes one language; leave out the language {language}")
    if language is None:
        raise InputError(f"the model writes several languages; choose one of {names}")
    if language not in tags:
        raise InputError(f"the model does not write {language}; choose one of {names}")
    return tags[language]
