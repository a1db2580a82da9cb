"""What is built on this package elsewhere: found by class, whatever its name, once it is imported.

fairseq registers what a ``--user-dir`` holds; a checkpoint tells names alone.
"""

import argparse
from pathlib import Path

from fairseq.criterions import CRITERION_REGISTRY
from fairseq.tasks import TASK_REGISTRY, FairseqTask
from fairseq.utils import import_user_module

from manifests.errors import InputError


def add_user_dir(parser: argparse.ArgumentParser) -> None:
    """The option of commands that open checkpoints."""
    parser.add_argument(
        "--user-dir",
        type=Path,
        metavar="DIR",
        help="of a package with tasks, models and criterions of your own, built on these",
    )


def import_user_dir(args: argparse.Namespace) -> None:
    """Register what is in ``args.user_dir``, if one was given.

    Raises:
        InputError: it is no package.
    """
    if args.user_dir is None:
        return
    try:
        import_user_module(argparse.Namespace(user_dir=str(args.user_dir)))
    except (FileNotFoundError, ImportError) as error:
        raise InputError(f"--user-dir {args.user_dir} cannot be imported: {error}") from None


def task_class(name: str, checkpoint: object) -> type[FairseqTask]:
    """The task that is registered as ``name``.

    Raises:
        InputError: none is.
    """
    if name not in TASK_REGISTRY:
        raise InputError(
            f"{checkpoint} is of the task {name}, which nothing here registers; import the package "
            "that does (of a command: --user-dir), or give a checkpoint of mmpt_fairseq"
        )
    return TASK_REGISTRY[name]


def reconstructs(criterion: str) -> bool:
    """Whether what is trained by the criterion of this name learns to fill in what is masked."""
    return getattr(CRITERION_REGISTRY.get(criterion), "reconstructs", False)


def why_no_reconstruction(criterion: str) -> str:
    """Empty where there is one to be drawn."""
    if criterion not in CRITERION_REGISTRY:
        return f"the criterion {criterion} is not known here (see --user-dir)"
    return "" if reconstructs(criterion) else f"{criterion} does not reconstruct"


def contrasts(criterion: str) -> bool:
    """Whether it learns which sound belongs to which pictures."""
    return getattr(CRITERION_REGISTRY.get(criterion), "contrasts", False)
