"""Commands of fairseq's in processes that have imported torch and fairseq already.

Importing them takes longer than most trainings of the tests. A server imports them once for each
of pytest's workers; every command begins in a copy of it and is the real console script from there
on, with its own working directory, environment, streams and exit status. Neither fairseq's command
modules nor the plugin are imported before.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMANDS = ("fairseq-hydra-train", "fairseq-generate")
PRELOADED = ("fairseq", "hydra", "tensorboardX", "torch._dynamo")
TIMEOUT = 300  # seconds
# Some of it is read when Python and torch start.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
}


@cache
def _server() -> subprocess.Popen:
    """Ends with its standard input, so with this process."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.warm"],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.communicate)
    return server


def run(command: Sequence[str], cwd: Path) -> subprocess.CompletedProcess:
    """``subprocess.run`` of one of COMMANDS, stdout and stderr as one text."""
    server = _server()
    with tempfile.NamedTemporaryFile() as output:
        request = {"command": command, "cwd": str(cwd), "output": output.name}
        request["environment"] = {**os.environ, **ENVIRONMENT}
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        text = output.read().decode(errors="replace")
    return subprocess.CompletedProcess(command, status, text)


def serve() -> list[str]:
    """Fork for every request; in the copy, the command that it is to become."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()
    with os.fdopen(os.dup(1), "w") as answers:
        for line in sys.stdin:
            request = json.loads(line)
            if child := os.fork():
                _, status = os.waitpid(child, 0)
                print(os.waitstatus_to_exitcode(status), file=answers, flush=True)
                continue
            signal.alarm(TIMEOUT)
            os.chdir(request["cwd"])
            os.environ.clear()
            os.environ.update(request["environment"])
            for stream, path in ((0, os.devnull), (1, request["output"])):
                os.dup2(os.open(path, os.O_RDWR), stream)
            os.dup2(1, 2)
            return request["command"]
    sys.exit()


if __name__ == "__main__":
    sys.argv = serve()
    sys.path[0] = os.path.dirname(sys.argv[0])
    runpy.run_path(sys.argv[0], run_name="__main__")
