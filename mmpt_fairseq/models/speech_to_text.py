"""Stages 2 and 3: the pre-trained Conformer, a CTC head and fairseq's Transformer decoder."""

import logging
from dataclasses import dataclass, field
from typing import Optional

from fairseq.models import FairseqEncoder, FairseqEncoderDecoderModel, register_model
from fairseq.models.speech_to_text.s2t_transformer import S2TTransformerEncoder
from fairseq.models.transformer import Embedding, TransformerConfig, TransformerDecoderBase
from torch import Tensor, nn

from manifests.errors import InputError
from mmpt_fairseq.models.encoder_config import ConformerConfig, build_conformer, check_heads
from mmpt_fairseq.models.freezing import (
    AFTER_LAST_UPDATE,
    Freezing,
    mark_encoder,
    without_gradients,
)
from mmpt_fairseq.modules.conformer import ConformerEncoder, EncodedAudio
from mmpt_fairseq.modules.masking import padding_mask

logger = logging.getLogger(__name__)


@dataclass
class SpeechToTextModelConfig(ConformerConfig):
    """The encoder's sizes are ``base``; the decoder's are fairseq's for S2T."""

    init_encoder_from: Optional[str] = field(
        default=None,
        metadata={
            "help": "checkpoint of an earlier stage: subsampling and Conformer are taken over"
        },
    )
    fresh_encoder_layers: int = field(
        default=0,
        metadata={"help": "last Conformer layers that start fresh instead of being taken over"},
    )
    init_decoder_from: Optional[str] = field(
        default=None,
        metadata={
            "help": "checkpoint of stage 2 or 3 with the same vocabulary: the decoder is taken "
            "over, with the CTC head if it has one; fresh without"
        },
    )
    freeze_encoder: bool = field(
        default=False, metadata={"help": "keep the encoder as it is (the paper's stage 3)"}
    )
    freeze_encoder_updates: int = field(
        default=0,
        metadata={"help": "keep what was taken over of the encoder as it is for the first updates"},
    )
    freeze_encoder_layers: int = field(
        default=0, metadata={"help": "keep subsampling and the first Conformer layers as they are"}
    )
    encoder_lr_scale: float = field(
        default=1.0,
        metadata={"help": "the encoder's learning rate, fresh layers' too, over the decoder's"},
    )
    ctc: bool = field(default=True, metadata={"help": "put a CTC head on the encoder"})
    decoder_embed_dim: int = field(default=256, metadata={"help": "width of the decoder"})
    decoder_layers: int = field(default=6, metadata={"help": "decoder layers; 0: none, CTC alone"})
    decoder_attention_heads: int = field(default=4, metadata={"help": "decoder heads"})
    decoder_ffn_embed_dim: int = field(default=2048, metadata={"help": "decoder feed-forward"})
    max_target_positions: int = field(default=1024, metadata={"help": "longest target"})


class SpeechEncoder(FairseqEncoder):
    """The Conformer in fairseq's clothes, as much of it frozen as asked.

    What is frozen runs without dropout and neither gets gradients nor changes. What thaws later
    must keep ``requires_grad``, for fairseq gives the optimizer only what has it at the start.

    Attributes:
        given_states: what comes in is the Conformer's stored output, not filterbanks.
    """

    given_states = False

    def __init__(
        self, conformer: ConformerEncoder, dim: int, vocabulary: int | None, freezing: Freezing
    ) -> None:
        super().__init__(None)
        self.audio_encoder = conformer
        self.freezing = freezing
        self.num_updates = 0
        self.ctc_projection = nn.Linear(dim, vocabulary) if vocabulary else None
        for module in freezing.always(conformer):
            module.requires_grad_(False)

    @property
    def held(self) -> list[nn.Module]:
        """The parts of the Conformer that are frozen at this update."""
        return self.freezing.at_update(self.audio_encoder, self.num_updates)

    def train(self, mode: bool = True) -> "SpeechEncoder":
        super().train(mode)
        for module in self.held:
            module.eval()
        return self

    def set_num_updates(self, num_updates: int) -> None:
        """Thaw when it is time; fairseq says so after it has set the mode of training."""
        super().set_num_updates(num_updates)
        waited, self.num_updates = self.thaws, num_updates
        if waited and not self.thaws and num_updates != AFTER_LAST_UPDATE:
            logger.info("update %d: what of the encoder waited learns from now on", num_updates)
        self.train(self.training)

    @property
    def thaws(self) -> bool:
        """Whether more is frozen now than will be later, so that the optimizer holds it."""
        return not self.freezing.whole and self.num_updates < self.freezing.updates

    def drop_held_gradients(self) -> None:
        """Distributed training puts zeros for absent ones, and weight decay would act."""
        for module in self.held:
            for parameter in module.parameters():
                parameter.grad = None

    def forward(self, src_tokens: Tensor, src_lengths: Tensor, **unused) -> dict[str, list[Tensor]]:
        """``src_tokens`` ``(B, T, F)`` -> fairseq's encoder output (states ``(T, B, D)``)."""
        encoded = self._encode(src_tokens, src_lengths)
        logits = self.ctc_projection(encoded.states) if self.ctc_projection else None
        return {
            "encoder_out": [encoded.states.transpose(0, 1)],
            "encoder_padding_mask": [encoded.padding],
            "encoder_embedding": [],
            "encoder_states": [],
            "src_tokens": [],
            "src_lengths": [encoded.lengths],
            "ctc_logits": [] if logits is None else [logits.transpose(0, 1)],  # (T, B, V)
        }

    def _encode(self, source: Tensor, lengths: Tensor) -> EncodedAudio:
        if self.given_states:
            return EncodedAudio(source, padding_mask(lengths, source.size(1)), lengths, [])
        with without_gradients(self.held):
            return self.audio_encoder(source, lengths)

    def reorder_encoder_out(self, encoder_out: dict, new_order: Tensor) -> dict:
        return S2TTransformerEncoder.reorder_encoder_out(self, encoder_out, new_order)

    def max_positions(self) -> None:
        return None


