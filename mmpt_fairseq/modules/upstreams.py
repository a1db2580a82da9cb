"""Upstreams: frozen models that compute the hidden states for SUPERB's heads.

All return states ``(B, N, T, D)`` of N layers, with the input to the first layer among them, as in
s3prl. States depend only on their own clip, not on the rest of the batch.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from manifests.errors import InputError
from mmpt_fairseq.data.audio import FRAME_SHIFT, NUM_MEL_BINS, SUBSAMPLING
from mmpt_fairseq.modules.conformer import ConformerEncoder


@dataclass
class HiddenStates:
    """``states`` ``(B, N, T, D)``, with undefined values beyond ``lengths`` ``(B,)``."""

    states: Tensor
    lengths: Tensor


class Upstream(nn.Module):
    """A frozen model.

    Attributes:
        reads: kind of input: ``filterbank`` ``(B, T, F)``, ``waveform`` ``(B, samples)`` or
            ``states`` ``(B, T, N, D)``.
        layers, dim: N and D of its states.
        stride: frames of 10 ms per state.
    """

    def __init__(self, reads: str, layers: int, dim: int, stride: int) -> None:
        super().__init__()
        self.reads, self.layers, self.dim, self.stride = reads, layers, dim, stride

    def forward(self, source: Tensor, lengths: Tensor) -> HiddenStates:
        raise NotImplementedError


class FilterbankUpstream(Upstream):
    """SUPERB's FBANK: 80 mel bins with deltas and delta-deltas, normalised per clip.

    Source: s3prl (upstream/baseline/fbank.yaml): deltas of order 2 over windows of 5, then zero
    mean and unit variance of each of the 240 values.
    """

    def __init__(self) -> None:
        super().__init__("filterbank", layers=1, dim=3 * NUM_MEL_BINS, stride=1)

    def forward(self, source: Tensor, lengths: Tensor) -> HiddenStates:
        clips = [append_deltas(x[:n]) for x, n in zip(source, lengths.tolist(), strict=True)]
        return HiddenStates(_pad(clips)[:, None], lengths)


def append_deltas(features: Tensor) -> Tensor:
    """Append deltas and delta-deltas: ``(T, F)`` -> ``(T, 3 F)``, normalised per column."""
    first = deltas(features)
    stacked = torch.cat([features, first, deltas(first)], dim=-1)
    std = stacked.std(dim=0, keepdim=True, correction=0)
    return (stacked - stacked.mean(dim=0, keepdim=True)) / std.clamp(min=1e-5)


def deltas(features: Tensor) -> Tensor:
    """Deltas ``d[t] = sum_n n (x[t + n] - x[t - n]) / (2 sum_n n^2)``, n = 1, 2; edge padding."""
    index = torch.arange(len(features), device=features.device)
    total = torch.zeros_like(features)
    for n in (1, 2):
        later, earlier = (index + n).clamp(max=len(features) - 1), (index - n).clamp(min=0)
        total = total + n * (features[later] - features[earlier])
    return total / 10


class ConformerUpstream(Upstream):
    """The audio encoder of any stage: input to its first layer and output of each layer."""

    def __init__(self, encoder: ConformerEncoder, dim: int) -> None:
        super().__init__("filterbank", len(encoder.layers) + 1, dim, SUBSAMPLING)
        self.encoder = encoder

    def forward(self, source: Tensor, lengths: Tensor) -> HiddenStates:
        encoded = self.encoder(source, lengths, keep_layers=True)
        return HiddenStates(torch.stack(encoded.layers, dim=1), encoded.lengths)


class StoredUpstream(Upstream):
    """Precomputed states of an upstream (examples/superb/cache.py)."""

    def __init__(self, layers: int, dim: int, stride: int) -> None:
        super().__init__("states", layers, dim, stride)

    def forward(self, source: Tensor, lengths: Tensor) -> HiddenStates:
        """``source``: stored states ``(B, T, N, D)``.

        Raises:
            InputError: their number of layers or width is not this upstream's.
        """
        if source.shape[2:] != (self.layers, self.dim):
            raise InputError(
                f"the stored states have {tuple(source.shape[2:])} layers and width, but the model "
                f"needs {(self.layers, self.dim)}; store them with the upstream it was trained on"
            )
        return HiddenStates(source.transpose(1, 2), lengths)


class FairseqUpstream(Upstream):
    """fairseq's wav2vec 2.0 and HuBERT: input to each Transformer layer and the last output.

    Clips are processed one by one: the group norm of the first convolution includes padding, so
    that states would depend on the rest of the batch.
    """

    def __init__(self, model: nn.Module, normalise: bool) -> None:
        convolutions = [block[0] for block in model.feature_extractor.conv_layers]
        samples = math.prod(convolution.stride[0] for convolution in convolutions)
        layers = model.encoder.layers
        super().__init__(
            "waveform", len(layers) + 1, model.encoder.embedding_dim, samples // FRAME_SHIFT
        )
        self.model, self.normalise = model, normalise
        self._inputs: list[Tensor] = []
        for layer in layers:
            layer.register_forward_pre_hook(self._record_input, with_kwargs=True)

    def _record_input(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self._inputs.append(args[0] if args else kwargs["x"])  # (T, 1, D)

    def _clip_states(self, waveform: Tensor) -> Tensor:
        """``(samples,)`` -> ``(T, N, D)``."""
        self._inputs.clear()
        if self.normalise:
            waveform = nn.functional.layer_norm(waveform, waveform.shape)
        output = self.model(waveform[None], mask=False, features_only=True)["x"][0]
        inputs = [x[: len(output), 0] for x in self._inputs]
        self._inputs.clear()
        return torch.stack([*inputs, output], dim=1)

    def forward(self, source: Tensor, lengths: Tensor) -> HiddenStates:
        clips = [self._clip_states(x[:n]) for x, n in zip(source, lengths.tolist(), strict=True)]
        sizes = torch.tensor([len(clip) for clip in clips], device=source.device)
        return HiddenStates(_pad(clips).transpose(1, 2), sizes)


def _pad(clips: list[Tensor]) -> Tensor:
    return nn.utils.rnn.pad_sequence(clips, batch_first=True)
