"""Initialisation in stages 2 and 3: from an earlier stage, or from the run's own checkpoint."""

import logging
import os
from typing import TYPE_CHECKING

from fairseq.dataclass import FairseqDataclass

from manifests.errors import InputError
from mmpt_fairseq.checkpoint import (
    encoder_digest,
    load_decoder,
    load_encoder,
    settings_of,
)
from mmpt_fairseq.models.freezing import Freezing
from mmpt_fairseq.models.speech_to_text import SpeechToTextModel
from mmpt_fairseq.tasks._start import loaded_checkpoint

if TYPE_CHECKING:
    from mmpt_fairseq.tasks.speech_to_text import ManifestSpeechToTextTask

logger = logging.getLogger(__name__)


def initialise(
    task: "ManifestSpeechToTextTask", model: SpeechToTextModel, cfg: FairseqDataclass
) -> None:
    """Load parts of earlier stages at the start of training; a resumed run keeps its own.

    Args:
        cfg: the model's config.

    Raises:
        InputError: a checkpoint is missing, of another kind or vocabulary, or not resumable.
    """
    freezing = Freezing.from_config(cfg)
    if freezing != Freezing():
        logger.info("%s", freezing)
    loaded = loaded_checkpoint(task.cfg)
    if loaded is not None:
        # fairseq loads the weights, but does not check the vocabulary.
        resumed, checkpoint = loaded
        state = checkpoint.get("task_state", {})
        if not state.get("vocabulary"):
            raise InputError(
                f"{resumed}, from which this run would resume, is of another stage; give each "
                "run its own checkpoint.save_dir"
            )
        task.check_vocabulary(state)
        if task.states is not None:
            task.states.check_resumed(state.get("states_of"), resumed)
        if resumed == task.cfg.finetune_from_model:
            _refuse_conflicting_init(cfg)
        else:
            _warn_of_ignored_init(cfg, resumed, checkpoint)
        return
    if cfg.init_encoder_from:
        load_encoder(model.encoder.audio_encoder, cfg.init_encoder_from, cfg.fresh_encoder_layers)
    elif freezing != Freezing():
        raise InputError(
            "model.freeze_encoder* would freeze an untrained encoder; set "
            "model.init_encoder_from to a checkpoint of stage 1 or 2"
        )
    else:
        logger.info("the encoder starts from scratch (model.init_encoder_from is not set)")
    if task.states is not None:
        task.states.check(encoder_digest(model.encoder.audio_encoder))
    if cfg.init_decoder_from:
        load_decoder(model, cfg.init_decoder_from, task.state_dict())


def _refuse_conflicting_init(cfg: FairseqDataclass) -> None:
    for name in ("init_encoder_from", "init_decoder_from"):
        if getattr(cfg, name):
            raise InputError(
                f"model.{name} has no effect beside checkpoint.finetune_from_model, which loads "
                "all weights; remove one of them"
            )


def _warn_of_ignored_init(cfg: FairseqDataclass, path: str, checkpoint: dict) -> None:
    """Warn if a resumed run is configured with another initialisation than it started from.

    The original setting is kept, so that later checkpoints still record it.
    """
    saved = settings_of(checkpoint, "model")
    for name in ("init_encoder_from", "init_decoder_from"):
        configured = getattr(cfg, name)
        previous = saved.get(name) or ""
        if configured and os.path.realpath(configured) != os.path.realpath(previous):
            logger.warning(
                "model.%s=%s is ignored: the run resumes from %s, which started with %s; "
                "to start over set another checkpoint.save_dir",
                name,
                configured,
                path,
                previous or "none",
            )
            setattr(cfg, name, saved.get(name))
