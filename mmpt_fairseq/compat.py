"""Every workaround for a version of fairseq, torch, Hydra or omegaconf, each with its reason.

Importing this module applies them; it is the first thing that the package imports after fairseq.
What has an issue upstream names it; the rest was found in fairseq-fixed 0.12.3.1 and torch 2.13 by
reading them.
"""

import argparse
import collections
import contextlib
import difflib
import logging
import os
import pickle
import re
import shutil
import struct
import sys
import traceback
import types
import typing
import warnings

import numpy as np
import omegaconf
import torch
from fairseq import checkpoint_utils
from fairseq.data import Dictionary
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass import utils as dataclass_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager

from mmpt_fairseq.errors import InputError, exit_on_input_error, leave, write_down

logger = logging.getLogger(__name__)

# fairseq #5610: torch 2.6 loads with weights_only=True, which refuses what fairseq's checkpoints
# hold beside tensors. These are plain containers: none runs code when it is read.
SAFE_CLASSES = [
    argparse.Namespace,
    omegaconf.DictConfig,
    omegaconf.ListConfig,
    omegaconf.base.ContainerMetadata,
    omegaconf.base.Metadata,
    omegaconf.nodes.AnyNode,
    collections.defaultdict,
    dict,
    int,
    list,
    typing.Any,
    Dictionary,  # HuBERT's checkpoints carry theirs
    # fairseq's broadcast of the optimizer's state when several processes resume
    distributed_utils._TensorPlaceholder,
]
torch.serialization.add_safe_globals(SAFE_CLASSES)

_fairseq_load = checkpoint_utils.load_checkpoint_to_cpu


def load_checkpoint_to_cpu(path: str, *args, **kwargs) -> dict:
    """fairseq's loader, with a fault in the file said in one sentence.

    torch's own message for a refused pickle advises to switch the protection off.

    Raises:
        InputError: the file holds code, is cut short, or is no checkpoint of fairseq.
    """
    try:
        return _fairseq_load(path, *args, **kwargs)
    except pickle.UnpicklingError as error:
        _, named, rest = str(error).partition("GLOBAL ")
        culprit = rest.partition(" ")[0] if named else ""
        raise InputError(
            f"{path} was refused: it holds "
            + (f"{culprit}, which could run code" if culprit else "what no checkpoint holds")
            + "; nothing of it was run. Give a checkpoint that fairseq wrote"
        ) from None
    # torch reads a file of another kind as a pickle, and stumbles somewhere in it.
    except (EOFError, RuntimeError, IndexError, ValueError, struct.error) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path} is no readable checkpoint ({reason}); was it cut short?"
        ) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no checkpoint of fairseq ({type(error).__name__}: {error}); give one that "
            "fairseq-hydra-train wrote"
        ) from None


def _load_or_exit(path: str, *args, **kwargs) -> dict:
    with exit_on_input_error():
        return load_checkpoint_to_cpu(path, *args, **kwargs)


# For fairseq's own calls, on resuming and in fairseq-generate.
checkpoint_utils.load_checkpoint_to_cpu = _load_or_exit


_fairseq_ensemble = checkpoint_utils.load_model_ensemble_and_task


def _ensemble_or_exit(filenames: list[str], *args, **kwargs) -> tuple:
    """fairseq-generate's loader, which ends in a traceback where there is no such file."""
    try:
        return _fairseq_ensemble(filenames, *args, **kwargs)
    except OSError as error:
        _, missing, path = str(error).partition("Model file not found: ")
        if not missing:
            raise
        leave(f"there is no checkpoint {path}; mend --path")


checkpoint_utils.load_model_ensemble_and_task = _ensemble_or_exit


_fairseq_merge = dataclass_utils.merge_with_parent


def _merge_or_exit(dc: FairseqDataclass, cfg: omegaconf.DictConfig, *args, **kwargs):
    """fairseq's checking of a part's config against its dataclass, which ends in a traceback."""
    try:
        merged = _fairseq_merge(dc, cfg, *args, **kwargs)
    except omegaconf.errors.OmegaConfBaseException as error:
        part, key = cfg.get("_name"), error.full_key
        remedy = f" ({str(error.msg).splitlines()[0]}); correct it"
        if isinstance(error, omegaconf.errors.ConfigKeyError):
            near = difflib.get_close_matches(str(key), dc.__dataclass_fields__, n=1)
            remedy = f"; did you mean {near[0]}?" if near else "; leave it out"
            leave(f"{part} has no key {key}{remedy}")
        leave(f"{part} cannot take its {key}{remedy}")
    _check_cosine(merged)
    return merged


def _check_cosine(cfg: omegaconf.DictConfig) -> None:
    """The schedule divides by the updates that are left after its warm-up."""
    cosine = cfg.get("_name") == "cosine" and cfg.lr_period_updates <= 0
    if cosine and 0 < cfg.max_update < cfg.warmup_updates:
        sentence = "all %d updates lie in the warm-up of %d; set lr_scheduler.warmup_updates lower"
        logger.warning(sentence, cfg.max_update, cfg.warmup_updates)
    if cosine and cfg.max_update == cfg.warmup_updates:
        leave(
            f"optimization.max_update={cfg.max_update} ends with the warm-up; set "
            "lr_scheduler.warmup_updates lower"
        )


# Where fairseq checks every part before a training starts.
dataclass_utils.merge_with_parent = _merge_or_exit


