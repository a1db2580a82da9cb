"""Stage 1: a Conformer for sound and a ViT for pictures, pre-trained without labels.

Multi-stage multi-modal pre-training for ASR (arXiv 2403.19822). ``forward`` reconstructs masked
patches (MAE), embeds clips for the contrastive loss (CLR), or both; the criterion chooses.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from fairseq.dataclass import ChoiceEnum
from fairseq.models import BaseFairseqModel, register_model
from torch import Tensor, nn

from manifests.errors import InputError
from mmpt_fairseq.data.audio import NUM_MEL_BINS, SUBSAMPLING
from mmpt_fairseq.models.encoder_config import ConformerConfig, build_conformer, check_heads
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
    decoder_audio_kernel: int = field(
        default=0,
        metadata={
            "help": "odd kernel of a convolution that hands the decoder's tokens of sound what is "
            "near, so that short trainings reconstruct (0, as in the paper: attention alone)"
        },
    )
    decoder_interpolates: bool = field(
        default=False,
        metadata={
            "help": "masked tokens of sound reach the decoder as what lies between their visible "
            "neighbours, so that short trainings learn more than to carry those over"
        },
    )
    predict_zero_first: bool = field(
        default=False,
        metadata={
            "help": "the decoder's predictions start out as zero, not at random: unlearning random "
            "ones is what the first updates would spend the encoder's variety on"
        },
    )
    joint_decoding: bool = field(
        default=False,
        metadata={"help": "decode sound and pictures together, so that each helps the other"},
    )
    contrastive_dim: int = field(default=256, metadata={"help": "width of the common space"})
    contrast_masked: bool = field(
        default=False,
        metadata={"help": "contrast what is visible, sharing MAE's pass, not the unmasked clips"},
    )
    pooling: ChoiceEnum(["mean", "attention"]) = field(
        default="mean", metadata={"help": "from states to one vector per clip, in CLR"}
    )
    normalise_slices: bool = field(
        default=False,
        metadata={
            "help": "CLR's pictures less what does not change, scaled to unit variance over the "
            "clip, as the sound is: otherwise few clips are told apart by their backgrounds"
        },
    )
    normalise_targets: bool = field(
        default=False,
        metadata={"help": "reconstruct patches of zero mean and unit variance each, not raw ones"},
    )


@dataclass
class Reconstruction:
    """Stage 1's masked autoencoding of a batch.

    Attributes:
        audio_error: ``(A,)`` mean squared error over the masked filterbank patches of each clip
            that has sound.
        video_error: ``(V,)`` likewise over pixels, for the clips that have video.
        audio, video: predicted patches ``(A or V, L, patch)``, normalised like the input. With
            normalised targets they are put on the true mean and scale of each patch.
    """

    audio_error: Tensor
    video_error: Tensor
    audio: Tensor | None
    video: Tensor | None


@dataclass
class Embeddings:
    """Unit vectors ``(P, D)`` of the clips that have both modalities, and the temperature's log."""

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
            video_encoder: the ViT, which knows its width and its patches.
            decoder: reconstructs both modalities.
            contrastive_dim: width of the space in which audio and video are compared.
            pooling_heads: of attention pooling of audio and of video; None for averages.
            normalise_targets: reconstruct patches of zero mean and unit variance.
            joint_decoding: decode both modalities in one sequence.
            contrast_masked: contrast what masked autoencoding has encoded, not unmasked clips.
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
                "the patches that model.contrast_masked=true contrasts; set one of them alone"
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
            zero_first=cfg.predict_zero_first,
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
        """Let torch.compile make kernels of every layer, one for all lengths of a batch.

        Names of parameters stay as they are, so that checkpoints do too.

        Raises:
            InputError: torch has no such backend.
        """
        known = torch.compiler.list_backends(exclude_tags=())
        if backend not in known:
            raise InputError(f"task.compile={backend} is none of torch's {', '.join(known)}")
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
        """Reconstruct what is masked, embed the clips that have both modalities, or both.

        Args:
            audio: ``(A, T, F)`` of the A clips that have sound, normalised by what the mask
                leaves visible.
            audio_lengths: ``(A,)`` frames.
            audio_mask: ``(A, ceil(T / 4))``, True = masked.
            video: ``(V, 3, T, H, W)`` of the V clips that have video, 8 bit or in [-1, 1].
            video_mask: ``(V, L)``, True = masked.
            audio_rows, video_rows: ``(A,)``, ``(V,)`` which clips of the batch those are.
            audio_unmasked: ``(A, T, F)``, normalised by the whole clip: CLR's input.
            reconstruct, contrast: which objectives to compute.

        Returns:
            None in place of the one that is not asked for.
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
            sound, pictures = pairs(audio_rows, video_rows)
            if not len(sound):
                embeddings = self.no_pairs()
            elif self.contrast_masked:
                embeddings = self.embed_visible(encoded["audio"], encoded["video"])
            else:
                lengths = audio_lengths[sound]
                embeddings = self.embed(audio_unmasked[sound], lengths, video[pictures])
        return reconstruction, embeddings

    def encode_audio(
        self, audio: Tensor, lengths: Tensor, mask: Tensor, rows: Tensor
    ) -> DecoderInput:
        """The visible frames of the clips that have sound."""
        encoded = self.audio_encoder(audio, lengths, mask)
        padding = padding_mask(encoded.lengths, mask.size(1))
        return DecoderInput(encoded.states, encoded.visible, padding, None, rows)

    def encode_video(self, video: Tensor, mask: Tensor, rows: Tensor) -> DecoderInput:
        """The visible patches of the clips that have video."""
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
        """Decode everything from what was visible, compare where it was masked."""
        predicted = self.decoder(encoded, self.joint_decoding)
        errors = dict.fromkeys(("audio", "video"), torch.zeros(0, device=self.log_scale.device))
        if audio is not None:
            exists = ~padding_mask(lengths, audio.size(1))[..., None].expand_as(audio)
            errors["audio"], predicted["audio"] = self._compare(
                predicted["audio"],
                audio_patches(audio, SUBSAMPLING),
                audio_mask & ~encoded["audio"].padding,
                audio_patches(exists.to(audio.dtype), SUBSAMPLING),
            )
        if video is not None:
            target = scaled(self.video_encoder.patches.cut(video))
            errors["video"], predicted["video"] = self._compare(
                predicted["video"], target, video_mask
            )
        return Reconstruction(
            errors["audio"], errors["video"], predicted.get("audio"), predicted.get("video")
        )

    def _compare(
        self, predicted: Tensor, target: Tensor, mask: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Errors ``(B,)``, and the prediction in the scale of the input."""
        if not self.normalise_targets:
            return masked_squared_error(predicted, target, mask, weight), predicted
        target = target.to(torch.promote_types(target.dtype, torch.float32))
        mean, scale = patch_statistics(target, weight)
        error = masked_squared_error(predicted, (target - mean) / scale, mask, weight)
        return error, predicted * scale + mean

    def embed(self, audio: Tensor, lengths: Tensor, video: Tensor) -> Embeddings:
        """Unmasked pairs; the pictures' patches averaged over space before the ViT."""
        encoded = self.audio_encoder(audio, lengths)
        a = self.pool_audio(encoded.states, encoded.padding)
        return self._project(a, self.pool_video(self.video_encoder.encode_slices(video)))

    def embed_visible(self, audio: DecoderInput, video: DecoderInput) -> Embeddings:
        """Pairs by their visible tokens alone; a clip with none in a modality is no pair."""
        sound, pictures = pairs(audio.rows, video.rows)
        unseen = audio.visible.padding[sound].all(1) | video.visible.padding[pictures].all(1)
        sound, pictures = sound[~unseen], pictures[~unseen]
        if not len(sound):
            return self.no_pairs()
        a = self.pool_audio(audio.states[sound], audio.visible.padding[sound])
        v = self.pool_video(video.states[pictures], video.visible.padding[pictures])
        return self._project(a, v)

    def no_pairs(self) -> Embeddings:
        """No embedding: with several processes all must take part in the gathering.

        Single precision as in `_project`, or those that have pairs could not gather from it.
        """
        scale = self.log_scale.float()
        nothing = scale * scale.new_zeros(0, self.audio_projection.out_features)
        return Embeddings(nothing, nothing, self.log_scale)

    def _project(self, audio: Tensor, video: Tensor) -> Embeddings:
        """Into the common space, normalised there in single precision at least."""
        a, v = self.audio_projection(audio), self.video_projection(video)
        exact = torch.promote_types(a.dtype, torch.float32)
        a, v = (F.normalize(embeddings.to(exact), dim=-1) for embeddings in (a, v))
        return Embeddings(a, v, _Capped.apply(self.log_scale, math.log(100)))


class _Capped(torch.autograd.Function):
    """CLIP's cap on the scale, which keeps the logits' gradient finite. Above it the gradient is
    that of the cap where it leads down again, or there would be no way back."""

    @staticmethod
    def forward(ctx, x: Tensor, most: float) -> Tensor:
        ctx.save_for_backward(x > most)
        return x.clamp(max=most)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (above,) = ctx.saved_tensors
        return gradient.masked_fill(above & (gradient < 0), 0.0), None


def pairs(audio_rows: Tensor | None, video_rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """Where the clips that have both stand among those with sound and those with video."""
    if audio_rows is None or video_rows is None:
        nothing = torch.zeros(0, dtype=torch.long)
        return nothing, nothing
    sound, pictures = (audio_rows[:, None] == video_rows[None]).nonzero(as_tuple=True)
    return sound, pictures
