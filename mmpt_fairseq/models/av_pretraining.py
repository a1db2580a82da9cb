"""Stage 1: a Conformer for sound and a ViT for pictures, pre-trained without labels.

Multi-stage multi-modal pre-training for ASR (arXiv 2403.19822). ``forward`` reconstructs masked
patches (MAE), embeds clips for the contrastive loss (CLR), or both; the criterion chooses.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from fairseq.models import BaseFairseqModel, register_model
from torch import Tensor, nn

from mmpt_fairseq.data.audio import NUM_MEL_BINS
from mmpt_fairseq.errors import InputError
from mmpt_fairseq.models.encoder_config import ConformerConfig, build_conformer
from mmpt_fairseq.modules.conformer import SUBSAMPLING, ConformerEncoder, beyond
from mmpt_fairseq.modules.masking import VisibleTokens
from mmpt_fairseq.modules.pooling import masked_mean
from mmpt_fairseq.modules.reconstruction import (
    SharedDecoder,
    audio_patches,
    masked_squared_error,
    patch_statistics,
)
from mmpt_fairseq.modules.vit import Transformer, VideoPatches


@dataclass
class AVPretrainingModelConfig(ConformerConfig):
    """Defaults are ``base``, the paper's sizes where it states them."""

    video_embed_dim: int = field(default=768, metadata={"help": "width of the ViT"})
    video_layers: int = field(default=12, metadata={"help": "ViT blocks"})
    video_attention_heads: int = field(default=12, metadata={"help": "ViT heads"})
    video_patch_size: int = field(default=16, metadata={"help": "pixels on a side of a patch"})
    video_patch_frames: int = field(default=2, metadata={"help": "pictures in a patch"})
    decoder_embed_dim: int = field(default=512, metadata={"help": "width of the shared decoder"})
    decoder_layers: int = field(default=4, metadata={"help": "blocks of the shared decoder"})
    decoder_attention_heads: int = field(default=8, metadata={"help": "heads of that decoder"})
    contrastive_dim: int = field(default=256, metadata={"help": "width of the common space"})
    normalise_targets: bool = field(
        default=False,
        metadata={"help": "reconstruct patches of zero mean and unit variance each, not raw ones"},
    )


@dataclass
class Reconstruction:
    """Stage 1's masked autoencoding of a batch.

    Attributes:
        audio_error: ``(B,)`` mean squared error over each clip's masked filterbank patches.
        video_error: ``(V,)`` likewise over pixels, for the clips that have video.
        audio, video: predicted patches ``(B, L, patch)``, normalised like the input. With
            normalised targets they are put on the true mean and scale of each patch.
    """

    audio_error: Tensor
    video_error: Tensor
    audio: Tensor
    video: Tensor | None


@dataclass
class Embeddings:
    """Unit vectors ``(V, D)`` of the clips that have both modalities, and the temperature's log."""

    audio: Tensor
    video: Tensor
    log_scale: Tensor


class VideoEncoder(nn.Module):
    """ViT over the visible space-time patches, or over one embedding per slice of time."""

    def __init__(self, patches: VideoPatches, dim: int, layers: int, heads: int, recompute: bool):
        super().__init__()
        self.patches = patches
        self.transformer = Transformer(dim, layers, heads, checkpoint_activations=recompute)
        self.dim = dim

    def embed(self, patches: Tensor) -> Tensor:
        return self.patches.embed(patches) + self.patches.positions(self.dim, patches.device).to(
            patches.dtype
        )

    def forward(self, video: Tensor, hidden: Tensor) -> tuple[Tensor, VisibleTokens]:
        """``video`` ``(V, 3, T, H, W)``, ``hidden`` ``(V, L)`` True = masked -> ``(V, N, D)``."""
        visible = VisibleTokens.from_hidden(hidden)
        # Gathering before embedding: masked pixels never enter a product.
        patches = visible.gather(self.patches.cut(video))
        positions = self.patches.positions(self.dim, video.device).to(patches.dtype)
        positions = visible.gather(positions.expand(len(video), -1, -1))
        return self.transformer(self.patches.embed(patches) + positions, visible.padding), visible

    def encode_slices(self, video: Tensor) -> Tensor:
        """Patches averaged over space before the blocks (paper, CLR) -> ``(V, t, D)``."""
        t, h, w = self.patches.grid
        x = self.embed(self.patches.cut(video))
        return self.transformer(x.view(-1, t, h * w, self.dim).mean(2))


