"""Vision Transformer blocks (arXiv 2010.11929) and space-time patches (arXiv 2205.09113)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmpt_fairseq.modules.attention import SelfAttention, sinusoidal_positions
from mmpt_fairseq.modules.masking import VisibleTokens

SLICE_VARIANCE = 1e-6  # added to the variance of a clip's slices, for still video


def scaled(pixels: Tensor) -> Tensor:
    """Scale uint8 to [-1, 1] in single precision; other dtypes are returned unchanged.

    Loader workers pass video as uint8: a float batch of hundreds of clips would not fit into
    shared memory.
    """
    return _centred(pixels) if pixels.dtype == torch.uint8 else pixels


def _centred(levels: Tensor) -> Tensor:
    return levels / 127.5 - 1.0


class Block(nn.Module):
    """Pre-norm self-attention and feed-forward, of inner width 4 D."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads)
        self.ffn = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        )

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """``x`` ``(B, L, D)``; ``padding`` ``(B, L)``, True = padded."""
        x = x + self.attention(self.attention_norm(x), padding)
        return x + self.ffn(x)


class Transformer(nn.Module):
    """A stack of blocks and a final norm."""

    def __init__(
        self,
        dim: int,
        layers: int,
        heads: int,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.checkpoint_activations = checkpoint_activations

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """``x`` ``(B, L, D)``; ``padding`` ``(B, L)``, True = padded."""
        if padding is not None and not bool(padding.any()):
            padding = None
        for block in self.blocks:
            if self.checkpoint_activations and self.training:
                x = checkpoint(block, x, padding, use_reentrant=False)
            else:
                x = block(x, padding)
        return self.norm(x)


class VideoPatches(nn.Module):
    """Cut a clip into a grid of space-time patches and embed them.

    Args:
        frames, size: T video frames of ``size`` x ``size`` pixels.
        patch_frames, patch_size: a patch is ``patch_frames`` x ``patch_size`` x ``patch_size``.
        dim: width D.
    """

    def __init__(
        self, frames: int, size: int, patch_frames: int, patch_size: int, dim: int
    ) -> None:
        super().__init__()
        if frames % patch_frames or size % patch_size:
            raise ValueError(
                f"{frames} frames of {size} pixels are not a whole number of patches of "
                f"{patch_frames} x {patch_size} x {patch_size}"
            )
        self.patch_frames, self.patch_size = patch_frames, patch_size
        self.grid = (frames // patch_frames, size // patch_size, size // patch_size)
        self.patch_dim = 3 * patch_frames * patch_size**2
        self.embed = nn.Linear(self.patch_dim, dim)

    def patchify(self, video: Tensor) -> Tensor:
        """``(B, 3, T, H, W)`` -> ``(B, L, patch_dim)``, ordered by time, row, column."""
        t, h, w = self.grid
        p, s = self.patch_frames, self.patch_size
        x = video.reshape(-1, 3, t, p, h, s, w, s)
        x = x.permute(0, 2, 4, 6, 3, 5, 7, 1)  # (B, t, h, w, p, s, s, 3)
        return x.reshape(-1, t * h * w, self.patch_dim)

    def patchify_slices(self, video: Tensor) -> Tensor:
        """Patches averaged over space per time slice, scaled: ``(B, t, patch_dim)``."""
        t, h, w = self.grid
        p, s = self.patch_frames, self.patch_size
        in_8_bit = video.dtype == torch.uint8
        # Much faster, at 224 pixels, than to cut, scale and average patches: sums in 16 bits, which
        # hold 128 rows of uint8, over rows first, whose pixels are farther apart in memory.
        exact = torch.int16 if h <= 128 else torch.int32
        x = video.reshape(-1, 3, t, p, h, s, w * s).sum(4, dtype=exact if in_8_bit else None)
        x = x.view(-1, 3, t, p, s, w, s).sum(5, dtype=torch.float32 if in_8_bit else None)
        mean = x.permute(0, 2, 3, 4, 5, 1).reshape(-1, t, self.patch_dim) / (h * w)
        return _centred(mean) if in_8_bit else mean

    def unpatchify(self, patches: Tensor) -> Tensor:
        """The inverse of :meth:`patchify`."""
        t, h, w = self.grid
        p, s = self.patch_frames, self.patch_size
        x = patches.reshape(-1, t, h, w, p, s, s, 3).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.reshape(-1, 3, t * p, h * s, w * s)

    def positions(self, dim: int, device: torch.device | None = None) -> Tensor:
        """Fixed space-time embeddings ``(1, L, D)``: sinusoids of time, row and column."""
        t, h, w = self.grid
        # Half of the channels encode time, a quarter each row and column.
        spatial = dim // 4
        axes = (
            sinusoidal_positions(torch.arange(t, device=device), dim - 2 * spatial),
            sinusoidal_positions(torch.arange(h, device=device), spatial),
            sinusoidal_positions(torch.arange(w, device=device), spatial),
        )
        grid = torch.cat(
            [
                axes[0][:, None, None].expand(t, h, w, -1),
                axes[1][None, :, None].expand(t, h, w, -1),
                axes[2][None, None, :].expand(t, h, w, -1),
            ],
            dim=-1,
        )
        return grid.reshape(1, t * h * w, dim)


class VideoEncoder(nn.Module):
    """ViT over the visible space-time patches, or over one embedding per time slice.

    Args:
        patches: cuts clips into patches and embeds them.
        dim, layers, heads: width D, number of blocks, attention heads per block.
        checkpoint_activations: recompute blocks in the backward pass to save memory.
        normalise_slices: see :meth:`encode_slices`.
    """

    def __init__(
        self,
        patches: VideoPatches,
        dim: int,
        layers: int,
        heads: int,
        checkpoint_activations: bool,
        normalise_slices: bool = False,
    ) -> None:
        super().__init__()
        self.patches, self.normalise_slices = patches, normalise_slices
        self.transformer = Transformer(
            dim, layers, heads, checkpoint_activations=checkpoint_activations
        )
        self.dim = dim

    def forward(self, video: Tensor, hidden: Tensor) -> tuple[Tensor, VisibleTokens]:
        """Encode the visible patches.

        Args:
            video: ``(B, 3, T, H, W)``, uint8 or in [-1, 1].
            hidden: ``(B, L)``, True = masked.

        Returns:
            ``(B, N, D)``, and the positions of these N tokens among the L patches.
        """
        visible = VisibleTokens.from_hidden(hidden)
        # Gather before embedding, so that masked pixels never enter a product.
        patches = scaled(visible.gather(self.patches.patchify(video))).to(self.patches.embed.weight)
        positions = self.patches.positions(self.dim, video.device).to(patches.dtype)
        positions = visible.gather(positions.expand(len(video), -1, -1))
        return self.transformer(self.patches.embed(patches) + positions, visible.padding), visible

    def encode_slices(self, video: Tensor) -> Tensor:
        """Average patches over space before the blocks (paper, CLR) -> ``(B, t, D)``.

        With ``normalise_slices`` the averages are normalised over the clip, to zero mean and joint
        unit variance, like the audio bins: static content such as the background is removed, and
        small changes count.
        """
        t, h, w = self.patches.grid
        # The embedding is affine: the mean of embeddings is the embedding of the mean patch.
        patches, weight = self.patches.patchify_slices(video), self.patches.embed.weight
        if self.normalise_slices:
            # So the mean over time can be subtracted before it, where nothing is rounded to 16 bits
            # yet: a moving mouth changes a slice by less than that rounding.
            patches = patches - patches.mean(1, keepdim=True)
            x = F.linear(patches.to(weight), weight)
            power = x.float().square().mean((1, 2), keepdim=True)
            x = x * (power + SLICE_VARIANCE).rsqrt().to(x.dtype)
        else:
            x = self.patches.embed(patches.to(weight))
        positions = self.patches.positions(self.dim, x.device).view(1, t, h * w, self.dim).mean(2)
        return self.transformer(x + positions.to(x.dtype))
