"""Stages 2 and 3: the pre-trained Conformer, a CTC head and fairseq's Transformer decoder."""

import logging
from dataclasses import dataclass, field
from typing import Optional

from fairseq.models import FairseqEncoder, FairseqEncoderDecoderModel, register_model
from fairseq.models.speech_to_text.s2t_transformer import S2TTransformerEncoder
from fairseq.models.transformer import Embedding, TransformerConfig, TransformerDecoderBase
from torch import Tensor, nn

from manifests.errors import InputError
from mmpt_fairseq.models.encoder_config import (
    ConformerConfig,
    build_conformer,
    check_at_least,
    check_heads,
)
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
    """Defaults: encoder sizes of ``base``, decoder sizes of fairseq's S2T models."""

    init_encoder_from: Optional[str] = field(
        default=None,
        metadata={"help": "checkpoint of an earlier stage to initialise the encoder from"},
    )
    fresh_encoder_layers: int = field(
        default=0,
        metadata={"help": "number of last Conformer layers to initialise at random all the same"},
    )
    init_decoder_from: Optional[str] = field(
        default=None,
        metadata={
            "help": "checkpoint of stage 2 or 3 with the same vocabulary to initialise the decoder "
            "from, and the CTC head if it has one; unset: random"
        },
    )
    freeze_encoder: bool = field(
        default=False, metadata={"help": "freeze the encoder (the paper's stage 3)"}
    )
    freeze_encoder_updates: int = field(
        default=0,
        metadata={"help": "freeze what init_encoder_from initialised for this number of updates"},
    )
    freeze_encoder_layers: int = field(
        default=0,
        metadata={"help": "freeze the subsampling and this number of first Conformer layers"},
    )
    encoder_lr_scale: float = field(
        default=1.0,
        metadata={"help": "ratio of the encoder's learning rate (all layers) to the decoder's"},
    )
    ctc: bool = field(default=True, metadata={"help": "add a CTC head to the encoder"})
    decoder_embed_dim: int = field(default=256, metadata={"help": "width of the decoder"})
    decoder_layers: int = field(default=6, metadata={"help": "decoder layers; 0: CTC only"})
    decoder_attention_heads: int = field(default=4, metadata={"help": "decoder heads"})
    decoder_ffn_embed_dim: int = field(default=2048, metadata={"help": "decoder FFN width"})
    max_target_positions: int = field(default=1024, metadata={"help": "longest target in tokens"})


class SpeechEncoder(FairseqEncoder):
    """The Conformer as a FairseqEncoder with an optional CTC head, frozen as configured.

    Frozen parts run without dropout and get neither gradients nor updates. Parts that are unfrozen
    later keep ``requires_grad``: fairseq's optimizer takes only parameters that have it at the
    start.

    Attributes:
        given_states: the input is the Conformer's stored output, not filterbanks.
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
    def frozen_modules(self) -> list[nn.Module]:
        """The modules of the Conformer that are frozen at this update."""
        return self.freezing.at_update(self.audio_encoder, self.num_updates)

    def train(self, mode: bool = True) -> "SpeechEncoder":
        super().train(mode)
        for module in self.frozen_modules:
            module.eval()
        return self

    def set_num_updates(self, num_updates: int) -> None:
        """Unfreeze what is due; fairseq calls this after ``train()``."""
        super().set_num_updates(num_updates)
        was_frozen, self.num_updates = self.will_unfreeze, num_updates
        if was_frozen and not self.will_unfreeze and num_updates != AFTER_LAST_UPDATE:
            logger.info("update %d: encoder layers frozen until now are unfrozen", num_updates)
        self.train(self.training)

    @property
    def will_unfreeze(self) -> bool:
        """Whether parts that are frozen now will be unfrozen, and so are in the optimizer."""
        return not self.freezing.whole and self.num_updates < self.freezing.updates

    def drop_frozen_gradients(self) -> None:
        """Remove gradients of frozen parts, so that weight decay does not act on them.

        Distributed training replaces missing gradients by zeros.
        """
        for module in self.frozen_modules:
            for parameter in module.parameters():
                parameter.grad = None

    def forward(self, src_tokens: Tensor, src_lengths: Tensor, **unused) -> dict[str, list[Tensor]]:
        """``src_tokens`` ``(B, T, F)`` -> fairseq's encoder output with states ``(T, B, D)``."""
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
        with without_gradients(self.frozen_modules):
            return self.audio_encoder(source, lengths)

    def reorder_encoder_out(self, encoder_out: dict, new_order: Tensor) -> dict:
        return S2TTransformerEncoder.reorder_encoder_out(self, encoder_out, new_order)

    def max_positions(self) -> None:
        return None


