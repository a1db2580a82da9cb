"""Commands in processes that have imported torch and fairseq already: for many short trainings.

Importing them takes longer than training a small head on stored states, or a test's model. A
server imports them once; every command begins in a copy of it and is the real console script or
module from there on, with its own arguments, environment, working directory, streams and exit
status. Neither fairseq's command modules nor the plugin are imported before.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
PRELOADED = ("fairseq", "hydra", "tensorboardX", "torch._dynamo")
ANSWER = 64  # bytes, more than any has

_idle: list["_Server"] = []  # a server runs one command at a time


class Forked:
    """A command under way, with those members of ``subprocess.Popen`` that stages.py uses.

    Args:
        command: a console script of this environment, by name or path, or ``python -m MODULE``,
            with its arguments.
        environment: its variables; ``OMP_NUM_THREADS`` among them holds for torch.
        cwd: its working directory, this process's if none is given.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        request = [list(command), dict(environment), str(cwd or Path.cwd())]
        self._server, self.pid, output = _started(request)
        # Its number may be another process's as soon as it has been waited for.
        self._process = os.pidfd_open(self.pid)
        self.stdout = os.fdopen(output, encoding="utf-8", errors="replace")
        self.returncode: int | None = None

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = self._server.wait()
            _idle.append(self._server)
        return self.returncode

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, number)

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            os.close(self._process)


def _started(request: list) -> tuple["_Server", int, int]:
    """A server, the number of the process that a command begins in, and its output to be read."""
    while True:
        server = _idle.pop() if _idle else None
        try:
            new = server or _Server(request[1])
            return new, *new.start(request)
        except (ConnectionError, ChildProcessError):
            if server is None:
                raise
            # It has ended since its last command: with another one.


class _Server:
    """This module as a process, which ends with the socket, so with this process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._asked = False  # for the exit status
        with theirs:
            number = str(theirs.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-m", "examples.forked", number],
                cwd=ROOT,
                env=dict(environment),  # some of it is read when Python and OpenMP start
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def start(self, request: list) -> tuple[int, int]:
        """As :func:`_started`. The request goes into a file: it may be longer than a message."""
        read, write = os.pipe()
        try:
            with tempfile.TemporaryFile() as file, os.fdopen(write, "wb"):
                file.write(json.dumps(request).encode())
                file.flush()
                socket.send_fds(self._socket, [b"start"], [file.fileno(), write])
                return self._answer(), read
        except BaseException:
            os.close(read)
            raise

    def wait(self) -> int:
        """The exit status; may be asked for again where that was interrupted."""
        if not self._asked:
            self._asked = True
            self._socket.send(b"wait")
        status = self._answer()
        self._asked = False
        return status

    def _answer(self) -> int:
        answer = self._socket.recv(ANSWER)
        if not answer:
            raise ChildProcessError("the server of commands has ended; what it says stands above")
        return int(answer)


def serve(requests: socket.socket) -> list[str]:
    """Fork for every request; in the copy, the command that it is to become."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # what was imported is not searched for garbage at every epoch
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the commands
    while True:
        message, files, _, _ = socket.recv_fds(requests, ANSWER, 2)
        if not message:
            sys.exit()
        request, output = files
        child = os.fork()
        if not child:
            requests.close()
            with os.fdopen(request) as file:
                file.seek(0)
                return _become(*json.load(file), output)
        os.close(request)
        os.close(output)
        requests.send(str(child).encode())
        requests.recv(ANSWER)  # "wait", or nothing if nobody is left to do so
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(BrokenPipeError):
            requests.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(command: list[str], environment: dict[str, str], cwd: str, output: int) -> list[str]:
    """In the new process; returns its command."""
    import torch

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    if environment.get("PYTHONWARNINGS") == "ignore":
        warnings.simplefilter("ignore")  # the variable is read when Python starts
    if threads := environment.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    return command


if __name__ == "__main__":
    program, *arguments = serve(socket.socket(fileno=int(sys.argv[1])))
    if arguments[:1] == ["-m"]:
        sys.argv, sys.path[0] = arguments[1:], os.getcwd()
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        script = program if os.path.dirname(program) else os.path.join(sys.prefix, "bin", program)
        sys.argv, sys.path[0] = [script, *arguments], os.path.dirname(script)
        runpy.run_path(script, run_name="__main__")
