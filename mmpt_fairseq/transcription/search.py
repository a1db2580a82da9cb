"""Decoding of features into words with times, by the searches of ``fairseq-generate``."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from fairseq.dataclass.configs import GenerationConfig
from fairseq.models import BaseFairseqModel
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from manifests.errors import InputError, input_error_on_exit
from mmpt_fairseq.data.audio import FRAMES_PER_SECOND, SUBSAMPLING, Features
from mmpt_fairseq.data.speech_to_text_dataset import ManifestSpeechToTextDataset
from mmpt_fairseq.decoding.choice import CTC_GENERATORS, DECODINGS
from mmpt_fairseq.decoding.ctc_alignment import token_spans
from mmpt_fairseq.decoding.language_model import load_language_model
from mmpt_fairseq.decoding.text import UNKNOWN, Detokeniser
from mmpt_fairseq.models.speech_to_text import ctc_log_probabilities
from mmpt_fairseq.tasks.speech_to_text import ManifestSpeechToTextTask
from mmpt_fairseq.transcription.transcript import Word

CTC_SEARCHES = tuple(CTC_GENERATORS.values())
ENCODER_FRAME = SUBSAMPLING / FRAMES_PER_SECOND  # seconds
# A hypothesis is limited to one token per encoder frame, as with CTC. The limit grows in steps, so
# that pieces of similar length can be decoded in one batch.
LENGTH_STEP = 500  # filterbank frames
FRAMES = ("frames", "last_frames")  # keys of a hypothesis: first and last frame of each token
OPEN_WORDS = 2  # last words of a text that the next token may still change
LM_WEIGHT = 0.5  # default weight of a language model


def max_text_length(frames: int) -> int:
    """Maximum number of tokens in a hypothesis for ``frames`` (> 0) filterbank frames."""
    return math.ceil(frames / LENGTH_STEP) * LENGTH_STEP // SUBSAMPLING


@dataclass
class SearchOptions:
    """Decoding options.

    Attributes:
        decoding: decoding method of the task, by default ``ctc`` if the model has a CTC head that
            is trained on the decoder's targets and writes one language. A head trained on the
            source of a translation (``task.ctc_text=source``) gives the transcript if selected.
        beam: beam size; greedy CTC ignores it.
        language: output language of a multilingual model; its tag starts the hypothesis.
        lm_path: checkpoint of a fairseq language model with the model's vocabulary; changes the
            default ``ctc`` to ``ctc_beam``.
        lm_weight: weight of its log probability, LM_WEIGHT by default.
        ctc_weight: weight of CTC in ``joint`` decoding, by default that of the training config
            (``task.ctc_decoding_weight``).
    """

    decoding: str | None = None
    beam: int = 5
    language: str | None = None
    lm_path: str | None = None
    lm_weight: float | None = None
    ctc_weight: float | None = None


class Search:
    """Decodes batches with a generator built by the task.

    Raises:
        InputError: the model does not support the options.
    """

    def __init__(
        self, model: BaseFairseqModel, task: ManifestSpeechToTextTask, options: SearchOptions
    ) -> None:
        self.model, self.dictionary = model, task.target_dictionary
        has_ctc = model.encoder.ctc_projection is not None and task.ctc_learnt is not False
        # A head trained on the source cannot align the words of a translation.
        self.aligns = has_ctc and task.ctc_text == "target"
        tags = self._language_tags()
        by_ctc = "ctc" if options.lm_path is None else "ctc_beam"
        by_default = by_ctc if self.aligns and len(tags) <= 1 else "attention"
        decoding = options.decoding or (by_default if model.has_decoder else by_ctc)
        if decoding not in DECODINGS:
            raise InputError(f"unknown decoding {decoding}; choose one of {DECODINGS}")
        if decoding != "attention" and not has_ctc:
            raise InputError(
                "this model has no CTC head, or one that was not trained (criterion.ctc_weight=0); "
                "use attention decoding"
            )
        if options.beam < 1:
            raise InputError(f"beam={options.beam} must be at least 1")
        self.by_ctc = decoding in CTC_GENERATORS
        self.prefix = _language_tag(tags, options.language, decoding)
        if options.ctc_weight is not None and decoding != "joint":
            raise InputError(
                f"the CTC weight {options.ctc_weight:g} applies to joint decoding; leave it out "
                f"with {decoding}"
            )
        self.longest = task.cfg.max_target_positions - 1
        self.language_model, self.lm_weight = self._language_model(options)
        generation = GenerationConfig(beam=options.beam, max_len_b=self.longest)
        with input_error_on_exit():
            self.generator = _configured(task, decoding, options.ctc_weight).build_generator(
                [model],
                OmegaConf.structured(generation),
                extra_gen_cls_kwargs={
                    "lm_model": self.language_model,
                    "lm_weight": self.lm_weight,
                },
            )
        self.encoder_outputs = _keep_encoder_outputs(self.generator)
        self.text = Detokeniser(task, self.generator)

    def _language_model(self, options: SearchOptions) -> tuple[nn.Module | None, float]:
        """The language model for shallow fusion, if any, and its weight."""
        if options.lm_path is None:
            return None, options.lm_weight or 0.0
        language_model = load_language_model(options.lm_path, self.dictionary)
        language_model.to(next(self.model.parameters()).device)
        return language_model, LM_WEIGHT if options.lm_weight is None else options.lm_weight

    def __call__(self, batch: list[Features]) -> list[list[Word]]:
        """The words of each piece ``(T, F)``, with times relative to its start."""
        return [self.words(hypothesis) for hypothesis in self.hypotheses(batch)]

    @torch.inference_mode()
    def hypotheses(self, batch: list[Features]) -> list[dict[str, Tensor]]:
        """The generator's best hypothesis for each piece ``(T, F)``.

        Its maximum length depends on the piece alone, not on others in the batch.
        """
        if isinstance(self.generator, CTC_SEARCHES):
            return self._best(batch)
        by_limit: dict[int, list[int]] = {}
        for row, features in enumerate(batch):
            by_limit.setdefault(max_text_length(len(features)), []).append(row)
        best: dict[int, dict[str, Tensor]] = {}
        for limit, rows in by_limit.items():
            self.generator.max_len_b = min(limit, self.longest)
            best.update(zip(rows, self._best([batch[row] for row in rows]), strict=True))
        return [best[row] for row in range(len(batch))]

    def _best(self, batch: list[Features]) -> list[dict[str, Tensor]]:
        """Best hypotheses of pieces with the same length limit."""
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
            self._subtract_language_model(best)
        if (self.aligns or self.by_ctc) and "frames" not in best[0]:
            self._align(best, score=self.by_ctc)
        self.encoder_outputs.clear()
        return best

    def _subtract_language_model(self, hypotheses: list[dict[str, Tensor]]) -> None:
        """Subtract the language model's scores that fairseq adds, leaving the recogniser's own."""
        for hypothesis in hypotheses:
            tokens = hypothesis["tokens"]
            before = torch.cat([tokens.new_tensor([self.dictionary.eos()]), tokens[:-1]])
            model = self.language_model
            lprobs = model.get_normalized_probs(model(before[None]), log_probs=True)[0]
            scores = lprobs.gather(1, tokens[:, None])[:, 0]
            hypothesis["positional_scores"] = (
                hypothesis["positional_scores"] - self.lm_weight * scores.float()
            )

    def _align(self, hypotheses: list[dict[str, Tensor]], score: bool) -> None:
        """Add token frames by CTC forced alignment to hypotheses of searches that give none.

        Args:
            score: also set token scores to the CTC log probabilities in these frames, for a search
                that only scores the whole text.
        """
        found, lengths = ctc_log_probabilities(self.encoder_outputs[0])
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
                    scores = torch.from_numpy(lprobs[row, frames, [tokens[i] for i in kept]])
                    hypothesis["positional_scores"][kept] = scores.to(hypothesis["score"])

    def _language_tags(self) -> dict[str, int]:
        """Output languages and their tag tokens; empty if the model was trained without tags."""
        return {
            symbol.removeprefix("<lang:").removesuffix(">"): index
            for symbol, index in self.dictionary.indices.items()
            if ManifestSpeechToTextDataset.is_lang_tag(symbol)
        }

    def words(self, hypothesis: dict[str, Tensor]) -> list[Word]:
        """Words with times; a token belongs to the word that contains its characters."""
        tokens = hypothesis["tokens"].tolist()
        scores = hypothesis["positional_scores"].tolist()
        aligned = "frames" in hypothesis
        first, last = (hypothesis[name].tolist() if aligned else [] for name in FRAMES)
        kept = [i for i, token in enumerate(tokens) if token not in self.text.ignored]

        def detokenise(begin: int, end: int) -> list[str]:
            return self.text([tokens[i] for i in kept[begin:end]], unknown=UNKNOWN).split()

        words = [
            (text, [kept[i] for i in indices])
            for text, indices in group_tokens(len(kept), detokenise)
        ]
        return [
            Word(
                text=text,
                start=first[indices[0]] * ENCODER_FRAME if aligned else None,
                end=(last[indices[-1]] + 1) * ENCODER_FRAME if aligned else None,
                confidence=math.exp(sum(scores[i] for i in indices) / len(indices)),
            )
            for text, indices in words
        ]


def group_tokens(
    count: int, detokenise: Callable[[int, int], list[str]]
) -> list[tuple[str, list[int]]]:
    """Group tokens into words.

    Args:
        count: number of tokens.
        detokenise: returns the words of the tokens from one index up to another.

    Returns:
        Words, each with the indices of its tokens.
    """
    closed: list[tuple[str, list[int]]] = []
    begin, texts, words = 0, [], []  # of the words that may still change
    for end in range(1, count + 1):
        longer = detokenise(begin, end)
        if longer == texts:
            continue  # a space belongs to no word
        texts = longer
        if len(texts) < len(words):  # byte tokens that combine to white space
            words[len(texts) :] = []
            continue
        new: list[list[int]] = [[] for _ in range(len(texts) - len(words))]
        words += new
        for word in new or words[-1:]:
            word.append(end - 1)
        # Detokenising all of a long text again for each token would take longer than recognition.
        if (
            len(texts) > OPEN_WORDS
            and detokenise(words[-OPEN_WORDS][0], end) == texts[-OPEN_WORDS:]
        ):
            closed += zip(texts[:-OPEN_WORDS], words[:-OPEN_WORDS], strict=True)
            begin, texts, words = words[-OPEN_WORDS][0], texts[-OPEN_WORDS:], words[-OPEN_WORDS:]
    return [*closed, *zip(texts, words, strict=True)]


def _keep_encoder_outputs(generator: nn.Module) -> list[dict[str, list[Tensor]]]:
    """Patch a generator so that the returned list always has its latest encoder outputs.

    They can be used for alignment without encoding twice.
    """
    encoding = generator if isinstance(generator, CTC_SEARCHES) else generator.model
    forward, kept = encoding.forward_encoder, []

    def keep(net_input: dict[str, Tensor]) -> list[dict[str, list[Tensor]]]:
        kept[:] = forward(net_input)
        return list(kept)

    encoding.forward_encoder = keep
    return kept


def _configured(
    task: ManifestSpeechToTextTask, decoding: str, ctc_weight: float | None
) -> ManifestSpeechToTextTask:
    """A copy of the task with other decoding options; other threads may be using the original."""
    task = copy.copy(task)
    task.cfg = copy.copy(task.cfg)
    task.cfg.decoding = decoding
    task.cfg.results_path = None  # then no record of the decode is written
    if ctc_weight is not None:
        task.cfg.ctc_decoding_weight = ctc_weight
    return task


def _language_tag(tags: dict[str, int], language: str | None, decoding: str) -> int | None:
    """The language tag that starts a hypothesis, if the model was trained with tags.

    Raises:
        InputError: the language is not one of the model's, or is required but not given.
    """
    names = ", ".join(sorted(tags))
    if decoding in CTC_GENERATORS and len(tags) > 1:
        if language is not None:
            raise InputError(
                "the output language of a CTC head cannot be chosen; leave out the language "
                f"{language} or the decoding {decoding}"
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
