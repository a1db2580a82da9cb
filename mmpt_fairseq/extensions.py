"""Tasks, models and criterions of packages that extend this one, from fairseq's registries.

fairseq registers the contents of a ``--user-dir``; a checkpoint has registered names only.
"""

import argparse
from pathlib import Path

from fairseq.criterions import CRITERION_REGISTRY
from fairseq.models import MODEL_REGISTRY
from fairseq.tasks import TASK_REGISTRY, FairseqTask
from fairseq.utils import import_user_module

from manifests.errors import InputError


def add_user_dir(parser: argparse.ArgumentParser) -> None:
    """Add ``--user-dir`` to the parser of a command that loads checkpoints."""
    parser.add_argument(
        "--user-dir",
        type=Path,
        metavar="DIR",
        help="package with your own tasks, models and criterions that extend mmpt_fairseq",
    )


def import_user_dir(args: argparse.Namespace) -> None:
    """Import the package ``args.user_dir``, if given, so that its classes are registered.

    Raises:
        InputError: it cannot be imported.
    """
    if args.user_dir is None:
        return
    try:
        import_user_module(argparse.Namespace(user_dir=str(args.user_dir)))
    except (FileNotFoundError, ImportError) as error:
        raise InputError(f"--user-dir {args.user_dir} cannot be imported: {error}") from None


def task_class(name: str, checkpoint: object) -> type[FairseqTask]:
    """The task class registered as ``name``.

    Raises:
        InputError: there is none.
    """
    if name not in TASK_REGISTRY:
        raise InputError(
            f"{checkpoint} is of the task {name}, which is not registered; import the package that "
            "registers it (in a command: --user-dir), or give a checkpoint of mmpt_fairseq"
        )
    return TASK_REGISTRY[name]


def check_model(name: str, checkpoint: object) -> None:
    """Check that a model is registered as ``name``.

    Raises:
        InputError: there is none.
    """
    if name not in MODEL_REGISTRY:
        raise InputError(
            f"{checkpoint} is of the model {name}, which is not registered; import the package "
            "that registers it (in a command: --user-dir)"
        )


def reconstructs(criterion: str) -> bool:
    """Whether the criterion of this name trains the reconstruction of masked input."""
    return getattr(CRITERION_REGISTRY.get(criterion), "reconstructs", False)


def why_no_reconstruction(criterion: str) -> str:
    """Why models trained with a criterion cannot show reconstructions; empty if they can."""
    if criterion not in CRITERION_REGISTRY:
        return f"the criterion {criterion} is not registered (see --user-dir)"
    return "" if reconstructs(criterion) else f"{criterion} does not reconstruct"


def contrasts(criterion: str) -> bool:
    """Whether the criterion of this name trains matching of audio and video."""
    return getattr(CRITERION_REGISTRY.get(criterion), "contrasts", False)
