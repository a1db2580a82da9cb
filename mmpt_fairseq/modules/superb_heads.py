"""SUPERB's heads (arXiv 2105.01051), with the sizes of s3prl's downstream configs.

A head's input is the sum of a frozen upstream's N layers with learnt weights.
"""

import torch
from torch import Tensor, nn

from mmpt_fairseq.modules.masking import padding_mask
from mmpt_fairseq.modules.pooling import masked_mean


class WeightedSum(nn.Module):
    """One softmax-normalised weight per layer, equal at the start (s3prl's Featurizer)."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(layers))

    @property
    def weights(self) -> Tensor:
        """``(N,)``, summing to 1."""
        return self.scores.softmax(dim=0)

    def forward(self, states: Tensor) -> Tensor:
        """``(B, N, T, D)`` -> ``(B, T, D)``."""
        return torch.einsum("n,bntd->btd", self.weights, states)


class UtteranceHead(nn.Module):
    """Linear, mean over time, linear (s3prl: speech_commands, fluent_commands)."""

    def __init__(self, dim: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.projector, self.output = nn.Linear(dim, hidden), nn.Linear(hidden, classes)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """``(B, T, D)`` -> logits ``(B, classes)``."""
        return self.output(masked_mean(self.projector(x), padding_mask(lengths, x.size(1))))


class FrameHead(nn.Module):
    """Two linear layers per frame, for CTC (s3prl: ctc, libriphone)."""

    def __init__(self, dim: int, tokens: int, hidden: int) -> None:
        super().__init__()
        self.projector, self.output = nn.Linear(dim, hidden), nn.Linear(hidden, tokens)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """``(B, T, D)`` -> logits ``(B, T, tokens)``."""
        return self.output(self.projector(x))


class DiarizationHead(nn.Module):
    """One LSTM and a linear layer; one logit per speaker and frame (s3prl: diarization)."""

    def __init__(self, dim: int, speakers: int, hidden: int) -> None:
        super().__init__()
        # Unidirectional, so that padding at the end of a clip does not affect it.
        self.lstm, self.output = nn.LSTM(dim, hidden, batch_first=True), nn.Linear(hidden, speakers)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """``(B, T, D)`` -> logits ``(B, T, speakers)``."""
        return self.output(self.lstm(x)[0])
