"""When a model hears what: CTC's posteriors and the decoder's attention over a decoded clip."""

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
from mmpt_fairseq.report.probes import Probe, usable

MOST_LABELS = 32  # rows of the posteriors' picture


@dataclass
class Alignment:
    """One clip; encoder frames last 40 ms.

    Attributes:
        sound: ``(T, F)`` log mel energies.
        labels: names of the rows of ``posteriors``, the blank last; empty without a CTC head.
        posteriors: ``(frames, labels)``.
        emitted: frame and label of what greedy CTC writes.
        tokens: what the decoder was given to write, EOS last.
        attention: ``(tokens, frames)``, mean over the last layer's heads; None without a decoder.
    """

    sound: NDArray[np.float32]
    labels: list[str]
    posteriors: NDArray[np.float32] | None
    emitted: list[tuple[int, str]]
    tokens: list[str]
    attention: NDArray[np.float32] | None


def read_tokens(output: Path) -> dict[int, list[str]]:
    """The best hypothesis of each row of ``fairseq-generate``'s output, in tokens."""
    tokens: dict[int, list[str]] = {}
    for line in output.read_text(encoding="utf-8").split("\n"):
        match = re.match(r"H-(\d+)\t[^\t]*\t(.*)$", line)
        if match:
            tokens.setdefault(int(match[1]), match[2].split())
    return tokens


def align_clip(probe: Probe, row: int, hypothesis: Sequence[str]) -> Alignment:
    """Run a clip through the encoder, and the decoder over its hypothesis.

    Args:
        probe: a model of stages 2 and 3.
        row: of the probe's split.
        hypothesis: tokens as fairseq prints them.

    Raises:
        UnreadableClip: the clip cannot be used.
    """
    dataset = next(manifest_datasets(probe.dataset))
    dictionary = probe.task.target_dictionary
    column = "recording" if probe.task.states else "audio"
    source = dataset.manifest.resolve(column, row, dataset.cfg.audio_root or None)
    batch = dataset.collater([usable(dataset[row])])
    net_input = batch["net_input"]
    tokens = [dictionary.index(token) for token in hypothesis]
    tag = int(batch["target"][0, 0]) if dataset.cfg.prepend_tgt_lang_tag else None
    sound = read_filterbank(source)
    return align(probe.model, dictionary, sound, net_input, tokens, tag)


@torch.no_grad()
def align(
    model: SpeechToTextModel,
    dictionary: Dictionary,
    sound: Features,
    net_input: Mapping[str, Tensor],
    tokens: Sequence[int],
    tag: int | None = None,
) -> Alignment:
    """Run sound through the encoder, and the decoder over its hypothesis.

    Args:
        model: of stages 2 and 3, in evaluation mode.
        dictionary: of what it writes.
        sound: ``(T, F)`` log mel energies, to be shown.
        net_input: the same as the encoder takes it: ``src_tokens`` ``(1, T, F)``, normalised, and
            ``src_lengths`` ``(1,)``.
        tokens: the hypothesis, without EOS.
        tag: the language tag that it starts with, whether ``tokens`` do or not.
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
        sound,
        labels,
        posteriors,
        emitted,
        [_readable(dictionary[token]) for token in tokens],
        attention,
    )


def _ctc(
    model: SpeechToTextModel, dictionary: Dictionary, encoded: dict
) -> tuple[list[str], NDArray | None, list]:
    """Names and posteriors of the labels that greedy CTC writes, and when it does."""
    if not encoded["ctc_logits"]:
        return [], None, []
    found, lengths = ctc_log_probabilities(encoded)
    generator = CTCGreedyGenerator([model], dictionary)
    [[hypothesis]] = generator.search(found, lengths)
    lprobs = found[0]  # (T, V)
    written = hypothesis["tokens"][:-1].tolist()  # without EOS
    frames = hypothesis["frames"].tolist()
    shown = list(dict.fromkeys(written))[:MOST_LABELS]
    posteriors = lprobs.exp()[:, [*shown, generator.blank]].numpy()
    names = [_readable(dictionary[token]) for token in shown]
    emitted = [(f, _readable(dictionary[t])) for f, t in zip(frames, written, strict=True)]
    return [*names, "blank"], posteriors, emitted


def _readable(symbol: str) -> str:
    """SentencePiece's and fairseq's signs for a space as one that fonts have."""
    shown = symbol.replace("▁", "_").replace("|", "_")
    return {"</s>": "end"}.get(symbol, shown)
