"""Faults in what a user gave us, and how they leave a fairseq command."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import NoReturn


class InputError(ValueError):
    """A fault in the input: one sentence that names the file, row or key, and the remedy."""


class UnreadableClip(InputError):
    """One clip cannot be used; training skips and counts it, evaluation stops."""


def reason_of(error: Exception) -> str:
    """What a library says is wrong, in one line and without its error numbers."""
    lines = str(error).splitlines() or [type(error).__name__]
    return getattr(error, "strerror", None) or lines[0]


def exit_with_message(sentence: str) -> NoReturn:
    """End the process with a sentence, which the log of a training is to have too."""
    said = f"mmpt_fairseq: {sentence}"
    write_to_logs(said)
    raise SystemExit(said) from None


def write_to_logs(text: str) -> None:
    """Into the log files of this process, of which Hydra keeps one; stderr is forgotten."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler) and handler.stream:
            handler.stream.write(text.rstrip() + "\n")
            handler.flush()


@contextlib.contextmanager
def exit_on_input_error() -> Iterator[None]:
    """End the process with the sentence alone instead of a traceback.

    Used only where fairseq calls us (tasks) and by :func:`command_line`. ``SystemExit`` passes
    through Hydra, which would bury any other exception under its own report.
    """
    try:
        yield
    except InputError as error:
        exit_with_message(str(error))


@contextlib.contextmanager
def command_line(interrupted: str = "interrupted") -> Iterator[None]:
    """Around what one of our own commands does: no traceback of bad input, of a disk, of Ctrl-C.

    Args:
        interrupted: what is said of Ctrl-C, after which the exit status is 130, as shells have it.
    """
    try:
        with exit_on_input_error():
            yield
    except BrokenPipeError:  # whoever reads has had enough
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        exit_with_message(f"{where}{reason_of(error)}")
    except KeyboardInterrupt:
        print(f"\nmmpt_fairseq: {interrupted}", file=sys.stderr)
        raise SystemExit(130) from None


@contextlib.contextmanager
def input_error_on_exit() -> Iterator[None]:
    """The way back: tasks that we call ourselves raise, and our caller decides what to end."""
    try:
        yield
    except SystemExit as error:
        raise InputError(str(error).removeprefix("mmpt_fairseq: ")) from None
