"""The small decoder shared by both modalities, and the masked squared error.

The decoder gets the encoders' visible tokens, mask tokens at the other positions, positional and
modality embeddings, and predicts all patches (MAE, arXiv 2111.06377). The modalities are decoded
separately or jointly; jointly, masked patches of one can be inferred from the other.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmpt_fairseq.modules.attention import sinusoidal_positions
from mmpt_fairseq.modules.depthwise import DepthwiseConv
from mmpt_fairseq.modules.masking import VisibleTokens
from mmpt_fairseq.modules.vit import Transformer

PATCH_VARIANCE = 1e-6  # added to a patch's variance, as in MAE's code, for constant patches


@dataclass
class DecoderInput:
    """Encoder output for the visible tokens of the A clips that have a modality.

    Attributes:
        states: ``(A, N, encoder width)``.
        visible: positions of these tokens among the L.
        padding: ``(A, L)``, True = padded; None: no padding.
        positions: ``(1, L, decoder width)`` embeddings; None: sinusoids in time.
        rows: ``(A,)`` indices of these clips in the batch.
    """

    states: Tensor
    visible: VisibleTokens
    padding: Tensor | None
    positions: Tensor | None
    rows: Tensor


class SharedDecoder(nn.Module):
    """Reconstructs audio and video with the same blocks (paper: 4 of width 512, one at a time).

    Args:
        audio_dim, video_dim: widths of the encoders.
        audio_patch, video_patch: values per patch (4 x 80 mel energies; pixels).
        audio_kernel: odd kernel size of a depthwise convolution in time over audio tokens, before
            the blocks; 0: none. Audio has zero mean over a clip, so that initial, near-uniform
            attention averages it to nothing and takes long to learn to attend to neighbours.
        interpolate: initialise masked audio tokens by interpolation between visible neighbours, so
            that neither encoder nor blocks have to learn to copy those.
        zero_init: zero-initialise the output layers.
        checkpoint_activations: recompute blocks in the backward pass to save memory.
    """

    def __init__(
        self,
        audio_dim: int,
        video_dim: int,
        audio_patch: int,
        video_patch: int,
        dim: int = 512,
        layers: int = 4,
        heads: int = 8,
        audio_kernel: int = 0,
        interpolate: bool = False,
        zero_init: bool = False,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.dim, self.interpolate = dim, interpolate
        self.near = DepthwiseConv(dim, audio_kernel) if audio_kernel else None
        self.project = nn.ModuleDict(
            {"audio": nn.Linear(audio_dim, dim), "video": nn.Linear(video_dim, dim)}
        )
        self.modality = nn.ParameterDict(
            {name: nn.Parameter(0.02 * torch.randn(dim)) for name in ("audio", "video")}
        )
        self.mask_token = nn.Parameter(0.02 * torch.randn(dim))
        self.transformer = Transformer(dim, layers, heads, checkpoint_activations)
        self.predict = nn.ModuleDict(
            {"audio": nn.Linear(dim, audio_patch), "video": nn.Linear(dim, video_patch)}
        )
        if zero_init:
            for parameter in self.predict.parameters():
                nn.init.zeros_(parameter)

    def forward(self, encoded: dict[str, DecoderInput], jointly: bool = False) -> dict[str, Tensor]:
        """Predict all patches ``(A, L, patch)`` of each modality in ``encoded``.

        Args:
            encoded: by modality, ``audio`` or ``video``.
            jointly: decode a clip's modalities in one sequence, so that they see each other.
        """
        tokens = {name: self.tokens(name, part) for name, part in encoded.items()}
        if jointly:
            decoded = self._decode_jointly(tokens, encoded)
        else:
            decoded = {n: self.transformer(x, encoded[n].padding) for n, x in tokens.items()}
        return {name: self.predict[name](x) for name, x in decoded.items()}

    def tokens(self, modality: str, part: DecoderInput) -> Tensor:
        """Input of the blocks, ``(A, L, dim)``: encoded tokens, mask tokens and embeddings."""
        encoded, visible = self.project[modality](part.states), part.visible
        if modality == "audio" and self.interpolate:
            mask_tokens = visible.scatter(torch.zeros_like(encoded), fill=self.mask_token)
            x = visible.interpolate(encoded) + mask_tokens
        else:
            x = visible.scatter(encoded, fill=self.mask_token)
        positions = part.positions
        if positions is None:
            time = torch.arange(part.visible.length, device=x.device)
            positions = sinusoidal_positions(time, self.dim)[None]
        x = x + positions.to(x.dtype) + self.modality[modality]
        if modality == "audio" and self.near is not None:
            zero_padded = x if part.padding is None else x.masked_fill(part.padding[..., None], 0.0)
            x = x + self.near(zero_padded)
        return x

    def _decode_jointly(self, tokens: dict[str, Tensor], encoded: dict[str, DecoderInput]) -> dict:
        """Decode one sequence per clip; a modality that the clip lacks is padding there."""
        clips = 1 + max(int(part.rows.max()) for part in encoded.values())
        sequence, hidden = [], []
        for name, x in tokens.items():
            rows, padding = encoded[name].rows, encoded[name].padding
            if padding is None:
                padding = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
            sequence.append(x.new_zeros(clips, *x.shape[1:]).index_copy(0, rows, x))
            hidden.append(padding.new_ones(clips, x.size(1)).index_copy(0, rows, padding))
        decoded = self.transformer(torch.cat(sequence, 1), torch.cat(hidden, 1))
        parts = decoded.split([x.size(1) for x in sequence], dim=1)
        return {n: part[encoded[n].rows] for n, part in zip(tokens, parts, strict=True)}


def audio_patches(features: Tensor, size: int) -> Tensor:
    """``(B, T, F)`` -> ``(B, ceil(T / size), size * F)``, zero-padded at the end."""
    batch, frames, bins = features.shape
    features = nn.functional.pad(features, (0, 0, 0, -frames % size))
    return features.reshape(batch, -1, size * bins)


def patch_statistics(patches: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(B, L, 1)`` of each patch's values (arXiv 2111.06377).

    Args:
        patches: ``(B, L, patch)``.
        weight: ``(B, L, patch)``, 0 for padding.
    """
    weight = torch.ones_like(patches) if weight is None else weight
    count = weight.sum(-1, keepdim=True).clamp(min=1.0)
    mean = (patches * weight).sum(-1, keepdim=True) / count
    variance = ((patches - mean) ** 2 * weight).sum(-1, keepdim=True) / count
    return mean, (variance + PATCH_VARIANCE).sqrt()


def masked_squared_error(
    predicted: Tensor, target: Tensor, mask: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Mean squared error over each clip's masked patches.

    Args:
        predicted, target: ``(B, L, patch)``.
        mask: ``(B, L)``, True = masked and not padded; only these patches count.
        weight: ``(B, L, patch)`` or broadcastable, 0 for padding.

    Returns:
        ``(B,)``; 0 for a clip without a masked patch.
    """
    exact = torch.promote_types(predicted.dtype, torch.float32)  # at least single precision
    weight = mask[..., None].to(exact) * (1.0 if weight is None else weight)
    weight = weight.expand(target.shape)
    error = (predicted.to(exact) - target.to(exact)) ** 2 * weight
    return error.sum((1, 2)) / weight.sum((1, 2)).clamp(min=1.0)
