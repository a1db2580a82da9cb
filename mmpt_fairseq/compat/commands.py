"""Patches for fairseq's commands, applied once a command has been imported."""

import contextlib
import logging
import math
import os
import pathlib
import re
import sys
import traceback
import types

import torch

from manifests.errors import InputError, exit_with_message, write_to_logs
from mmpt_fairseq.compat.checkpoints import exit_if_unreadable, weights_as_average
from mmpt_fairseq.compat.configs import PARTS, check_names, differences, plain, saved_config
from mmpt_fairseq.compat.endings import (
    check_first_rate,
    save_after_the_last_epoch,
    stop_when_finished,
)
from mmpt_fairseq.compat.settings import check_settings

logger = logging.getLogger(__name__)

# What fairseq's statistics of a validation hold beside scores.
NO_SCORES = {"num_updates", "wps", "ups", "wpb", "bsz", "peak_rss_gb", "sample_size", "nsentences"}


def _refusal(trainer, filename: str, error: Exception) -> str:
    """Explain in one sentence why training cannot start from a checkpoint."""
    reason = str(error).partition(";")[0].partition(" from checkpoint")[0]
    parts = PARTS[:4]  # those that determine the weights and the optimizer state
    if other := differences(plain(trainer.cfg), saved_config(filename), parts):
        reason += f": {other}"
    save_dir = os.path.realpath(trainer.cfg.checkpoint.save_dir)
    if os.path.dirname(os.path.realpath(filename)) == save_dir:
        remedy = "use its settings, or set another checkpoint.save_dir"
    else:
        remedy = "give one with the same settings"
        if "init_encoder_from" in trainer.cfg.model:
            remedy += ", or start from model.init_encoder_from"
    if reason.startswith("Optimizer"):
        remedy += ", or set checkpoint.reset_optimizer=true"
    return (
        f"{filename}, from which this training would start, was trained with different settings "
        f"of the model, criterion or optimizer ({reason}); {remedy}"
    )


def _warn_of_changed_settings(trainer, saved: dict[str, dict]) -> None:
    if other := differences(plain(trainer.cfg), saved, PARTS):
        logger.warning("this run resumes with changed settings: %s", other)


def _same_best_metric(trainer, saved: dict[str, dict]) -> bool:
    """Whether the run with the ``saved`` config selected its best checkpoint by the same metric.

    Otherwise its best value is not comparable with this run's.
    """
    ours, theirs = trainer.cfg.checkpoint, saved.get("checkpoint", {})
    keys = "best_checkpoint_metric", "maximize_best_checkpoint_metric"
    changed = {key: ours[key] for key in keys if theirs.get(key, ours[key]) != ours[key]}
    if changed and trainer.is_data_parallel_master:
        logger.warning(
            "this run resumes with %s: its next validation gives the first best checkpoint",
            ", ".join(f"checkpoint.{k}={v} instead of {theirs[k]}" for k, v in changed.items()),
        )
    return not changed


def _patch_resuming(train: types.ModuleType) -> None:
    """Make early stopping survive resuming, and report a checkpoint of another training.

    fairseq counts validations without improvement in attributes of a function, which are reset on
    resuming: they are saved in the checkpoint's ``extra_state``. And if the checkpoint in
    ``save_dir`` is of another training, fairseq exits with a traceback.
    """
    save, load = train.Trainer.save_checkpoint, train.Trainer.load_checkpoint
    early_stopping = vars(train.should_stop_early)
    mismatches = (
        "Cannot load model parameters",
        "Criterion does not match",
        "Optimizer does not match",
    )

    def save_checkpoint(trainer, filename: str, extra_state: dict) -> str | None:
        # fairseq passes the returned path to the task's post_save.
        return save(trainer, filename, {**extra_state, "early_stopping": dict(early_stopping)})

    def load_checkpoint(
        trainer,
        filename: str,
        reset_optimizer: bool = False,
        reset_lr_scheduler: bool = False,
        optimizer_overrides: dict | None = None,
        reset_meters: bool = False,
    ) -> dict | None:
        resets = reset_optimizer, reset_lr_scheduler, optimizer_overrides, reset_meters
        averages = weights_as_average() if trainer.cfg.ema.store_ema else contextlib.nullcontext()
        try:
            with averages:
                extra_state = load(trainer, filename, *resets)
        except Exception as error:  # the type that fairseq raises
            if not str(error).startswith(mismatches):
                raise
            exit_with_message(_refusal(trainer, filename, error))
        if extra_state is not None and not (reset_optimizer or reset_meters):
            saved = saved_config(filename)
            if _same_best_metric(trainer, saved):
                early_stopping.update(extra_state.get("early_stopping", {}))
            else:
                extra_state.pop("best", None)
            if trainer.is_data_parallel_master:
                _warn_of_changed_settings(trainer, saved)
        if reset_optimizer:  # updates are counted from 0, so the time is too
            trainer._previous_training_time = 0
        check_first_rate(trainer)
        return extra_state

    train.Trainer.save_checkpoint = save_checkpoint
    train.Trainer.load_checkpoint = load_checkpoint


