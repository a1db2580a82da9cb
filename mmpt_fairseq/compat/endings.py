"""How fairseq's trainings end: not before the first update, and with a checkpoint."""

import logging
import types

from manifests.errors import exit_with_message

logger = logging.getLogger(__name__)


def check_first_rate(trainer) -> None:
    """End a training that would stop at ``stop_min_lr`` before its first update."""
    limit = trainer.cfg.optimization.stop_min_lr
    if limit >= 0 and not trainer.get_num_updates() and trainer.get_lr() <= limit:
        exit_with_message(
            f"the first update's learning rate {trainer.get_lr():g} is not above "
            f"optimization.stop_min_lr={limit:g}, so training would end before it; lower that, or "
            "do without a warm-up from a lower rate"
        )


def stop_when_finished(train: types.ModuleType) -> None:
    """End a training that is already finished before it makes another update.

    fairseq checks for the end only after an update or a validation: a finished training that is
    started again would make one more update and save it as its best.
    """
    train_epoch = train.train
    early_stopping = vars(train.should_stop_early)

    def train_unless_done(cfg, trainer, task, batches) -> tuple[list[float | None], bool]:
        done, max_update = trainer.get_num_updates(), cfg.optimization.max_update
        if 0 < max_update <= done:
            message = "done: %d of %d updates; raise optimization.max_update to continue"
            logger.info(message, done, max_update)
            return [None], True
        # That of the loaded checkpoint: what this process adds, fairseq itself stops and saves.
        spent = trainer._previous_training_time / 3600
        limit = cfg.optimization.stop_time_hours
        if 0 < limit <= spent:
            message = "done: %.2f of %.2f hours; raise optimization.stop_time_hours to continue"
            logger.info(message, spent, limit)
            return [None], True
        not_improved, patience = early_stopping.get("num_runs", 0), cfg.checkpoint.patience
        if 0 < patience <= not_improved:
            message = (
                "done: %d validations without improvement; raise checkpoint.patience to continue"
            )
            logger.info(message, not_improved)
            return [None], True
        return train_epoch(cfg, trainer, task, batches)

    train.train = train_unless_done


def save_after_the_last_epoch(train: types.ModuleType) -> None:
    """Validate and save when ``max_epoch`` or ``stop_min_lr`` ends a training.

    fairseq leaves that to ``save_interval``; where checkpoints are written every so many updates,
    the updates since the last one would be lost.
    """
    validate_and_save = train.validate_and_save

    def and_after_the_last_epoch(
        cfg, trainer, task, epoch_itr, subsets: list[str], end_of_epoch: bool
    ) -> tuple[list[float | None], bool]:
        losses, stops = validate_and_save(cfg, trainer, task, epoch_itr, subsets, end_of_epoch)
        limits = cfg.optimization
        last = 0 < limits.max_epoch <= epoch_itr.epoch or trainer.get_lr() <= limits.stop_min_lr
        saved = stops or epoch_itr.epoch % cfg.checkpoint.save_interval == 0
        if end_of_epoch and last and not saved:
            if losses[0] is None and not cfg.dataset.disable_validation:
                losses = train.validate(cfg, trainer, task, epoch_itr, subsets)
            train.checkpoint_utils.save_checkpoint(cfg.checkpoint, trainer, epoch_itr, losses[0])
        return losses, stops

    train.validate_and_save = and_after_the_last_epoch
