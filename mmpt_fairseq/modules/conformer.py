"""Conformer encoder (arXiv 2005.08100) over filterbanks, with exact padding and masking.

It differs from fairseq's in three places, so that outputs depend only on visible, unpadded input:

* the subsampling and the depthwise convolution see zeros at padded and masked positions;
* layer instead of batch normalisation inside the convolution module, so that neither the batch
  nor its padding affects a clip, and a frozen encoder has no running statistics to drift;
* if only visible tokens are given, they are put back at their true times before the depthwise
  convolution.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from fairseq.models.speech_to_text.modules.convolution import Conv1dSubsampler
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmpt_fairseq.data.audio import NUM_MEL_BINS, SUBSAMPLING, subsampled
from mmpt_fairseq.modules.attention import SelfAttention, sinusoidal_positions
from mmpt_fairseq.modules.depthwise import DepthwiseConv
from mmpt_fairseq.modules.dropout import Dropout
from mmpt_fairseq.modules.masking import VisibleTokens, padding_mask


class MaskedSubsampler(Conv1dSubsampler):
    """fairseq's two strided convolutions, with zeros beyond the clip and at masked frames."""

    def forward(
        self,
        features: Tensor,
        lengths: Tensor,
        mask: Tensor | None = None,
        visible: VisibleTokens | None = None,
    ) -> Tensor:
        """``features`` ``(B, T, F)`` -> ``(B, ceil(T / 4), D)``, or with ``visible`` ``(B, N, D)``.

        Args:
            lengths: ``(B,)`` frames per clip.
            mask: ``(B, ceil(T / 4))``, True = masked; each position covers four frames.
            visible: the tokens to compute; None: all.
        """
        hidden = padding_mask(lengths, features.size(1))
        if mask is not None:
            hidden = hidden | mask.repeat_interleave(SUBSAMPLING, dim=1)[:, : features.size(1)]
        x = features.masked_fill(hidden[..., None], 0.0).transpose(1, 2)
        for layer in self.conv_layers[:-1]:
            x = F.glu(layer(x), dim=1)
            lengths = (lengths + 1) // 2
            x = x.masked_fill(padding_mask(lengths, x.size(2))[:, None], 0.0)
        last = self.conv_layers[-1]
        if visible is not None:
            return F.glu(convolve_at(visible.index, x, last), dim=-1)
        x = F.glu(last(x), dim=1).transpose(1, 2)
        return x.masked_fill(padding_mask((lengths + 1) // 2, x.size(1))[..., None], 0.0)


def convolve_at(index: Tensor, x: Tensor, layer: nn.Conv1d) -> Tensor:
    """Output of ``layer`` on ``x`` ``(B, D, T)``, computed only at positions ``index`` ``(B, N)``.

    Returns:
        ``(B, N, D')``.
    """
    [kernel], [stride], [padding] = layer.kernel_size, layer.stride, layer.padding
    rows = F.pad(x, (padding, padding)).transpose(1, 2).contiguous()
    taps = stride * index[..., None] + torch.arange(kernel, device=x.device)  # (B, N, kernel)
    clips = torch.arange(len(rows), device=x.device)[:, None, None] * rows.size(1)
    windows = rows.flatten(0, 1).index_select(0, (clips + taps).flatten())
    windows = windows.view(*index.shape, -1)
    return F.linear(windows, layer.weight.transpose(1, 2).flatten(1), layer.bias)


class FeedForward(nn.Sequential):
    """Pre-norm feed-forward module of width D -> ``hidden`` -> D."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(dim),
            nn.Linear(dim, hidden),
            nn.SiLU(),
            Dropout(dropout),
            nn.Linear(hidden, dim),
            Dropout(dropout),
        )


class ConvolutionModule(nn.Module):
    """Pointwise, depthwise, pointwise convolution, also over visible tokens at their true times."""

    def __init__(self, dim: int, kernel: int, dropout: float) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd and positive")
        self.norm = nn.LayerNorm(dim)
        self.pointwise_in = nn.Linear(dim, 2 * dim)
        self.depthwise = DepthwiseConv(dim, kernel)
        self.depthwise_norm = nn.LayerNorm(dim)
        self.pointwise_out = nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Tensor, padding: Tensor | None, visible: VisibleTokens | None = None
    ) -> Tensor:
        """``x`` ``(B, T, D)``, or ``(B, N, D)`` at the positions in ``visible`` -> the same shape.

        Args:
            padding: ``(B, T)`` or ``(B, N)``, True = padded.
        """
        x = F.glu(self.pointwise_in(self.norm(x)), dim=-1)
        if visible is not None:
            x = visible.scatter(x)
        elif padding is not None:
            x = x.masked_fill(padding[..., None], 0.0)
        x = self.depthwise(x)
        if visible is not None:
            x = visible.gather(x)
        return self.dropout(self.pointwise_out(F.silu(self.depthwise_norm(x))))


class ConformerLayer(nn.Module):
    """Half feed-forward, self-attention, convolution, half feed-forward, norm."""

    def __init__(
        self, dim: int, ffn_dim: int, heads: int, kernel: int, dropout: float, rotary: bool
    ) -> None:
        super().__init__()
        self.ffn1 = FeedForward(dim, ffn_dim, dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads, rotary)
        self.dropout = Dropout(dropout)
        self.convolution = ConvolutionModule(dim, kernel, dropout)
        self.ffn2 = FeedForward(dim, ffn_dim, dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        padding: Tensor | None,
        positions: Tensor,
        visible: VisibleTokens | None = None,
    ) -> Tensor:
        """``(B, N, D)`` -> ``(B, N, D)``.

        Args:
            x: all tokens, or the visible ones of each clip.
            padding: ``(B, N)``, True = padded.
            positions: ``(B, N)`` times of the tokens, for rotary attention.
            visible: positions of the visible tokens, for the convolution; None: all are visible.
        """
        x = x + 0.5 * self.ffn1(x)
        attended = self.attention(self.attention_norm(x), padding, positions)
        x = x + self.dropout(attended)
        x = x + self.convolution(x, padding, visible)
        x = x + 0.5 * self.ffn2(x)
        return self.norm(x)


@dataclass
class EncodedAudio:
    """Output of the Conformer for a batch.

    Attributes:
        states: ``(B, T, D)``, or ``(B, N, D)`` of the visible tokens if masked.
        padding: ``(B, T)`` or ``(B, N)``, True = padded.
        lengths: ``(B,)`` encoder frames per clip, masked ones included.
        layers: states before the first and after each layer; empty unless ``keep_layers``.
        visible: positions of the visible tokens; None if not masked.
    """

    states: Tensor
    padding: Tensor
    lengths: Tensor
    layers: list[Tensor]
    visible: VisibleTokens | None = None


class ConformerEncoder(nn.Module):
    """Subsampling by four and a stack of Conformer layers.

    Args:
        dim, layers, heads, ffn_dim, kernel: sizes of the Conformer (paper: 16 layers, 4 heads,
            depthwise kernel 31).
        dropout: probability, after the input and inside every layer.
        positions: ``sinusoidal`` (added at the input) or ``rotary`` (in every attention layer).
        checkpoint_activations: recompute layers in the backward pass to save memory.
        features: mel bins F.

    Raises:
        ValueError: ``kernel`` is even, or ``positions`` is unknown.
    """

    def __init__(
        self,
        dim: int = 256,
        layers: int = 16,
        heads: int = 4,
        ffn_dim: int = 2048,
        kernel: int = 31,
        dropout: float = 0.1,
        positions: str = "sinusoidal",
        checkpoint_activations: bool = False,
        features: int = NUM_MEL_BINS,
    ) -> None:
        super().__init__()
        if positions not in ("sinusoidal", "rotary"):
            raise ValueError(f"positions must be sinusoidal or rotary, not {positions}")
        self.positions, self.checkpoint_activations = positions, checkpoint_activations
        self.subsample = MaskedSubsampler(features, 2 * dim, dim, [5, 5])
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            ConformerLayer(dim, ffn_dim, heads, kernel, dropout, positions == "rotary")
            for _ in range(layers)
        )

    def forward(
        self,
        features: Tensor,
        lengths: Tensor,
        mask: Tensor | None = None,
        keep_layers: bool = False,
    ) -> EncodedAudio:
        """Encode ``features`` ``(B, T, F)``; ``mask`` ``(B, ceil(T / 4))``, True = masked."""
        padding = padding_mask(subsampled(lengths), subsampled(features.size(1)))
        positions = torch.arange(padding.size(1), device=features.device)[None]
        visible = None
        if mask is not None:
            visible = VisibleTokens.from_hidden(padding | mask)
            positions, padding = visible.index, visible.padding
        x = self.subsample(features, lengths, mask, visible)
        if self.positions == "sinusoidal":
            # Scaled as in arXiv 1706.03762, or the positions would dominate the audio.
            x = math.sqrt(x.size(-1)) * x
            x = x + sinusoidal_positions(positions, x.size(-1)).to(x.dtype)
        positions = positions.expand(x.shape[:2])
        x = self.dropout(x)
        kept = [x] if keep_layers else []
        attention_padding = padding if bool(padding.any()) else None
        for layer in self.layers:
            if self.checkpoint_activations and self.training:
                x = checkpoint(layer, x, attention_padding, positions, visible, use_reentrant=False)
            else:
                x = layer(x, attention_padding, positions, visible)
            if keep_layers:
                kept.append(x)
        return EncodedAudio(x, padding, subsampled(lengths), kept, visible)