def _prepare_each_training(train: types.ModuleType) -> None:
    """Check the names of a training's parts, and forget the previous training in this process.

    Hydra runs all jobs of a sweep (``-m``) in one process, in which fairseq keeps best values,
    early stopping and TensorBoard's files.
    """
    add_defaults, early_stopping = train.add_defaults, vars(train.should_stop_early)
    writers = vars(train.progress_bar).get("_tensorboard_writers", {})

    def prepare(cfg) -> None:  # the first function that fairseq calls
        early_stopping.clear()
        vars(train.checkpoint_utils.save_checkpoint).pop("best", None)
        while writers:
            writers.popitem()[1].close()
        check_names(cfg)
        check_settings(cfg)
        add_defaults(cfg)

    train.add_defaults = prepare


def _patch_validation_scores(train: types.ModuleType) -> None:
    """Add the scores of a task's ``validation_scores`` method, if it has one, to the statistics.

    fairseq looks up the metric of the best checkpoint before a task can add to them. If there is no
    such metric, the updates so far are saved.
    """
    get_valid_stats, validate = train.get_valid_stats, train.validate

    def with_scores(cfg, trainer, stats: dict, tracking_best: bool) -> dict:
        stats.update(getattr(trainer.task, "validation_scores", dict)())
        metric = cfg.checkpoint.best_checkpoint_metric
        if tracking_best and metric not in stats:
            finished = 0 < cfg.optimization.max_update <= trainer.get_num_updates()
            raise InputError(
                f"checkpoint.best_checkpoint_metric={metric} is not measured; set it to one of "
                f"{', '.join(sorted(stats.keys() - NO_SCORES))}"
                + (", raise optimization.max_update" if finished else "")
                + ", and run the command again: it resumes"
            )
        stats.setdefault(metric, math.nan)  # fairseq reads that of further splits, but ignores it
        return get_valid_stats(cfg, trainer, stats, tracking_best)

    def validate_or_save(cfg, trainer, task, epoch_itr, subsets: list[str]) -> list[float | None]:
        try:
            return validate(cfg, trainer, task, epoch_itr, subsets)
        except InputError as error:
            train.checkpoint_utils.save_checkpoint(cfg.checkpoint, trainer, epoch_itr, None)
            if torch.distributed.is_initialized():
                torch.distributed.barrier()  # a process that ends first ends the one that saves
            exit_with_message(str(error))

    train.get_valid_stats, train.validate = with_scores, validate_or_save


def _patch_empty_batches(train: types.ModuleType) -> None:
    """Sort the batches of an update so that empty ones come first.

    fairseq treats all batches as empty if the last one is. If a process has run out of batches, or
    one has no usable clip, it would drop the sample count of the others but keep their gradients.
    """
    train_step = train.Trainer.train_step

    def sorted_train_step(trainer, samples: list, raise_oom: bool = False) -> dict | None:
        return train_step(trainer, sorted(samples, key=bool), raise_oom)

    train.Trainer.train_step = sorted_train_step


