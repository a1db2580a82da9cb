"""Average the weights of a training's checkpoints into one ordinary checkpoint.

    python -m mmpt_fairseq.average RUN --last N --output FILE
    python -m mmpt_fairseq.average RUN --best N --output FILE

averages the last N by updates, or the best N by the training's metric
(``checkpoint.best_checkpoint_metric``). Train with ``checkpoint.keep_best_checkpoints=N``, or with
``checkpoint.no_epoch_checkpoints=false`` and ``checkpoint.keep_last_epochs=N``, to keep them.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from manifests.common import atomic_path
from manifests.errors import InputError, command_line, reason_of
from mmpt_fairseq.checkpoint import load_checkpoint, settings_of, updates_of

MARK = "mean_of"  # key with the file names of the averaged checkpoints; fairseq ignores it


@dataclass
class Saved:
    """A checkpoint and its selection criteria.

    Attributes:
        path: the file.
        updates: number of updates when it was saved.
        value: validation metric at that time, None without a validation.
        metric: its name.
        maximise: whether a higher value is better.
    """

    path: Path
    updates: int
    value: float | None
    metric: str
    maximise: bool

    @property
    def criterion(self) -> tuple[str, bool]:
        """Checkpoints are comparable if they have the same."""
        return self.metric, self.maximise

    @property
    def rank(self) -> float:
        """Sort key, lowest is best."""
        return -self.value if self.maximise else self.value


def find_checkpoints(run: Path) -> list[Saved]:
    """Find the checkpoints of a training, one per update count, in order of updates.

    Averages are skipped.

    Raises:
        InputError: there is no such folder, or a file in it is not a checkpoint.
    """
    if not run.is_dir():
        raise InputError(f"there is no folder {run}; give the training's checkpoint.save_dir")
    found: dict[int, Saved] = {}
    files = sorted(run.glob("checkpoint*.pt"))
    for path in tqdm(files, desc="reading", unit="checkpoint", disable=len(files) < 3):
        state = load_checkpoint(path)
        if MARK in state:
            continue
        settings, updates = settings_of(state, "checkpoint"), updates_of(state)
        value = (state.get("extra_state") or {}).get("val_loss")
        metric = str(settings.get("best_checkpoint_metric", "loss"))
        maximise = bool(settings.get("maximize_best_checkpoint_metric", False))
        known = found.get(updates)
        # An update may be saved under several names, before and after its validation.
        if known is None or known.value is None:
            found[updates] = Saved(path, updates, value, metric, maximise)
    return [found[updates] for updates in sorted(found)]


def choose(saved: list[Saved], last: int | None, best: int | None) -> list[Path]:
    """Select the last or best checkpoints, returned in order of updates.

    Checkpoints without a finite validation metric are never among the best, nor those from before
    a run was resumed with another metric.

    Raises:
        InputError: there are too few.
    """
    kind, wanted = ("last", last) if last is not None else ("best", best)
    found = "found"
    if best is not None:
        finite = [s for s in saved if s.value is not None and math.isfinite(s.value)]
        ranked = [s for s in finite if s.criterion == saved[-1].criterion]
        if len(ranked) < len(saved):
            found = f"of {len(saved)} that have a finite {saved[-1].metric} of validation"
        saved = sorted(ranked, key=lambda s: s.rank)
    if not 1 <= wanted <= len(saved):
        raise InputError(
            f"--{kind} {wanted} is not between 1 and the {len(saved)} different checkpoints "
            f"{found}; train with a higher checkpoint.keep_best_checkpoints or keep_last_epochs "
            "(fairseq may keep only one of several checkpoints with equal scores)"
        )
    chosen = saved[-wanted:] if best is None else saved[:wanted]
    return [s.path for s in sorted(chosen, key=lambda s: s.updates)]


def average(paths: list[Path]) -> dict:
    """The last checkpoint with averaged weights, ``MARK`` and no optimizer state.

    Raises:
        InputError: the checkpoints are of different models.
    """
    total: dict[str, Tensor] = {}
    for path in tqdm(paths, desc="averaging", unit="checkpoint", disable=len(paths) < 3):
        state = load_checkpoint(path)
        weights = state["model"]
        if not total:
            total = {name: torch.zeros_like(w, dtype=torch.float64) for name, w in weights.items()}
        shapes = {name: w.shape for name, w in weights.items()}
        if shapes != {name: w.shape for name, w in total.items()}:
            raise InputError(
                f"{path} is of a different model from {paths[0]}; average one training"
            )
        for name, tensor in weights.items():
            total[name] += tensor.double() / len(paths)
    state["model"] = {
        name: total[name].to(w.dtype) if w.is_floating_point() else w for name, w in weights.items()
    }
    state["last_optimizer_state"] = None
    state[MARK] = [path.name for path in paths]
    return state


def _refuse_to_replace(output: Path) -> None:
    """Check that an existing output is an average: anything else might be needed."""
    if output.exists():
        try:
            is_average = MARK in load_checkpoint(output)
        except InputError:
            is_average = False
        if not is_average:
            raise InputError(
                f"--output {output} exists and is not an average of checkpoints; give another name"
            )


def main(arguments: list[str] | None = None) -> None:
    """Run the command; print which checkpoints were averaged."""
    parser = argparse.ArgumentParser(
        prog="python -m mmpt_fairseq.average", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run", type=Path, help="folder of the training's checkpoints")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--last", type=int, metavar="N", help="the last N by updates")
    which.add_argument("--best", type=int, metavar="N", help="the best N by validation metric")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    args = parser.parse_args(arguments)
    with command_line():
        if args.output.is_dir():
            raise InputError(f"--output {args.output} is a folder; name a file in it")
        if not args.output.parent.is_dir():
            raise InputError(f"there is no folder {args.output.parent} to write to; make it")
        _refuse_to_replace(args.output)
        paths = choose(find_checkpoints(args.run), args.last, args.best)
        state = average(paths)
        try:
            with atomic_path(args.output) as partial:
                torch.save(state, partial)
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError on a full disk
            raise InputError(f"{args.output} cannot be written: {reason_of(error)}") from None
    print(f"{args.output}: the mean of {', '.join(path.name for path in paths)}")


if __name__ == "__main__":
    main()
