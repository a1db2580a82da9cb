"""Upstreams: what turns a clip into the hidden states that SUPERB's heads are put on.

All give ``(B, N, T, D)``: the states of N layers, the input to the first among them, as s3prl
collects them. All depend on their own clip alone, whatever it is batched with.
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
    """``states`` ``(B, N, T, D)``, zeros or anything beyond ``lengths`` ``(B,)``."""

    states: Tensor
    lengths: Tensor


class Upstream(nn.Module):
    """A frozen model.

    Attributes:
        reads: ``filterbank`` ``(B, T, F)``, ``waveform`` ``(B, samples)`` or ``states``
            ``(B, T, N, D)``.
        layers, dim: N and D of its states.
        stride: 10 ms frames from one state to the next.
    """

    def __init__(self, reads: str, layers: int, dim: int, stride: int) -> None:
        super().__init__()
        self.reads, self.layers, self.dim, self.stride = reads, layers, dim, stride

    def forward(self, source: Tensor, lengths: Tensor) -> HiddenStates:
        raise NotImplementedError


class FilterbankUpstream(Upstream):
    """SUPERB's FBANK: 80 mel bins with first and second differences, normalised over the clip.

    s3prl (upstream/baseline/fbank.yaml): differences of order 2 over windows of 5, then zero mean
    and unit variance of all 240 values.
    """

    def __init__(self) -> None:
        super().__init__("filterbank", layers=1, dim=3 * NUM_MEL_BINS, stride=1)

    def forward(self, source: Tensor, lengths: Tensor) -> HiddenStates:
        clips = [with_differences(x[:n]) for x, n in zip(source, lengths.tolist(), strict=True)]
        return HiddenStates(_pad(clips)[:, None], lengths)


def with_differences(features: Tensor) -> Tensor:
    """``(T, F)`` -> ``(T, 3 F)``, each column of zero mean and unit variance."""
    first = differences(features)
    stacked = torch.cat([features, first, differences(first)], dim=-1)
    spread = stacked.std(dim=0, keepdim=True, correction=0)
    return (stacked - stacked.mean(dim=0, keepdim=True)) / spread.clamp(min=1e-5)


def differences(features: Tensor) -> Tensor:
    """``d[t] = sum_n n (x[t + n] - x[t - n]) / (2 sum_n n^2)``, n = 1, 2; the ends are repeated."""
    index = torch.arange(len(features), device=features.device)
    total = torch.zeros_like(features)
    for n in (1, 2):
        later, earlier = (index + n).clamp(max=len(features) - 1), (index - n).clamp(min=0)
        total = total + n * (features[later] - features[earlier])
    return total / 10


class ConformerUpstream(Upstream):
    """The audio encoder of any stage: the input to its first layer and the output of each."""

    def __init__(self, encoder: ConformerEncoder, dim: int) -> None:
        super().__init__("filterbank", len(encoder.layers) + 1, dim, SUBSAMPLING)
        self.encoder = encoder

    def forward(self, source: Tensor, lengths: Tensor) -> HiddenStates:
        encoded = self.encoder(source, lengths, keep_layers=True)
        return HiddenStates(torch.stack(encoded.layers, dim=1), encoded.lengths)


class StoredUpstream(Upstream):
    """States of an upstream that were computed once (examples/superb/cache.py)."""

    def __init__(self, layers: int, dim: int, stride: int) -> None:
        super().__init__("states", layers, dim, stride)

    def forward(self, source: Tensor, lengths: Tensor) -> HiddenStates:
        """``(B, T, layers, D)`` as stored.

        Raises:
            InputError: they are another upstream's.
        """
        if source.shape[2:] != (self.layers, self.dim):
            raise InputError(
                f"the stored states have {tuple(source.shape[2:])} layers and width and the model "
                f"wants {(self.layers, self.dim)}; store them with the upstream it was trained on"
            )
        return HiddenStates(source.transpose(1, 2), lengths)


class FairseqUpstream(Upstream):
    """fairseq's wav2vec 2.0 and HuBERT: the input to each Transformer layer and the last output.

    Each clip runs alone: the first convolution's group norm looks at the whole padded clip, so that
    a state would depend on what it is batched with.
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
            layer.register_forward_pre_hook(self._keep, with_kwargs=True)

    def _keep(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self._inputs.append(args[0] if args else kwargs["x"])  # (T, 1, D)

    def _clip(self, waveform: Tensor) -> Tensor:
        """``(samples,)`` -> ``(T, N, D)``."""
        self._inputs.clear()
        if self.normalise:
            waveform = nn.functional.layer_norm(waveform, waveform.shape)
        output = self.model(waveform[None], mask=False, features_only=True)["x"][0]
        inputs = [x[: len(output), 0] for x in self._inputs]
        self._inputs.clear()
        return torch.stack([*inputs, output], dim=1)

    def forward(self, source: Tensor, lengths: Tensor) -> HiddenStates:
        clips = [self._clip(x[:n]) for x, n in zip(source, lengths.tolist(), strict=True)]
        sizes = torch.tensor([len(clip) for clip in clips], device=source.device)
        return HiddenStates(_pad(clips).transpose(1, 2), sizes)


def _pad(clips: list[Tensor]) -> Tensor:
    return nn.utils.rnn.pad_sequence(clips, batch_first=True)
