"""The small decoder that both modalities share, and the masked squared error.

Encoders hand over visible tokens; the decoder sees them among mask tokens, at their positions,
with a vector that says which modality this is, and predicts the patches (arXiv 2111.06377).
"""

import torch
from torch import Tensor, nn

from mmpt_fairseq.modules.attention import sinusoidal_positions
from mmpt_fairseq.modules.masking import VisibleTokens
from mmpt_fairseq.modules.vit import Transformer

MIN_VARIANCE = 1e-6  # of a patch, as in MAE's code: a constant patch has none


class SharedDecoder(nn.Module):
    """Reconstructs audio, then video, with the same blocks (paper: 4 of width 512).

    Args:
        audio_dim, video_dim: widths of the encoders.
        audio_patch, video_patch: values in one patch (4 x 80 mel energies; pixels).
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
    ) -> None:
        super().__init__()
        self.dim = dim
        self.project = nn.ModuleDict(
            {"audio": nn.Linear(audio_dim, dim), "video": nn.Linear(video_dim, dim)}
        )
        self.modality = nn.ParameterDict(
            {name: nn.Parameter(0.02 * torch.randn(dim)) for name in ("audio", "video")}
        )
        self.mask_token = nn.Parameter(0.02 * torch.randn(dim))
        self.transformer = Transformer(dim, layers, heads)
        self.predict = nn.ModuleDict(
            {"audio": nn.Linear(dim, audio_patch), "video": nn.Linear(dim, video_patch)}
        )

    def forward(
        self,
        modality: str,
        encoded: Tensor,
        visible: VisibleTokens,
        padding: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Predict every patch of one modality.

        Args:
            modality: ``audio`` or ``video``.
            encoded: ``(B, N, encoder width)`` visible tokens.
            visible: where they stand among the L positions.
            padding: ``(B, L)``, True = past the end of the clip.
            positions: ``(1, L, dim)``; sinusoids in time by default.

        Returns:
            ``(B, L, patch)``.
        """
        x = visible.scatter(self.project[modality](encoded), fill=self.mask_token)  # (B, L, dim)
        if positions is None:
            time = torch.arange(visible.length, device=x.device)
            positions = sinusoidal_positions(time, self.dim)[None]
        x = x + positions.to(x.dtype) + self.modality[modality]
        return self.predict[modality](self.transformer(x, padding))


def audio_patches(features: Tensor, size: int) -> Tensor:
    """``(B, T, F)`` -> ``(B, ceil(T / size), size * F)``, zeros behind the end."""
    batch, frames, bins = features.shape
    features = nn.functional.pad(features, (0, 0, 0, -frames % size))
    return features.reshape(batch, -1, size * bins)


def patch_statistics(patches: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(B, L, 1)`` of each patch's values (arXiv 2111.06377).

    Args:
        patches: ``(B, L, patch)``.
        weight: ``(B, L, patch)``, 0 for values that do not exist.
    """
    weight = torch.ones_like(patches) if weight is None else weight
    count = weight.sum(-1, keepdim=True).clamp(min=1.0)
    mean = (patches * weight).sum(-1, keepdim=True) / count
    variance = ((patches - mean) ** 2 * weight).sum(-1, keepdim=True) / count
    return mean, (variance + MIN_VARIANCE).sqrt()


def masked_squared_error(
    predicted: Tensor, target: Tensor, mask: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Mean squared error over each clip's masked patches.

    Args:
        predicted, target: ``(B, L, patch)``.
        mask: ``(B, L)``, True = masked and not padded: counts.
        weight: ``(B, L, patch)`` or broadcastable, 0 for values that do not exist.

    Returns:
        ``(B,)``; 0 for a clip without a masked patch.
    """
    weight = mask[..., None].float() * (1.0 if weight is None else weight)
    weight = weight.expand(target.shape)
    error = (predicted.float() - target.float()) ** 2 * weight
    return error.sum((1, 2)) / weight.sum((1, 2)).clamp(min=1.0)
