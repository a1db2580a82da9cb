"""What is amiss in fairseq's commands, mended where a command has been imported."""

import contextlib
import logging
import os
import pathlib
import re
import sys
import traceback
import types

from manifests.errors import exit_with_message, write_to_logs
from mmpt_fairseq.compat.configs import PARTS, check_names, differences, plain, saved_config

logger = logging.getLogger(__name__)


def _refusal(trainer, filename: str, error: Exception) -> str:
    """Why a training cannot begin with a checkpoint's weights, in a sentence."""
    reason = str(error).partition(";")[0].partition(" from checkpoint")[0]
    parts = PARTS[:4]  # what the weights and the optimizer's state hang on
    if other := differences(plain(trainer.cfg), saved_config(filename), parts):
        reason += f": {other}"
    save_dir = os.path.realpath(trainer.cfg.checkpoint.save_dir)
    if os.path.dirname(os.path.realpath(filename)) == save_dir:
        remedy = "repeat those, or give this training another checkpoint.save_dir"
    else:
        remedy = "give one with the same"
        if "init_encoder_from" in trainer.cfg.model:
            remedy += ", or begin with model.init_encoder_from"
    if reason.startswith("Optimizer"):
        remedy += ", or set checkpoint.reset_optimizer=true"
    return (
        f"{filename}, with whose weights this training would begin, is of one with other settings "
        f"of the model, objective or optimizer ({reason}); {remedy}"
    )


def _tell_other_settings(trainer, filename: str) -> None:
    if other := differences(plain(trainer.cfg), saved_config(filename), PARTS):
        logger.warning("this training goes on with other settings than before: %s", other)


def _is_chosen_alike(trainer, filename: str) -> bool:
    """Whether the best checkpoint of the training in a file was the best by the same metric.

    Otherwise its best value must not be compared with values of another.
    """
    ours, theirs = trainer.cfg.checkpoint, saved_config(filename).get("checkpoint", {})
    keys = "best_checkpoint_metric", "maximize_best_checkpoint_metric"
    alike = all(theirs.get(key, ours[key]) == ours[key] for key in keys)
    if not alike and trainer.is_data_parallel_master:
        logger.warning(
            "this training goes on by checkpoint.best_checkpoint_metric=%s, where it was %s: the "
            "next validation gives the best checkpoint so far",
            ours[keys[0]],
            theirs[keys[0]],
        )
    return alike


def _mend_resuming(train: types.ModuleType) -> None:
    """fairseq counts the validations without a better one in attributes of a function, which a
    resumed training starts anew: they travel in the checkpoint's ``extra_state``. And it ends in a
    traceback where the checkpoint in ``save_dir`` is of another training."""
    save, load = train.Trainer.save_checkpoint, train.Trainer.load_checkpoint
    counted = vars(train.should_stop_early)
    faults = "Cannot load model parameters", "Criterion does not match", "Optimizer does not match"

    def save_checkpoint(trainer, filename: str, extra_state: dict) -> str | None:
        # What it returns tells fairseq whether to call the task's post_save.
        return save(trainer, filename, {**extra_state, "early_stopping": dict(counted)})

    def load_checkpoint(
        trainer,
        filename: str,
        reset_optimizer: bool = False,
        reset_lr_scheduler: bool = False,
        optimizer_overrides: dict | None = None,
        reset_meters: bool = False,
    ) -> dict | None:
        resets = reset_optimizer, reset_lr_scheduler, optimizer_overrides, reset_meters
        try:
            extra_state = load(trainer, filename, *resets)
        except Exception as error:  # fairseq raises just that
            if not str(error).startswith(faults):
                raise
            exit_with_message(_refusal(trainer, filename, error))
        if extra_state is not None and not (reset_optimizer or reset_meters):
            if _is_chosen_alike(trainer, filename):
                counted.update(extra_state.get("early_stopping", {}))
            else:
                extra_state.pop("best", None)
            if trainer.is_data_parallel_master:
                _tell_other_settings(trainer, filename)
        return extra_state

    train.Trainer.save_checkpoint = save_checkpoint
    train.Trainer.load_checkpoint = load_checkpoint


def _check_registered_names(train: types.ModuleType) -> None:
    add_defaults = train.add_defaults

    def with_names(cfg) -> None:
        check_names(cfg)
        add_defaults(cfg)

    train.add_defaults = with_names


def _mend_validation_scores(train: types.ModuleType) -> None:
    """fairseq looks the best checkpoint's metric up before a task can add to what was measured:
    ``validation_scores`` of a task that has it comes first."""
    get_valid_stats = train.get_valid_stats

    def with_scores(cfg, trainer, stats: dict, tracking_best: bool) -> dict:
        stats.update(getattr(trainer.task, "validation_scores", dict)())
        return get_valid_stats(cfg, trainer, stats, tracking_best)

    train.get_valid_stats = with_scores