def _go_on_as_before(train: types.ModuleType) -> None:
    """fairseq counts the validations without a better one in attributes of a function, which a
    resumed training starts anew: they travel in the checkpoint's ``extra_state``. And it ends in a
    traceback where the checkpoint in ``save_dir`` is of another training."""
    save, load = train.Trainer.save_checkpoint, train.Trainer.load_checkpoint
    counted = vars(train.should_stop_early)
    faults = "Cannot load model parameters", "Criterion does not match", "Optimizer does not match"

    def save_checkpoint(trainer, filename: str, extra_state: dict) -> None:
        save(trainer, filename, {**extra_state, "early_stopping": dict(counted)})

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
            reason = str(error).partition(";")[0].partition(" from checkpoint")[0]
            save_dir = os.path.realpath(trainer.cfg.checkpoint.save_dir)
            if os.path.dirname(os.path.realpath(filename)) == save_dir:
                remedy = "repeat those, or give this training another checkpoint.save_dir"
            else:
                remedy = "give one with the same, or begin with model.init_encoder_from"
            if reason.startswith("Optimizer"):
                remedy += ", or set checkpoint.reset_optimizer=true"
            leave(
                f"{filename}, with whose weights this training would begin, is of one with other "
                f"settings of the model, objective or optimizer ({reason}); {remedy}"
            )
        if extra_state is not None and not (reset_optimizer or reset_meters):
            counted.update(extra_state.get("early_stopping", {}))
        return extra_state

    train.Trainer.save_checkpoint = save_checkpoint
    train.Trainer.load_checkpoint = load_checkpoint


def _score_before_the_best(train: types.ModuleType) -> None:
    """fairseq looks the best checkpoint's metric up before a task can add to what was measured:
    ``validation_scores`` of a task that has it comes first."""
    get_valid_stats = train.get_valid_stats

    def with_scores(cfg, trainer, stats: dict, tracking_best: bool) -> dict:
        stats.update(getattr(trainer.task, "validation_scores", dict)())
        return get_valid_stats(cfg, trainer, stats, tracking_best)

    train.get_valid_stats = with_scores


def _empty_batches_first(train: types.ModuleType) -> None:
    """An update's last batch tells fairseq whether all of them are empty: where a process's batches
    have come to an end, or hold no clip that can be used, it would forget how many clips those
    before were, and keep their gradients."""
    train_step = train.Trainer.train_step

    def sorted_train_step(trainer, samples: list, raise_oom: bool = False) -> dict | None:
        return train_step(trainer, sorted(samples, key=bool), raise_oom)

    train.Trainer.train_step = sorted_train_step


def _end_in_the_log(train: types.ModuleType) -> None:
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
            leave(
                f"update {updates + 1}: {reason.rstrip('.')}; lower optimization.lr, or lengthen "
                "lr_scheduler.warmup_updates (crash.pt in checkpoint.save_dir has the weights "
                "before it)"
            )

    def train_and_tell(*args, **kwargs) -> tuple[list[float | None], bool]:
        try:
            return train_epoch(*args, **kwargs)
        except Exception:
            write_down(traceback.format_exc())
            raise

    train.train, train.Trainer.train_step = train_and_tell, train_or_exit


def _pieces_or_exit() -> None:
    """fairseq's task for language models ends in a traceback where its folder holds none."""
    task = sys.modules["fairseq.tasks.language_modeling"].LanguageModelingTask
    load, read_dictionary = task.load_dataset, task.setup_dictionary

    @contextlib.contextmanager
    def told(args):
        try:
            yield
        except FileNotFoundError:
            leave(
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


def _stop_when_done(train: types.ModuleType) -> None:
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


def _interrupted_in_a_sentence(sentence: str) -> None:
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
        _interrupted_in_a_sentence("interrupted")
    if "fairseq_cli.train" in new:
        _interrupted_in_a_sentence(
            "interrupted; the same command goes on from the last checkpoint, if one was written"
        )
        train = sys.modules["fairseq_cli.train"]
        _go_on_as_before(train)
        _score_before_the_best(train)
        _empty_batches_first(train)
        _stop_when_done(train)
        _pieces_or_exit()
        _end_in_the_log(train)


mend_commands()


def _copy_atomically(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
    """fairseq copies checkpoint_best.pt onto checkpoint_last.pt byte by byte: a kill meanwhile
    would leave a torso from which nothing can resume."""
    temporary = f"{dst_path}.part"
    shutil.copyfile(src_path, temporary)
    os.replace(temporary, dst_path)
    return True


PathManager.copy = staticmethod(_copy_atomically)


# fairseq's TokenBlockDataset, on which its language models are trained, asks for np.compat.long;
# NumPy 2 took the module away.
setattr(np, "compat", types.SimpleNamespace(long=int))  # noqa: B010 (NPY201 sees the attribute)


# fairseq-fixed still calls torch.cuda.amp.autocast(args...), deprecated since torch 2.4: one
# warning for every training step.
warnings.filterwarnings("ignore", r"`torch\.cuda\.amp\.autocast", FutureWarning)
# fairseq's decoder hands torch's attention masks of two types, which warns though they are right.
warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask and attn_mask")
# fairseq pins memory without a GPU too.
warnings.filterwarnings("ignore", "'pin_memory' argument is set as true but no accelerator")


def package_paths(folder: str) -> list[str]:
    """Every name under which ``sys.path`` reaches a package's folder, the given one first.

    fairseq compares --user-dir with ``__path__`` letter by letter and calls a package "not
    globally unique" when an editable install's link and its checkout are named in turn
    (av_hubert #84).
    """
    name = os.path.basename(folder)
    candidates = [folder, os.path.realpath(folder)]
    candidates += [os.path.join(os.path.abspath(entry), name) for entry in sys.path]
    same = [c for c in candidates if os.path.isdir(c) and os.path.samefile(c, folder)]
    return list(dict.fromkeys(same))
