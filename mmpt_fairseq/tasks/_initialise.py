"""Where a training of stage 2 or 3 starts: earlier stages' parts, or a checkpoint of its own."""

import logging
import os
from typing import TYPE_CHECKING

from fairseq.dataclass import FairseqDataclass

from manifests.errors import InputError
from mmpt_fairseq.checkpoint import (
    encoder_digest,
    load_checkpoint,
    load_decoder,
    load_encoder,
    settings_of,
)
from mmpt_fairseq.models.freezing import Freezing
from mmpt_fairseq.models.speech_to_text import SpeechToTextModel
from mmpt_fairseq.tasks._start import restored

if TYPE_CHECKING:
    from mmpt_fairseq.tasks.speech_to_text import ManifestSpeechToTextTask

logger = logging.getLogger(__name__)


def initialise(
    task: "ManifestSpeechToTextTask", model: SpeechToTextModel, cfg: FairseqDataclass
) -> None:
    """Parts of earlier stages for a training that starts; a resumed one brings its own.

    Args:
        cfg: the model's.

    Raises:
        InputError: a checkpoint that is missing, of something else or of another vocabulary, or
            none that a training can go on from.
    """
    freezing = Freezing.from_config(cfg)
    if freezing != Freezing():
        logger.info("%s", freezing)
    resumed = restored(task.cfg)
    if resumed is not None:
        # fairseq loads the weights; it would not look at the vocabulary.
        checkpoint = load_checkpoint(resumed)
        _check_goes_on(task.cfg, resumed, checkpoint)
        state = checkpoint.get("task_state", {})
        if not state.get("vocabulary"):
            raise InputError(
                f"{resumed}, from which this training would go on, is of another stage; give each "
                "training a checkpoint.save_dir of its own"
            )
        task.check_vocabulary(state)
        if task.states is not None:
            task.states.check_resumed(state.get("states_of"), resumed)
        if resumed == task.cfg.finetune_from_model:
            _refuse_two_beginnings(cfg)
        else:
            _tell_what_is_not_looked_at(cfg, resumed, checkpoint)
        return
    if cfg.init_encoder_from:
        load_encoder(model.encoder.audio_encoder, cfg.init_encoder_from, cfg.fresh_encoder_layers)
    elif freezing != Freezing():
        raise InputError(
            "model.freeze_encoder* would freeze an encoder that was never trained; set "
            "model.init_encoder_from to a checkpoint of stage 1 or 2"
        )
    else:
        logger.info("the encoder starts from scratch (model.init_encoder_from is not set)")
    if task.states is not None:
        task.states.check(encoder_digest(model.encoder.audio_encoder))
    if cfg.init_decoder_from:
        load_decoder(model, cfg.init_decoder_from, task.state_dict())


def _check_goes_on(cfg: FairseqDataclass, path: str, checkpoint: dict) -> None:
    """Raise InputError where fairseq would count updates from 0 in an epoch far on, unasked.

    It restores their number with the optimizer alone. ``finetune_from_model`` starts all anew.
    """
    anew = cfg.reset_optimizer or path == cfg.finetune_from_model
    if checkpoint.get("last_optimizer_state") is None and not anew:
        raise InputError(
            f"{path} has no state of an optimizer (it is an average, or was saved with "
            "checkpoint.no_save_optimizer_state), so that going on from it would repeat warm-up "
            "and freezing; start a training in another folder with model.init_encoder_from or "
            "checkpoint.finetune_from_model, or decode with it"
        )


def _refuse_two_beginnings(cfg: FairseqDataclass) -> None:
    for name in ("init_encoder_from", "init_decoder_from"):
        if getattr(cfg, name):
            raise InputError(
                f"model.{name} has no effect beside checkpoint.finetune_from_model, which brings "
                "all weights; leave one out"
            )


def _tell_what_is_not_looked_at(cfg: FairseqDataclass, path: str, checkpoint: dict) -> None:
    """Warn where a training that goes on is told to begin with other parts than it did.

    Its further checkpoints say, as those before, where it did.
    """
    began = settings_of(checkpoint, "model")
    for name in ("init_encoder_from", "init_decoder_from"):
        told = getattr(cfg, name)
        before = began.get(name) or ""
        if told and os.path.realpath(told) != os.path.realpath(before):
            logger.warning(
                "model.%s=%s is not looked at: the training goes on from %s, which began with %s; "
                "to begin anew give another checkpoint.save_dir",
                name,
                told,
                path,
                before or "none",
            )
            setattr(cfg, name, began.get(name))
