"""Config of stage 1's model."""

from dataclasses import dataclass, field

from fairseq.dataclass import ChoiceEnum

from mmpt_fairseq.models.encoder_config import ConformerConfig


@dataclass
class AVPretrainingModelConfig(ConformerConfig):
    """Defaults are ``base``: the paper's sizes where it gives them."""

    video_embed_dim: int = field(default=768, metadata={"help": "width of the ViT"})
    video_layers: int = field(default=12, metadata={"help": "ViT blocks"})
    video_attention_heads: int = field(default=12, metadata={"help": "ViT heads"})
    video_patch_size: int = field(default=16, metadata={"help": "patch height and width in pixels"})
    video_patch_frames: int = field(default=2, metadata={"help": "video frames per patch"})
    decoder_embed_dim: int = field(default=512, metadata={"help": "width of the shared decoder"})
    decoder_layers: int = field(default=4, metadata={"help": "blocks of the shared decoder"})
    decoder_attention_heads: int = field(default=8, metadata={"help": "heads of the decoder"})
    decoder_audio_kernel: int = field(
        default=0,
        metadata={
            "help": "odd kernel size of a depthwise convolution over the decoder's audio tokens, "
            "so that MAE learns to reconstruct in short runs (0: none, as in the paper)"
        },
    )
    decoder_interpolates: bool = field(
        default=False,
        metadata={
            "help": "initialise the decoder's masked audio tokens by linear interpolation between "
            "visible neighbours, so that short runs learn more than to copy those"
        },
    )
    predict_zero_first: bool = field(
        default=False,
        metadata={
            "help": "zero-initialise the decoder's output layers: unlearning random predictions "
            "in the first updates would reduce the variety of the encoder's states"
        },
    )
    joint_decoding: bool = field(
        default=False,
        metadata={"help": "decode audio and video in one sequence, so that each sees the other"},
    )
    contrastive_dim: int = field(
        default=256, metadata={"help": "width of the joint embedding space"}
    )
    contrast_masked: bool = field(
        default=False,
        metadata={"help": "contrast the visible tokens of MAE's encoder pass, not unmasked clips"},
    )
    pooling: ChoiceEnum(["mean", "attention"]) = field(
        default="mean", metadata={"help": "pooling over time to one vector per clip in CLR"}
    )
    normalise_slices: bool = field(
        default=False,
        metadata={
            "help": "CLR: normalise the time slices of video to zero mean and unit variance per "
            "clip, like the audio; otherwise a small set of clips is told apart by background"
        },
    )
    normalise_targets: bool = field(
        default=False,
        metadata={"help": "normalise each target patch to zero mean and unit variance"},
    )