@register_model("mmpt_speech_to_text", dataclass=SpeechToTextModelConfig)
class SpeechToTextModel(FairseqEncoderDecoderModel):
    """Conformer encoder, CTC head, Transformer decoder; one of the latter two may be missing.

    fairseq wants a decoder in every such model: without layers it is never asked.
    """

    @property
    def has_decoder(self) -> bool:
        """Whether there is attention to train and to decode with."""
        return len(self.decoder.layers) > 0

    @classmethod
    def build_model(cls, cfg: SpeechToTextModelConfig, task) -> "SpeechToTextModel":
        if not cfg.ctc and not cfg.decoder_layers:
            raise InputError(
                "model.ctc=false and model.decoder_layers=0 leave nothing that writes; set one"
            )
        check_heads(cfg, "decoder")
        dictionary = task.target_dictionary
        encoder = SpeechEncoder(
            build_conformer(cfg),
            cfg.encoder_embed_dim,
            len(dictionary) if cfg.ctc else None,
            Freezing.from_config(cfg),
        )
        if cfg.encoder_lr_scale != 1.0:
            mark_encoder(encoder.audio_encoder)
        embed = Embedding(len(dictionary), cfg.decoder_embed_dim, dictionary.pad())
        return cls(encoder, TransformerDecoderBase(_decoder_config(cfg), dictionary, embed))

    def forward(
        self, src_tokens: Tensor, src_lengths: Tensor, prev_output_tokens: Tensor
    ) -> tuple[Tensor | None, dict]:
        """Logits ``(B, L, V)`` and the decoder's extras with ``encoder_out`` among them.

        Without a decoder the logits are None.
        """
        encoder_out = self.encoder(src_tokens, src_lengths)
        if not self.has_decoder:
            return None, {"encoder_out": encoder_out}
        logits, extra = self.decoder(prev_output_tokens, encoder_out=encoder_out)
        return logits, {**extra, "encoder_out": encoder_out}

    def get_ctc_output(self, net_output: tuple[Tensor, dict], sample: dict):
        """Log probabilities ``(T, B, V)`` and lengths ``(B,)``, as fairseq's CTC term asks.

        A row without CTC target gets length 0: nothing is said with certainty, at no loss. With its
        true length it would be taught to be silent.
        """
        encoder_out = net_output[1]["encoder_out"]
        if not encoder_out["ctc_logits"]:
            raise InputError(
                "criterion.ctc_weight is above 0 but model.ctc is false; set one to fit the other"
            )
        lprobs, lengths = ctc_log_probabilities(encoder_out)
        return lprobs.transpose(0, 1), lengths.masked_fill(sample["ctc_target_lengths"] == 0, 0)

    def get_ctc_target(self, sample: dict) -> tuple[Tensor, Tensor]:
        """Targets ``(B, L)`` and lengths ``(B,)`` for CTC, as the dataset collated them."""
        return sample["ctc_target"], sample["ctc_target_lengths"]


def ctc_log_probabilities(encoder_out: dict[str, list[Tensor]]) -> tuple[Tensor, Tensor]:
    """``(B, T, V)`` of each label, in single precision, and lengths ``(B,)``, of what an encoder
    with a CTC head puts out."""
    lprobs = encoder_out["ctc_logits"][0].float().log_softmax(-1).transpose(0, 1)
    return lprobs, encoder_out["src_lengths"][0]


def _decoder_config(cfg: SpeechToTextModelConfig) -> TransformerConfig:
    """fairseq's decoder configuration from ours."""
    decoder = TransformerConfig()
    decoder.decoder.embed_dim = cfg.decoder_embed_dim
    decoder.decoder.input_dim = cfg.decoder_embed_dim
    decoder.decoder.output_dim = cfg.decoder_embed_dim
    decoder.decoder.ffn_embed_dim = cfg.decoder_ffn_embed_dim
    decoder.decoder.layers = cfg.decoder_layers
    decoder.decoder.attention_heads = cfg.decoder_attention_heads
    decoder.decoder.normalize_before = True
    decoder.encoder.embed_dim = cfg.encoder_embed_dim  # the width of what it attends to
    decoder.share_decoder_input_output_embed = True
    decoder.dropout = cfg.dropout
    decoder.attention_dropout = cfg.dropout
    decoder.activation_dropout = cfg.dropout
    decoder.max_target_positions = cfg.max_target_positions
    return decoder
