"""Stage 1: a Conformer for audio and a ViT for video, pre-trained without labels.

Source: multi-stage multi-modal pre-training for ASR (arXiv 2403.19822). ``forward`` reconstructs
masked patches (MAE), embeds clips for the contrastive loss (CLR), or both, as the criterion asks.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from fairseq.models import BaseFairseqModel, register_model
from torch import Tensor, nn

from manifests.errors import InputError
from mmpt_fairseq.data.audio import NUM_MEL_BINS, SUBSAMPLING
from mmpt_fairseq.models.av_pretraining_config import AVPretrainingModelConfig
from mmpt_fairseq.models.encoder_config import build_conformer, check_at_least, check_heads
from mmpt_fairseq.modules.conformer import ConformerEncoder
from mmpt_fairseq.modules.masking import padding_mask
from mmpt_fairseq.modules.pooling import AttentionPooling, masked_mean
from mmpt_fairseq.modules.reconstruction import (
    DecoderInput,
    SharedDecoder,
    audio_patches,
    masked_squared_error,
    patch_statistics,
)
from mmpt_fairseq.modules.vit import VideoEncoder, VideoPatches, scaled


@dataclass
class Reconstruction:
    """MAE output for a batch with A clips that have audio and V that have video.

    Attributes:
        audio_error: ``(A,)`` mean squared error over the masked filterbank patches of each clip.
        video_error: ``(V,)`` likewise over the masked pixels.
        audio, video: predicted patches ``(A or V, L, patch)`` in the scale of the input;
            ``normalise_targets`` is undone with the true mean and scale of each patch.
    """

    audio_error: Tensor
    video_error: Tensor
    audio: Tensor | None
    video: Tensor | None


@dataclass
class Embeddings:
    """Unit vectors ``(P, D)`` of the P clips with both modalities, and the log of the scale."""

    audio: Tensor
    video: Tensor
    log_scale: Tensor


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
        pooling_heads: tuple[int, int] | None = None,
        normalise_targets: bool = False,
        joint_decoding: bool = False,
        contrast_masked: bool = False,
    ) -> None:
        """
        Args:
            audio_encoder, audio_dim: the Conformer and its width.
            video_encoder: the ViT with its patch embedding.
            decoder: reconstructs both modalities.
            contrastive_dim: width of the joint embedding space.
            pooling_heads: heads of attention pooling for audio and video; None: mean pooling.
            normalise_targets: normalise each target patch to zero mean and unit variance.
            joint_decoding: decode both modalities in one sequence.
            contrast_masked: contrast the visible tokens of MAE's encoder pass, not unmasked clips.
        """
        super().__init__()
        self.normalise_targets, self.joint_decoding = normalise_targets, joint_decoding
        self.contrast_masked = contrast_masked
        self.audio_encoder = audio_encoder
        self.video_encoder = video_encoder
        self.decoder = decoder
        self.audio_projection = nn.Linear(audio_dim, contrastive_dim)
        self.video_projection = nn.Linear(video_encoder.dim, contrastive_dim)
        # CLIP's initial temperature of 0.07 (arXiv 2103.00020)
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.pool_audio = self.pool_video = masked_mean
        if pooling_heads is not None:
            self.pool_audio = AttentionPooling(audio_dim, pooling_heads[0])
            self.pool_video = AttentionPooling(video_encoder.dim, pooling_heads[1])

    @classmethod
    def build_model(cls, cfg: AVPretrainingModelConfig, task) -> "AVPretrainingModel":
        check_at_least(1, cfg, "video_patch_size", "video_patch_frames", "contrastive_dim")
        check_at_least(0, cfg, "video_layers", "decoder_layers", "decoder_audio_kernel")
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
        check_heads(cfg, "video")
        check_heads(cfg, "decoder")
        video_encoder = VideoEncoder(
            patches,
            cfg.video_embed_dim,
            cfg.video_layers,
            cfg.video_attention_heads,
            cfg.checkpoint_activations,
            cfg.normalise_slices,
        )
        if cfg.normalise_slices and cfg.contrast_masked:
            raise InputError(
                "model.normalise_slices=true changes slices of unmasked clips and has no effect on "
                "the patches that model.contrast_masked=true contrasts; set only one of them"
            )
        if cfg.decoder_audio_kernel and cfg.decoder_audio_kernel % 2 == 0:
            raise InputError(
                f"model.decoder_audio_kernel={cfg.decoder_audio_kernel} must be odd, or 0 for none"
            )
        decoder = SharedDecoder(
            audio_dim=cfg.encoder_embed_dim,
            video_dim=cfg.video_embed_dim,
            audio_patch=SUBSAMPLING * NUM_MEL_BINS,
            video_patch=patches.patch_dim,
            dim=cfg.decoder_embed_dim,
            layers=cfg.decoder_layers,
            heads=cfg.decoder_attention_heads,
            audio_kernel=cfg.decoder_audio_kernel,
            interpolate=cfg.decoder_interpolates,
            zero_init=cfg.predict_zero_first,
            checkpoint_activations=cfg.checkpoint_activations,
        )
        heads = (cfg.encoder_attention_heads, cfg.video_attention_heads)
        return cls(
            build_conformer(cfg),
            cfg.encoder_embed_dim,
            video_encoder,
            decoder,
            cfg.contrastive_dim,
            pooling_heads=heads if str(cfg.pooling) == "attention" else None,
            normalise_targets=cfg.normalise_targets,
            joint_decoding=cfg.joint_decoding,
            contrast_masked=cfg.contrast_masked,
        )

    def compile_layers(self, backend: str) -> None:
        """Compile each layer with torch.compile, with dynamic shapes.

        Parameter names, and so checkpoints, are unaffected.

        Raises:
            InputError: torch has no such backend.
        """
        known = torch.compiler.list_backends(exclude_tags=())
        if backend not in known:
            raise InputError(f"task.compile={backend} must be one of {', '.join(known)}")
        layers = (
            *self.audio_encoder.layers,
            *self.video_encoder.transformer.blocks,
            *self.decoder.transformer.blocks,
        )
        for layer in layers:
            layer.compile(dynamic=True, backend=backend)

    def forward(
        self,
        audio: Tensor | None = None,
        audio_lengths: Tensor | None = None,
        audio_mask: Tensor | None = None,
        video: Tensor | None = None,
        video_mask: Tensor | None = None,
        audio_rows: Tensor | None = None,
        video_rows: Tensor | None = None,
        audio_unmasked: Tensor | None = None,
        reconstruct: bool = True,
        contrast: bool = False,
    ) -> tuple[Reconstruction | None, Embeddings | None]:
        """Reconstruct masked patches, embed the clips with both modalities, or both.

        Args:
            audio: ``(A, T, F)`` of the A clips with audio, normalised over the visible frames.
            audio_lengths: ``(A,)`` frames.
            audio_mask: ``(A, ceil(T / 4))``, True = masked.
            video: ``(V, 3, T, H, W)`` of the V clips with video, uint8 or in [-1, 1].
            video_mask: ``(V, L)``, True = masked.
            audio_rows, video_rows: ``(A,)``, ``(V,)`` indices of these clips in the batch.
            audio_unmasked: ``(A, T, F)``, normalised over the whole clip: CLR's input.
            reconstruct, contrast: which objectives to compute.

        Returns:
            The two results; None for an objective that is not requested.
        """
        reconstruction = embeddings = None
        encoded: dict[str, DecoderInput] = {}
        if reconstruct or self.contrast_masked:
            if audio is not None:
                encoded["audio"] = self.encode_audio(audio, audio_lengths, audio_mask, audio_rows)
            if video is not None:
                encoded["video"] = self.encode_video(video, video_mask, video_rows)
        if reconstruct:
            reconstruction = self.reconstruct(
                encoded, audio, audio_lengths, audio_mask, video, video_mask
            )
        if contrast:
            in_audio, in_video = pair_indices(audio_rows, video_rows)
            if not len(in_audio):
                embeddings = self.empty_embeddings()
            elif self.contrast_masked:
                embeddings = self.embed_visible(encoded["audio"], encoded["video"])
            else:
                lengths = audio_lengths[in_audio]
                embeddings = self.embed(audio_unmasked[in_audio], lengths, video[in_video])
        return reconstruction, embeddings

    def encode_audio(
        self, audio: Tensor, lengths: Tensor, mask: Tensor, rows: Tensor
    ) -> DecoderInput:
        """Encode the visible frames of the clips with audio."""
        encoded = self.audio_encoder(audio, lengths, mask)
        padding = padding_mask(encoded.lengths, mask.size(1))
        return DecoderInput(encoded.states, encoded.visible, padding, None, rows)

    def encode_video(self, video: Tensor, mask: Tensor, rows: Tensor) -> DecoderInput:
        """Encode the visible patches of the clips with video."""
        states, visible = self.video_encoder(video, mask)
        positions = self.video_encoder.patches.positions(self.decoder.dim, video.device)
        return DecoderInput(states, visible, None, positions, rows)

    def reconstruct(
        self,
        encoded: dict[str, DecoderInput],
        audio: Tensor | None,
        lengths: Tensor | None,
        audio_mask: Tensor | None,
        video: Tensor | None,
        video_mask: Tensor | None,
    ) -> Reconstruction:
        """Decode all patches from the visible ones; compute the error over the masked ones."""
        predicted = self.decoder(encoded, self.joint_decoding)
        errors = dict.fromkeys(("audio", "video"), torch.zeros(0, device=self.log_scale.device))
        if audio is not None:
            real = ~padding_mask(lengths, audio.size(1))[..., None].expand_as(audio)
            errors["audio"], predicted["audio"] = self.reconstruction_error(
                predicted["audio"],
                audio_patches(audio, SUBSAMPLING),
                audio_mask & ~encoded["audio"].padding,
                audio_patches(real.to(audio.dtype), SUBSAMPLING),
            )
        if video is not None:
            target = scaled(self.video_encoder.patches.patchify(video))
            errors["video"], predicted["video"] = self.reconstruction_error(
                predicted["video"], target, video_mask
            )
        return Reconstruction(
            errors["audio"], errors["video"], predicted.get("audio"), predicted.get("video")
        )

    def reconstruction_error(
        self, predicted: Tensor, target: Tensor, mask: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Errors ``(B,)``, and the prediction ``(B, L, patch)`` in the scale of the input.

        Derived models may override it, for another distance or target.

        Args:
            predicted, target: patches ``(B, L, patch)``.
            mask, weight: what counts, ``(B, L)``, and within patches, ``(B, L, patch)``.
        """
        if not self.normalise_targets:
            return masked_squared_error(predicted, target, mask, weight), predicted
        target = target.to(torch.promote_types(target.dtype, torch.float32))
        mean, scale = patch_statistics(target, weight)
        error = masked_squared_error(predicted, (target - mean) / scale, mask, weight)
        return error, predicted * scale + mean

    def embed(self, audio: Tensor, lengths: Tensor, video: Tensor) -> Embeddings:
        """Embed unmasked pairs; video patches are averaged over space before the ViT."""
        encoded = self.audio_encoder(audio, lengths)
        a = self.pool_audio(encoded.states, encoded.padding)
        return self._project(a, self.pool_video(self.video_encoder.encode_slices(video)))

    def embed_visible(self, audio: DecoderInput, video: DecoderInput) -> Embeddings:
        """Embed pairs by their visible tokens; skip clips with none in one of the modalities."""
        in_audio, in_video = pair_indices(audio.rows, video.rows)
        masked = audio.visible.padding[in_audio].all(1) | video.visible.padding[in_video].all(1)
        in_audio, in_video = in_audio[~masked], in_video[~masked]
        if not len(in_audio):
            return self.empty_embeddings()
        a = self.pool_audio(audio.states[in_audio], audio.visible.padding[in_audio])
        v = self.pool_video(video.states[in_video], video.visible.padding[in_video])
        return self._project(a, v)

    def empty_embeddings(self) -> Embeddings:
        """Empty embeddings, with which a process without pairs takes part in the all-gather.

        In single precision as in `_project`: all processes must gather the same dtype.
        """
        scale = self.log_scale.float()
        empty = scale * scale.new_zeros(0, self.audio_projection.out_features)
        return Embeddings(empty, empty, self.log_scale)

    def _project(self, audio: Tensor, video: Tensor) -> Embeddings:
        """Project into the joint space and normalise, at least in single precision."""
        a, v = self.audio_projection(audio), self.video_projection(video)
        dtype = torch.promote_types(a.dtype, torch.float32)
        a, v = (F.normalize(embeddings.to(dtype), dim=-1) for embeddings in (a, v))
        return Embeddings(a, v, _ClampScale.apply(self.log_scale, math.log(100)))


class _ClampScale(torch.autograd.Function):
    """Clamp ``x`` at ``limit``, but pass gradients that decrease it.

    As in CLIP, the scale is limited to keep the logits' gradient finite; a plain clamp has no
    gradient above the limit, so that the scale could never come down again.
    """

    @staticmethod
    def forward(ctx, x: Tensor, limit: float) -> Tensor:
        ctx.save_for_backward(x > limit)
        return x.clamp(max=limit)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (above,) = ctx.saved_tensors
        return gradient.masked_fill(above & (gradient < 0), 0.0), None


def pair_indices(audio_rows: Tensor | None, video_rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """Indices, among the clips with audio and among those with video, of the clips with both."""
    if audio_rows is None or video_rows is None:
        empty = torch.zeros(0, dtype=torch.long)
        return empty, empty
    in_audio, in_video = (audio_rows[:, None] == video_rows[None]).nonzero(as_tuple=True)
    return in_audio, in_video
