"""Run commands in forks of a process that has already imported torch and fairseq.

For many short trainings: these imports take longer than training a small head on stored features,
or a test's model. A server process imports them once; every command starts in a fork of it and then
runs as the real console script or module, with its own arguments, environment, working directory,
streams and exit status. Neither fairseq's command modules nor the plugin are imported beforehand.
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
ANSWER = 64  # bytes; no answer is longer
MOST_FILES = 8  # file descriptors per request

_idle: list["_Server"] = []  # servers without a command; each runs one at a time


class Forked:
    """A running command with the members of ``subprocess.Popen`` that stages.py uses.

    Args:
        command: a console script of this environment, by name or path, or ``python -m MODULE``,
            and its arguments.
        environment: environment variables; ``OMP_NUM_THREADS`` is also applied to torch.
        cwd: working directory; default: that of this process.
        inherited: file descriptors that it keeps open, at most ``MOST_FILES - 2``.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path | None = None,
        inherited: Sequence[int] = (),
    ) -> None:
        request = [list(command), dict(environment), str(cwd or Path.cwd())]
        self._server, self.pid, output = _start(request, inherited)
        # Once the process has been waited for, its pid may be reused; the pidfd stays valid.
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


def _start(request: list, inherited: Sequence[int]) -> tuple["_Server", int, int]:
    """Start a command; return its server, its pid and the file descriptor of its output."""
    while True:
        server = _idle.pop() if _idle else None
        try:
            new = server or _Server(request[1])
            return new, *new.start(request, inherited)
        except (ConnectionError, ChildProcessError):
            if server is None:
                raise
            # The idle server has exited since its last command: try another one.


class _Server:
    """This module run as a process that exits when the socket closes, hence with this process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket, remote = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._waiting = False  # for the exit status
        with remote:
            number = str(remote.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-m", "examples.forked", number],
                cwd=ROOT,
                env=dict(environment),  # Python and OpenMP read some variables only at startup
                stdin=subprocess.DEVNULL,
                pass_fds=[remote.fileno()],
            )

    def start(self, request: list, inherited: Sequence[int]) -> tuple[int, int]:
        """Return the pid and the output of a new command.

        The request is passed as a file because it may exceed the maximum message size.
        """
        read, write = os.pipe()
        try:
            with tempfile.TemporaryFile() as file, os.fdopen(write, "wb"):
                file.write(json.dumps(request).encode())
                file.flush()
                files = [file.fileno(), write, *inherited]
                socket.send_fds(self._socket, [b"start"], files)
                return self._answer(), read
        except BaseException:
            os.close(read)
            raise

    def wait(self) -> int:
        """Wait for the exit status; may be called again after an interrupt."""
        if not self._waiting:
            self._waiting = True
            self._socket.send(b"wait")
        status = self._answer()
        self._waiting = False
        return status

    def _answer(self) -> int:
        answer = self._socket.recv(ANSWER)
        if not answer:
            raise ChildProcessError("the command server has exited; see its output above")
        return int(answer)


def serve(requests: socket.socket) -> list[str]:
    """Fork for every request; return, only in the child, the command to run."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # exclude the imported modules from garbage collection
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the commands
    while True:
        message, files, _, _ = socket.recv_fds(requests, ANSWER, MOST_FILES)
        if not message:
            sys.exit()
        request, output, *_ = files
        child = os.fork()
        if not child:
            requests.close()
            with os.fdopen(request) as file:
                file.seek(0)
                return _become(*json.load(file), output)
        for file in files:
            os.close(file)
        requests.send(str(child).encode())
        requests.recv(ANSWER)  # "wait", or empty if the client has exited
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(BrokenPipeError):
            requests.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(command: list[str], environment: dict[str, str], cwd: str, output: int) -> list[str]:
    """Set up the forked process; return its command."""
    import torch

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    if environment.get("PYTHONWARNINGS") == "ignore":
        warnings.simplefilter("ignore")  # Python reads the variable only at startup
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