@register_model("mmpt_speech_to_text", dataclass=SpeechToTextModelConfig)
class SpeechToTextModel(FairseqEncoderDecoderModel):
    """Conformer encoder, CTC head, Transformer decoder; one of the latter two may be missing.

    fairseq requires a decoder object in every such model; one without layers is never called.
    """

    @property
    def has_decoder(self) -> bool:
        """Whether there is an attention decoder, for training and decoding."""
        return len(self.decoder.layers) > 0

    @classmethod
    def build_model(cls, cfg: SpeechToTextModelConfig, task) -> "SpeechToTextModel":
        check_at_least(0, cfg, "decoder_layers")
        check_at_least(1, cfg, "decoder_ffn_embed_dim", "max_target_positions")
        if not cfg.ctc and not cfg.decoder_layers:
            raise InputError(
                "model.ctc=false and model.decoder_layers=0 leave no output layer; set one of them"
            )
        check_heads(cfg, "decoder")
        dictionary = task.target_dictionary
        encoder = SpeechEncoder(
            build_conformer(cfg),
            cfg.encoder_embed_dim,
            len(dictionary) if cfg.ctc else None,
            Freezing.from_config(cfg),
        )
        # Not always: fairseq's composite optimizer must have a config for every marked group.
        if cfg.encoder_lr_scale != 1.0 or cfg.freeze_encoder_updates:
            mark_encoder(encoder.audio_encoder)
        embed = Embedding(len(dictionary), cfg.decoder_embed_dim, dictionary.pad())
        return cls(encoder, TransformerDecoderBase(_decoder_config(cfg), dictionary, embed))

    def forward(
        self, src_tokens: Tensor, src_lengths: Tensor, prev_output_tokens: Tensor
    ) -> tuple[Tensor | None, dict]:
        """Logits ``(B, L, V)``, None without a decoder, and its extras plus ``encoder_out``."""
        encoder_out = self.encoder(src_tokens, src_lengths)
        if not self.has_decoder:
            return None, {"encoder_out": encoder_out}
        logits, extra = self.decoder(prev_output_tokens, encoder_out=encoder_out)
        return logits, {**extra, "encoder_out": encoder_out}

    def get_ctc_output(self, net_output: tuple[Tensor, dict], sample: dict):
        """Log probabilities ``(T, B, V)`` and lengths ``(B,)`` for fairseq's CTC loss.

        A row without CTC target gets length 0, and so no loss; with its true length it would be
        trained to output only blanks.
        """
        encoder_out = net_output[1]["encoder_out"]
        if not encoder_out["ctc_logits"]:
            raise InputError(
                "criterion.ctc_weight is above 0 but model.ctc is false; set "
                "criterion.ctc_weight=0 or model.ctc=true"
            )
        lprobs, lengths = ctc_log_probabilities(encoder_out)
        return lprobs.transpose(0, 1), lengths.masked_fill(sample["ctc_target_lengths"] == 0, 0)

    def get_ctc_target(self, sample: dict) -> tuple[Tensor, Tensor]:
        """Targets ``(B, L)`` and lengths ``(B,)`` for CTC, as collated by the dataset."""
        return sample["ctc_target"], sample["ctc_target_lengths"]


def ctc_log_probabilities(encoder_out: dict[str, list[Tensor]]) -> tuple[Tensor, Tensor]:
    """Log probabilities ``(B, T, V)``, in single precision, and lengths ``(B,)`` of the CTC head.

    Args:
        encoder_out: output of :class:`SpeechEncoder`.
    """
    lprobs = encoder_out["ctc_logits"][0].float().log_softmax(-1).transpose(0, 1)
    return lprobs, encoder_out["src_lengths"][0]


def _decoder_config(cfg: SpeechToTextModelConfig) -> TransformerConfig:
    """Convert our config to fairseq's decoder config."""
    decoder = TransformerConfig()
    decoder.decoder.embed_dim = cfg.decoder_embed_dim
    decoder.decoder.input_dim = cfg.decoder_embed_dim
    decoder.decoder.output_dim = cfg.decoder_embed_dim
    decoder.decoder.ffn_embed_dim = cfg.decoder_ffn_embed_dim
    decoder.decoder.layers = cfg.decoder_layers
    decoder.decoder.attention_heads = cfg.decoder_attention_heads
    decoder.decoder.normalize_before = True
    decoder.encoder.embed_dim = cfg.encoder_embed_dim  # width of the cross-attention's input
    decoder.share_decoder_input_output_embed = True
    decoder.dropout = cfg.dropout
    decoder.attention_dropout = cfg.dropout
    decoder.activation_dropout = cfg.dropout
    decoder.max_target_positions = cfg.max_target_positions
    return decoder
