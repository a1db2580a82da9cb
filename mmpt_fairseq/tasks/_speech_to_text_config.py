"""Config of the task of stages 2 and 3, and the data config stored in its checkpoints."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Optional  # noqa: UP035 (what fairseq's argument parser understands)

from fairseq.data.audio.data_cfg import S2TDataConfig, get_config_from_yaml
from fairseq.data.audio.feature_transforms import CompositeAudioFeatureTransform
from fairseq.dataclass import ChoiceEnum
from omegaconf import II, MISSING

from manifests.errors import InputError, reason_of
from mmpt_fairseq.data.augment import Augmentation
from mmpt_fairseq.data.data_folder import DATA_CONFIG
from mmpt_fairseq.decoding.choice import Decoding
from mmpt_fairseq.tasks._config import TaskConfig

# Settings of the data folder, not of the model: they are not stored in checkpoints.
LOCAL_SETTINGS = ("audio_root",)


@dataclass
class SpeechToTextConfig(TaskConfig):
    """fairseq's ``speech_to_text`` as a dataclass, so that Hydra can configure it."""

    data: str = field(default=MISSING, metadata={"help": "folder of the manifests"})
    config_yaml: str = field(
        default=DATA_CONFIG, metadata={"help": "fairseq's S2T data config, in that folder"}
    )
    max_source_positions: int = field(
        default=6000, metadata={"help": "longest clip in filterbank frames (10 ms each)"}
    )
    max_target_positions: int = field(default=1024, metadata={"help": "longest target in tokens"})
    short_first_epochs: int = field(
        default=0, metadata={"help": "initial epochs that train on short clips only (a curriculum)"}
    )
    short_first_frames: int = field(
        default=150, metadata={"help": "longest clip of those epochs in filterbank frames"}
    )
    speeds: List[float] = field(  # noqa: UP006
        default_factory=lambda: list(Augmentation.speeds),
        metadata={"help": "speed perturbation: factors, one sampled for each training clip"},
    )
    noise_manifest: Optional[str] = field(
        default=None, metadata={"help": "manifest of noise (or of speech, for babble) to add"}
    )
    noise_probability: float = field(
        default=Augmentation.probability,
        metadata={"help": "fraction of training clips that noise is added to"},
    )
    noise_snr: List[float] = field(  # noqa: UP006
        default_factory=lambda: list(Augmentation.snr),
        metadata={"help": "lowest and highest signal-to-noise ratio in dB"},
    )
    noise_sources: int = field(
        default=Augmentation.sources,
        metadata={"help": "rows of the noise manifest summed into one noise; several give babble"},
    )
    ctc_text: ChoiceEnum(["target", "source"]) = field(
        default="target",
        metadata={
            "help": "text that the CTC term aligns: the target, or in stage 2 the manifest's "
            "src_text of rows that have one, which the vocabulary must cover"
        },
    )
    decoding: Decoding = field(
        default="attention",
        metadata={
            "help": "attention: fairseq's beam search on the decoder; joint: the same, combined "
            "with prefix scores of the CTC head; ctc: greedy on the CTC head; ctc_beam: prefix "
            "beam search on the CTC head, optionally with a language model"
        },
    )
    ctc_decoding_weight: float = field(
        default=0.3,
        metadata={"help": "weight of CTC in joint decoding; the decoder's weight is 1 minus this"},
    )
    eval_wer: bool = field(
        default=False, metadata={"help": "decode and report WER and CER at every validation"}
    )
    eval_bleu: bool = field(
        default=False, metadata={"help": "decode and report BLEU at every validation"}
    )
    eval_beam: int = II("generation.beam")
    eval_lenpen: float = II("generation.lenpen")
    eval_max_len_b: int = II("generation.max_len_b")
    results_path: Optional[str] = II("common_eval.results_path")
    post_process: Optional[str] = II("common_eval.post_process")
    gen_subset: str = II("dataset.gen_subset")
    lm_path: Optional[str] = II("generation.lm_path")


def check_metric(cfg: SpeechToTextConfig) -> None:
    """Raise InputError if checkpoints are to be selected by a score that is not measured."""
    metric = str(cfg.best_checkpoint_metric)
    measured = {"wer": "eval_wer", "cer": "eval_wer", "bleu": "eval_bleu"}.get(metric)
    if measured and not getattr(cfg, measured) and cfg.disable_validation is not True:
        raise InputError(
            f"checkpoint.best_checkpoint_metric={metric} is not measured; set "
            f"++task.{measured}=true, or checkpoint.best_checkpoint_metric=loss"
        )


class PortableDataConfig(S2TDataConfig):
    """fairseq's data config from a mapping, so that a checkpoint can carry it."""

    def __init__(self, config: dict, root: Path) -> None:
        self.config, self.root = config, root


def read_data_config(path: Path) -> dict:
    """The data config in a YAML file, without fairseq's normalisation.

    Raises:
        InputError: it is not valid YAML, or has values that fairseq cannot use.
    """
    try:
        config = _without_normalisation(get_config_from_yaml(path) or {})
        for names in config.get("feature_transforms", {}).values():
            CompositeAudioFeatureTransform.from_config_dict({**config, "feature_transforms": names})
        (config.get("bpe_tokenizer") or {}).get("bpe")
    except Exception as error:  # a wrong value may raise anything in fairseq
        raise InputError(
            f"{path} cannot be used ({type(error).__name__}: {reason_of(error)}); fix it, or "
            "rewrite it with python -m manifests.vocabulary"
        ) from None
    return config


def _without_normalisation(config: dict) -> dict:
    """Drop the CMVN of fairseq's recipes: all features are already normalised by our own."""
    ours = ("utterance_cmvn", "global_cmvn")
    transforms = {
        key: {split: [t for t in names if t not in ours] for split, names in config[key].items()}
        for key in ("transforms", "feature_transforms")
        if key in config
    }
    return {**config, **transforms}
