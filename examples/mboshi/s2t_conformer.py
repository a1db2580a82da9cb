"""Baseline: fairseq's own ``s2t_conformer`` on the same transcripts, by plain ``fairseq-train``.

fairseq's task, model, dataset, loss and search, with the settings of its published speech-to-text
recipes (``examples/speech_to_text`` in fairseq): utterance CMVN and SpecAugment, Adam, inverse
square root schedule, learning rate 0.002, gradient clipping at 10, label smoothing 0.1, beam 5. The
recipes are for hundreds of hours on 8 GPUs, hence these differences: model and batch sizes are
those of our systems, the warm-up is a tenth of the updates that fit into the time, SpecAugment's
time masks cover at most a fifth of these short clips, as in ours, and the checkpoint with the
lowest validation loss is decoded, as in ours, not an average.

It reads the same cached filterbanks and the same dictionary. ``--user-dir mmpt_fairseq`` is needed
only for ``compat``, without which torch 2.6 and later cannot load fairseq's checkpoints.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

from examples.stages import data_files, run_step
from manifests.common import atomic_path
from manifests.vocabulary import SPECAUGMENT

CONFIG = "config_s2t_conformer.yaml"
# Fraction of the updates; the recipes have 10,000 of 100,000 (MuST-C) and of 300,000 (LibriSpeech).
WARMUP = 0.1
NEVER = str(10**9)


def warmup(updates: int) -> int:
    """Number of warm-up updates of a training, for all systems."""
    return max(1, round(WARMUP * updates))


@dataclass(frozen=True)
class Size:
    """Model and batch sizes shared by all systems of the comparison."""

    layers: int = 4
    width: int = 128
    decoder_layers: int = 2
    heads: int = 4
    kernel: int = 15
    max_tokens: int = 2000

    def encoder_overrides(self) -> list[str]:
        """Hydra overrides of our configs for the encoder, in all stages."""
        return [
            f"model.encoder_embed_dim={self.width}",
            f"model.encoder_layers={self.layers}",
            f"model.encoder_ffn_embed_dim={4 * self.width}",
            f"++model.encoder_attention_heads={self.heads}",
            f"model.depthwise_conv_kernel_size={self.kernel}",
        ]

    def model_overrides(self) -> list[str]:
        """Overrides for stages 2 and 3, equivalent to :meth:`fairseq_options`."""
        return [
            *self.encoder_overrides(),
            f"model.decoder_embed_dim={self.width}",
            f"model.decoder_layers={self.decoder_layers}",
            f"model.decoder_attention_heads={self.heads}",
            f"model.decoder_ffn_embed_dim={4 * self.width}",
            f"dataset.max_tokens={self.max_tokens}",
        ]

    def fairseq_options(self) -> list[str]:
        """Options of ``s2t_conformer``; relative positions as in the Conformer paper."""
        return [
            *("--arch", "s2t_conformer", "--share-decoder-input-output-embed"),
            *("--attn-type", "espnet", "--pos-enc-type", "rel_pos"),
            *("--encoder-embed-dim", str(self.width), "--encoder-layers", str(self.layers)),
            *("--encoder-ffn-embed-dim", str(4 * self.width)),
            *("--encoder-attention-heads", str(self.heads)),
            *("--depthwise-conv-kernel-size", str(self.kernel)),
            *("--conv-channels", str(2 * self.width)),
            *("--decoder-layers", str(self.decoder_layers)),
            *("--decoder-embed-dim", str(self.width)),
            *("--decoder-ffn-embed-dim", str(4 * self.width)),
            *("--decoder-attention-heads", str(self.heads)),
            *("--max-tokens", str(self.max_tokens)),
        ]


def write_data_config(folder: Path) -> None:
    """Write fairseq's S2T data config into ``folder``, with its manifests and vocabulary."""
    config = {
        "audio_root": str(folder.absolute()),
        "vocab_filename": "dict.txt",
        "bpe_tokenizer": {
            "bpe": "sentencepiece",
            "sentencepiece_model": str((folder / "spm.model").absolute()),
        },
        "input_channels": 1,
        "input_feat_per_channel": 80,
        "shuffle": True,
        "specaugment": SPECAUGMENT,
        "feature_transforms": {
            "*": ["utterance_cmvn"],
            "_train": ["utterance_cmvn", "specaugment"],
        },
    }
    with atomic_path(folder / CONFIG) as partial:
        partial.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def train_conformer(
    data: Path,
    save_dir: Path,
    size: Size,
    seed: int,
    rate: float,
    seconds: float,
    updates: int,
    interval: int,
) -> Path:
    """Train for ``seconds`` as counted by fairseq; return the best checkpoint.

    Args:
        rate: peak learning rate; fairseq's published recipes have 0.002, for larger batches.
        updates: estimate of the updates that fit into the time, which determines the warm-up.
        interval: updates between validations and checkpoints.
    """
    command = [
        *("fairseq-train", str(data), "--user-dir", "mmpt_fairseq"),
        *("--task", "speech_to_text", "--config-yaml", CONFIG),
        *("--train-subset", "train", "--valid-subset", "valid", "--save-dir", str(save_dir)),
        *size.fairseq_options(),
        *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"),
        "--report-accuracy",
        *("--optimizer", "adam", "--lr", str(rate), "--clip-norm", "10.0"),
        *("--lr-scheduler", "inverse_sqrt", "--warmup-updates", str(warmup(updates))),
        *("--stop-time-hours", f"{seconds / 3600:.6f}"),
        *("--save-interval-updates", str(interval), "--keep-interval-updates", "1"),
        *("--save-interval", NEVER, "--validate-interval", NEVER, "--no-epoch-checkpoints"),
        # With fairseq's default of 8, a last batch whose size is not a multiple of 8 is dropped.
        *("--required-batch-size-multiple", "1", "--num-workers", "1", "--seed", str(seed)),
        *("--log-format", "json", "--log-interval", "5"),
        *("--tensorboard-logdir", str(save_dir / "tensorboard")),
    ]
    run_step(command, save_dir, data_files(data), updates)
    return save_dir / "checkpoint_best.pt"


def decode_conformer(
    checkpoint: Path, data: Path, split: str, results: Path, options: list[str]
) -> None:
    """Run ``fairseq-generate``, which writes a hypothesis for every row to ``results``."""
    command = [
        *("fairseq-generate", str(data), "--user-dir", "mmpt_fairseq"),
        *("--task", "speech_to_text", "--config-yaml", CONFIG),
        *("--path", str(checkpoint), "--gen-subset", split, "--results-path", str(results)),
        *("--max-tokens", "20000", "--required-batch-size-multiple", "1", "--scoring", "wer"),
        *options,
    ]
    run_step(command, results, [checkpoint, *data_files(data)])