def _mend_empty_batches(train: types.ModuleType) -> None:
    """An update's last batch tells fairseq whether all of them are empty: where a process's batches
    have come to an end, or hold no clip that can be used, it would forget how many clips those
    before were, and keep their gradients."""
    train_step = train.Trainer.train_step

    def sorted_train_step(trainer, samples: list, raise_oom: bool = False) -> dict | None:
        return train_step(trainer, sorted(samples, key=bool), raise_oom)

    train.Trainer.train_step = sorted_train_step


def _log_failures(train: types.ModuleType) -> None:
    """What ends a training is not lost with the terminal. Where gradients are not finite fairseq
    repeats the step to look for the place, by hooks that cannot take our modules' outputs and end
    in a fault of their own: it is repeated without them."""
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
                f"update {updates + 1}: {reason.rstrip('.')}; lower optimization.lr, or lengthen "
                "lr_scheduler.warmup_updates (crash.pt in checkpoint.save_dir has the weights "
                "before it)"
            )

    def train_and_tell(*args, **kwargs) -> tuple[list[float | None], bool]:
        try:
            return train_epoch(*args, **kwargs)
        except Exception:
            write_to_logs(traceback.format_exc())
            raise

    train.train, train.Trainer.train_step = train_and_tell, train_or_exit


def _explain_missing_pieces() -> None:
    """fairseq's task for language models ends in a traceback where its folder holds none."""
    task = sys.modules["fairseq.tasks.language_modeling"].LanguageModelingTask
    load, read_dictionary = task.load_dataset, task.setup_dictionary

    @contextlib.contextmanager
    def told(args):
        try:
            yield
        except FileNotFoundError:
            exit_with_message(
                f"{args.data} does not hold what a language model learns from; write it with "
                "python -m manifests.pieces, and give its folder as task.data"
            )

    def load_dataset(self, *args, **kwargs):
        with told(self.args):
            return load(self, *args, **kwargs)

    def setup_dictionary(cls, args, **kwargs) -> tuple:
        with told(args):
            return read_dictionary(args, **kwargs)

    task.load_dataset, task.setup_dictionary = load_dataset, classmethod(setup_dictionary)


def _explain_wrong_task() -> None:
    """fairseq-generate's default task, which is for text, ends in a traceback at our manifests."""
    task = sys.modules["fairseq.tasks.translation"].TranslationTask
    set_up = task.setup_task.__func__

    def setup_task(cls, cfg, **kwargs):
        folder = pathlib.Path(cfg.data)
        if any(folder.glob("*.tsv")) and not any(folder.glob("dict.*.txt")):
            exit_with_message(
                f"{folder} holds manifests, which fairseq-generate's default task does not read; "
                "add --task mmpt_speech_to_text"
            )
        return set_up(cls, cfg, **kwargs)

    task.setup_task = classmethod(setup_task)


def _stop_when_finished(train: types.ModuleType) -> None:
    """fairseq asks whether a training is over behind an update or a validation alone: one that had
    ended, started again, would make one more and keep it as its best."""
    train_epoch = train.train
    counted = vars(train.should_stop_early)

    def train_unless_done(cfg, trainer, task, batches) -> tuple[list[float | None], bool]:
        done, wanted = trainer.get_num_updates(), cfg.optimization.max_update
        if 0 < wanted <= done:
            sentence = "done: %d of %d updates; raise optimization.max_update to go on"
            logger.info(sentence, done, wanted)
            return [None], True
        without_better, patience = counted.get("num_runs", 0), cfg.checkpoint.patience
        if 0 < patience <= without_better:
            sentence = (
                "done: %d validations without a better one; raise checkpoint.patience to go on"
            )
            logger.info(sentence, without_better)
            return [None], True
        return train_epoch(cfg, trainer, task, batches)

    train.train = train_unless_done


def _explain_interrupts(sentence: str) -> None:
    """Ctrl-C ends fairseq's commands with a traceback through all of it; the exit status stays."""
    report = sys.excepthook

    def unless_interrupted(kind: type[BaseException], error: BaseException, trace) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print(f"\nmmpt_fairseq: {sentence}", file=sys.stderr)
        else:
            report(kind, error, trace)

    sys.excepthook = unless_interrupted


_mended: set[str] = set()  # commands of fairseq's


def mend_commands() -> None:
    """What is amiss in those of fairseq's commands that have been imported by now.

    The plugin may be imported before them: every task calls this once more as it is set up.
    """
    new = {"fairseq_cli.generate", "fairseq_cli.train"} & sys.modules.keys() - _mended
    _mended.update(new)
    if "fairseq_cli.generate" in new:
        _explain_interrupts("interrupted")
        _explain_wrong_task()
    if "fairseq_cli.train" in new:
        _explain_interrupts(
            "interrupted; the same command goes on from the last checkpoint, if one was written"
        )
        train = sys.modules["fairseq_cli.train"]
        _check_registered_names(train)
        _mend_resuming(train)
        _mend_validation_scores(train)
        _mend_empty_batches(train)
        _stop_when_finished(train)
        _explain_missing_pieces()
        _log_failures(train)


mend_commands()
