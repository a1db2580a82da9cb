"""Commands in processes that have imported fairseq already: for many short trainings.

Importing torch and fairseq takes longer than training a small head on stored states. Python's fork
server imports them once, and every command begins in a copy of it.
"""

import gc
import multiprocessing
import os
import runpy
import sys
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection

# What the commands and the parent's own module import; they themselves run as __main__.
PRELOADED = [
    "examples.superb.data",
    "examples.superb.results",
    "fairseq_cli.hydra_train",
    "mmpt_fairseq.tasks.superb",
    "torch._dynamo",
]


class Forked:
    """A command under way, with those members of ``subprocess.Popen`` that stages.py uses.

    Args:
        command: ``fairseq-hydra-train ...`` or ``python -m MODULE ...``.
        environment: its variables; ``OMP_NUM_THREADS`` among them holds for torch.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        reader, writer = context.Pipe(duplex=False)
        arguments = (list(command), dict(environment), writer)
        self._process = context.Process(target=_run, args=arguments)
        self._process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()), encoding="utf-8", errors="replace")
        reader.close()

    def wait(self) -> int:
        self._process.join()
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def _run(command: list[str], environment: dict[str, str], output: Connection) -> None:
    """In the new process."""
    import torch

    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    gc.freeze()  # what was imported is not searched for garbage at every epoch
    os.environ.update(environment)
    if environment.get("PYTHONWARNINGS") == "ignore":
        warnings.simplefilter("ignore")  # the variable is read when Python starts
    if threads := environment.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    if command[0] == "fairseq-hydra-train":
        from fairseq_cli.hydra_train import cli_main

        sys.argv = command
        cli_main()
    else:
        sys.argv = command[2:]
        runpy.run_module(command[2], run_name="__main__", alter_sys=True)