@register_model("mmpt_av_pretraining", dataclass=AVPretrainingModelConfig)
class AVPretrainingModel(BaseFairseqModel):
    """Audio and video encoders, the shared decoder and the contrastive projections."""

    def __init__(
        self,
        audio_encoder: ConformerEncoder,
        audio_dim: int,
        video_encoder: VideoEncoder,
        decoder: SharedDecoder,
        contrastive_dim: int,
        normalise_targets: bool = False,
    ) -> None:
        super().__init__()
        self.normalise_targets = normalise_targets
        self.audio_encoder = audio_encoder
        self.video_encoder = video_encoder
        self.decoder = decoder
        self.audio_projection = nn.Linear(audio_dim, contrastive_dim)
        self.video_projection = nn.Linear(video_encoder.dim, contrastive_dim)
        # CLIP's initial temperature of 0.07 (arXiv 2103.00020)
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    @classmethod
    def build_model(cls, cfg: AVPretrainingModelConfig, task) -> "AVPretrainingModel":
        try:
            patches = VideoPatches(
                task.cfg.video_num_frames,
                task.cfg.video_size,
                cfg.video_patch_frames,
                cfg.video_patch_size,
                cfg.video_embed_dim,
            )
        except ValueError as error:
            raise InputError(
                f"{error}: change task.video_num_frames or task.video_size, or "
                "model.video_patch_frames or model.video_patch_size"
            ) from None
        video_encoder = VideoEncoder(
            patches,
            cfg.video_embed_dim,
            cfg.video_layers,
            cfg.video_attention_heads,
            cfg.checkpoint_activations,
        )
        decoder = SharedDecoder(
            audio_dim=cfg.encoder_embed_dim,
            video_dim=cfg.video_embed_dim,
            audio_patch=SUBSAMPLING * NUM_MEL_BINS,
            video_patch=patches.patch_dim,
            dim=cfg.decoder_embed_dim,
            layers=cfg.decoder_layers,
            heads=cfg.decoder_attention_heads,
        )
        return cls(
            build_conformer(cfg),
            cfg.encoder_embed_dim,
            video_encoder,
            decoder,
            cfg.contrastive_dim,
            cfg.normalise_targets,
        )

    def forward(
        self,
        audio: Tensor,
        audio_lengths: Tensor,
        audio_mask: Tensor,
        video: Tensor | None = None,
        video_mask: Tensor | None = None,
        video_rows: Tensor | None = None,
        reconstruct: bool = True,
        contrast: bool = False,
        audio_unmasked: Tensor | None = None,
    ) -> tuple[Reconstruction | None, Embeddings | None]:
        """
        Args:
            audio: ``(B, T, F)``, normalised by what the mask leaves visible.
            audio_lengths: ``(B,)`` frames.
            audio_mask: ``(B, ceil(T / 4))``, True = masked.
            video: ``(V, 3, T, H, W)`` for the V clips that have video.
            video_mask: ``(V, L)``, True = masked.
            video_rows: ``(V,)`` which of the B clips those are.
            reconstruct, contrast: which objectives to compute.
            audio_unmasked: ``(B, T, F)``, normalised by the whole clip: CLR's input.
        """
        reconstruction = embeddings = None
        if reconstruct:
            reconstruction = self.reconstruct(audio, audio_lengths, audio_mask, video, video_mask)
        if contrast and video is not None:
            rows = video_rows
            embeddings = self.embed(audio_unmasked[rows], audio_lengths[rows], video)
        elif contrast:
            # No pair here, but with several processes all must take part in the gathering.
            # Single precision as in `embed`, or those that have pairs could not gather from it.
            width = self.audio_projection.out_features
            nothing = self.log_scale.float() * audio.new_zeros(0, width, dtype=torch.float32)
            embeddings = Embeddings(nothing, nothing, self.log_scale)
        return reconstruction, embeddings

    def reconstruct(
        self,
        audio: Tensor,
        lengths: Tensor,
        audio_mask: Tensor,
        video: Tensor | None,
        video_mask: Tensor | None,
    ) -> Reconstruction:
        """Encode what is visible, decode everything, compare where it was masked."""
        encoded = self.audio_encoder(audio, lengths, audio_mask)
        padding = beyond(encoded.lengths, audio_mask.size(1))
        predicted = self.decoder("audio", encoded.states, encoded.visible, padding)
        exists = ~beyond(lengths, audio.size(1))[..., None].expand_as(audio)
        weight = audio_patches(exists.to(audio.dtype), SUBSAMPLING)
        target = audio_patches(audio, SUBSAMPLING)
        audio_error, predicted = self._compare(predicted, target, audio_mask & ~padding, weight)
        predicted_video, video_error = None, audio.new_zeros(0)
        if video is not None:
            states, visible = self.video_encoder(video, video_mask)
            patches = self.video_encoder.patches
            positions = patches.positions(self.decoder.dim, video.device)
            predicted_video = self.decoder("video", states, visible, positions=positions)
            video_error, predicted_video = self._compare(
                predicted_video, patches.cut(video), video_mask
            )
        return Reconstruction(audio_error, video_error, predicted, predicted_video)

    def _compare(
        self, predicted: Tensor, target: Tensor, mask: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Errors ``(B,)``, and the prediction in the scale of the input."""
        if not self.normalise_targets:
            return masked_squared_error(predicted, target, mask, weight), predicted
        mean, scale = patch_statistics(target, weight)
        error = masked_squared_error(predicted, (target - mean) / scale, mask, weight)
        return error, predicted * scale + mean

    def embed(self, audio: Tensor, lengths: Tensor, video: Tensor) -> Embeddings:
        """Unmasked clips, averaged over time (and space), projected and normalised."""
        encoded = self.audio_encoder(audio, lengths)
        a = self.audio_projection(masked_mean(encoded.states, encoded.padding))
        v = self.video_projection(masked_mean(self.video_encoder.encode_slices(video)))
        # The cap on the scale is CLIP's: it keeps the logits' gradient finite.
        scale = self.log_scale.clamp(max=torch.tensor(100.0).log().item())
        return Embeddings(F.normalize(a.float(), dim=-1), F.normalize(v.float(), dim=-1), scale)
