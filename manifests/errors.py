"""Errors in the user's input, and how they end a fairseq command."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import NoReturn


class InputError(ValueError):
    """An error in the input: one message that names the file, row or key, and the remedy."""


class UnreadableClip(InputError):
    """A clip that cannot be used; training skips and counts it, evaluation stops."""


def reason_of(error: Exception) -> str:
    """A library's error message as one line, without its error number."""
    lines = str(error).splitlines() or [type(error).__name__]
    return getattr(error, "strerror", None) or lines[0]


def exit_with_message(message: str) -> NoReturn:
    """End the process with a message, which is also written to the training's log files."""
    message = f"mmpt_fairseq: {message}"
    write_to_logs(message)
    raise SystemExit(message) from None


def write_to_logs(text: str) -> None:
    """Write to the log files of this process, of which Hydra keeps one; stderr is not kept."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler) and handler.stream:
            handler.stream.write(text.rstrip() + "\n")
            handler.flush()


@contextlib.contextmanager
def exit_on_input_error() -> Iterator[None]:
    """End the process with the error's message alone, without a traceback.

    Used only where fairseq calls this package (tasks) and by :func:`command_line`. ``SystemExit``
    passes through Hydra, which would bury any other exception under its own report.
    """
    try:
        yield
    except InputError as error:
        exit_with_message(str(error))


@contextlib.contextmanager
def command_line(interrupted: str = "interrupted") -> Iterator[None]:
    """Wrap a command: no traceback for bad input, an operating system error or Ctrl-C.

    Args:
        interrupted: message after Ctrl-C; the exit status is then 130, as in shells.
    """
    try:
        with exit_on_input_error():
            yield
    except BrokenPipeError:  # the reader has closed the pipe
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        exit_with_message(f"{where}{reason_of(error)}")
    except KeyboardInterrupt:
        # The finaliser of an object that was being made may fail, after the message.
        sys.unraisablehook = lambda _: None
        print(f"\nmmpt_fairseq: {interrupted}", file=sys.stderr)
        raise SystemExit(130) from None


@contextlib.contextmanager
def input_error_on_exit() -> Iterator[None]:
    """Turn an exit back into an exception, for tasks that this package calls itself."""
    try:
        yield
    except SystemExit as error:
        raise InputError(str(error).removeprefix("mmpt_fairseq: ")) from None
