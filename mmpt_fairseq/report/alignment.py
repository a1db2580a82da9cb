"""CTC posteriors and decoder attention over a decoded clip."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fairseq.data import Dictionary
from numpy.typing import NDArray
from torch import Tensor

from mmpt_fairseq.data.audio import Features, read_filterbank
from mmpt_fairseq.data.rows import manifest_datasets
from mmpt_fairseq.decoding.ctc import CTCGreedyGenerator
from mmpt_fairseq.models.speech_to_text import SpeechToTextModel, ctc_log_probabilities
from mmpt_fairseq.report.probes import Probe, usable_item

MAX_LABELS = 32  # rows in the posterior plot


@dataclass
class Alignment:
    """Alignment of one clip; ``frames`` are encoder frames of 40 ms.

    Attributes:
        filterbank: ``(T, F)`` log mel energies.
        labels: names of the columns of ``posteriors``, blank last; empty without a CTC head.
        posteriors: ``(frames, labels)``; None without a CTC head.
        emitted: frame and label of each label that greedy CTC emits.
        tokens: target tokens of the decoder (teacher forcing), EOS last.
        attention: ``(tokens, frames)``, mean over the last layer's heads; None without a decoder.
    """

    filterbank: NDArray[np.float32]
    labels: list[str]
    posteriors: NDArray[np.float32] | None
    emitted: list[tuple[int, str]]
    tokens: list[str]
    attention: NDArray[np.float32] | None


def read_tokens(output: Path) -> dict[int, list[str]]:
    """Best hypothesis of each row in ``fairseq-generate``'s output, as tokens."""
    tokens: dict[int, list[str]] = {}
    for line in output.read_text(encoding="utf-8").split("\n"):
        match = re.match(r"H-(\d+)\t[^\t]*\t(.*)$", line)
        if match:
            tokens.setdefault(int(match[1]), match[2].split())
    return tokens


def align_clip(probe: Probe, row: int, hypothesis: Sequence[str]) -> Alignment:
    """Align a row of the probe's split with its hypothesis.

    Args:
        probe: with a model of stage 2 or 3.
        row: index into the probe's split.
        hypothesis: tokens as fairseq prints them.

    Raises:
        UnreadableClip: the clip cannot be used.
    """
    dataset = next(manifest_datasets(probe.dataset))
    dictionary = probe.task.target_dictionary
    column = "recording" if probe.task.states else "audio"
    source = dataset.manifest.resolve(column, row, dataset.cfg.audio_root or None)
    batch = dataset.collater([usable_item(dataset[row])])
    net_input = batch["net_input"]
    tokens = [dictionary.index(token) for token in hypothesis]
    tag = int(batch["target"][0, 0]) if dataset.cfg.prepend_tgt_lang_tag else None
    filterbank = read_filterbank(source)
    return align(probe.model, dictionary, filterbank, net_input, tokens, tag)


@torch.no_grad()
def align(
    model: SpeechToTextModel,
    dictionary: Dictionary,
    filterbank: Features,
    net_input: Mapping[str, Tensor],
    tokens: Sequence[int],
    tag: int | None = None,
) -> Alignment:
    """Run the encoder on a clip, and the decoder over its hypothesis with teacher forcing.

    Args:
        model: of stage 2 or 3, in evaluation mode.
        dictionary: the target dictionary.
        filterbank: ``(T, F)`` log mel energies, for display.
        net_input: encoder input: the same, normalised, as ``src_tokens`` ``(1, T, F)``, and
            ``src_lengths`` ``(1,)``.
        tokens: the hypothesis, without EOS.
        tag: language tag, prepended unless ``tokens`` start with it.
    """
    tokens = [*tokens, dictionary.eos()]
    if tag is not None and tokens[0] != tag:
        tokens = [tag, *tokens]
    encoded = model.encoder(net_input["src_tokens"], net_input["src_lengths"])
    attention = None
    if model.has_decoder:
        previous = torch.tensor([[dictionary.eos(), *tokens[:-1]]])
        _, extra = model.decoder(previous, encoder_out=encoded)
        attention = extra["attn"][0][0].float().numpy()
    labels, posteriors, emitted = _ctc(model, dictionary, encoded)
    return Alignment(
        filterbank,
        labels,
        posteriors,
        emitted,
        [_printable(dictionary[token]) for token in tokens],
        attention,
    )


def _ctc(
    model: SpeechToTextModel, dictionary: Dictionary, encoded: dict
) -> tuple[list[str], NDArray | None, list]:
    """Names and posteriors of the labels that greedy CTC emits, and the frames of emission."""
    if not encoded["ctc_logits"]:
        return [], None, []
    found, lengths = ctc_log_probabilities(encoded)
    generator = CTCGreedyGenerator([model], dictionary)
    [[hypothesis]] = generator.search(found, lengths)
    lprobs = found[0]  # (T, V)
    emitted_tokens = hypothesis["tokens"][:-1].tolist()  # without EOS
    frames = hypothesis["frames"].tolist()
    shown = list(dict.fromkeys(emitted_tokens))[:MAX_LABELS]
    posteriors = lprobs.exp()[:, [*shown, generator.blank]].numpy()
    names = [_printable(dictionary[token]) for token in shown]
    emitted = [(f, _printable(dictionary[t])) for f, t in zip(frames, emitted_tokens, strict=True)]
    return [*names, "blank"], posteriors, emitted


def _printable(symbol: str) -> str:
    """Replace SentencePiece's and fairseq's word-boundary symbols by one that fonts have."""
    shown = symbol.replace("▁", "_").replace("|", "_")
    return {"</s>": "end"}.get(symbol, shown)