def _log_failures(train: types.ModuleType) -> None:
    """Write the error that ends a training to its log.

    On non-finite gradients fairseq repeats the step with hooks (NanDetector) to find their origin.
    The hooks cannot handle our modules' outputs and fail themselves: they are disabled.
    """
    train_epoch, train_step = train.train, train.Trainer.train_step
    sys.modules[train.Trainer.__module__].NanDetector = contextlib.nullcontext

    def train_or_exit(trainer, *args, **kwargs) -> dict | None:
        try:
            return train_step(trainer, *args, **kwargs)
        except FloatingPointError as error:
            if not re.search("gradients are Nan|loss scale", str(error)):
                raise
            reason, updates = str(error).splitlines()[0], trainer.get_num_updates()
            exit_with_message(
                f"update {updates + 1}: {reason.rstrip('.')}; lower optimization.lr or raise "
                "lr_scheduler.warmup_updates (crash.pt in checkpoint.save_dir has the weights "
                "before this update)"
            )

    def train_and_log(*args, **kwargs) -> tuple[list[float | None], bool]:
        try:
            return train_epoch(*args, **kwargs)
        except Exception:
            write_to_logs(traceback.format_exc())
            raise

    train.train, train.Trainer.train_step = train_and_log, train_or_exit


def _explain_missing_lm_data() -> None:
    """Replace the traceback of fairseq's language modeling task for a missing data file."""
    task = sys.modules["fairseq.tasks.language_modeling"].LanguageModelingTask
    load, read_dictionary = task.load_dataset, task.setup_dictionary

    @contextlib.contextmanager
    def explained(args):
        try:
            yield
        except FileNotFoundError:
            exit_with_message(
                f"{args.data} does not contain language model training data; write it with "
                "python -m manifests.pieces and set task.data to its folder"
            )

    def load_dataset(self, *args, **kwargs):
        with explained(self.args):
            return load(self, *args, **kwargs)

    def setup_dictionary(cls, args, **kwargs) -> tuple:
        with explained(args):
            return read_dictionary(args, **kwargs)

    task.load_dataset, task.setup_dictionary = load_dataset, classmethod(setup_dictionary)


def _explain_wrong_task() -> None:
    """Replace the traceback of fairseq-generate's default task, which is for text, on manifests."""
    task = sys.modules["fairseq.tasks.translation"].TranslationTask
    set_up = task.setup_task.__func__

    def setup_task(cls, cfg, **kwargs):
        folder = pathlib.Path(cfg.data)
        if any(folder.glob("*.tsv")) and not any(folder.glob("dict.*.txt")):
            exit_with_message(
                f"{folder} contains manifests, which fairseq-generate's default task cannot read; "
                "add --task mmpt_speech_to_text"
            )
        return set_up(cls, cfg, **kwargs)

    task.setup_task = classmethod(setup_task)


def _explain_interrupts(sentence: str) -> None:
    """Replace the traceback of fairseq's commands on Ctrl-C; the exit status is unchanged."""
    report = sys.excepthook

    def without_traceback(kind: type[BaseException], error: BaseException, trace) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print(f"\nmmpt_fairseq: {sentence}", file=sys.stderr)
        else:
            report(kind, error, trace)

    sys.excepthook = without_traceback


_patched: set[str] = set()  # fairseq commands


def patch_commands() -> None:
    """Patch those of fairseq's commands that have been imported so far, each once.

    The plugin may be imported before them, so every task calls this again during setup.
    """
    new = {"fairseq_cli.generate", "fairseq_cli.train"} & sys.modules.keys() - _patched
    _patched.update(new)
    if new:
        exit_if_unreadable()
    if "fairseq_cli.generate" in new:
        _explain_interrupts("interrupted")
        _explain_wrong_task()
    if "fairseq_cli.train" in new:
        _explain_interrupts(
            "interrupted; the same command resumes from the last checkpoint, if one was written"
        )
        train = sys.modules["fairseq_cli.train"]
        _prepare_each_training(train)
        _patch_resuming(train)
        _patch_validation_scores(train)
        _patch_empty_batches(train)
        stop_when_finished(train)
        save_after_the_last_epoch(train)
        _explain_missing_lm_data()
        _log_failures(train)


patch_commands()
