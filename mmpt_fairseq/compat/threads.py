"""The threads in which fairseq reads batches ahead, stopped before the interpreter exits."""

import atexit
import threading
import time
import weakref
from collections.abc import Iterable, Iterator

from fairseq.data import iterators

LONGEST_WAIT = 5.0  # seconds, for the batch that is being read at the exit

_exiting = threading.Event()
_consumers: weakref.WeakSet = weakref.WeakSet()


class _StoppableConsumer(iterators.BackgroundConsumer):
    """fairseq's thread, which ends with the batch that it is reading when the process exits.

    A training that ends within an epoch leaves it running. If it is in torch's C++ code when Python
    has gone, the whole process aborts ("terminate called without an active exception"), with exit
    status 134 after a training that had finished.
    """

    def __init__(self, queue, source: Iterable, *args) -> None:
        super().__init__(queue, _until_exit(source), *args)
        _consumers.add(self)


def _until_exit(source: Iterable) -> Iterator:
    for item in source:
        if _exiting.is_set():
            return
        yield item


@atexit.register
def _stop() -> None:
    """Wait until each thread has ended, or waits for its full queue, where it does no harm."""
    _exiting.set()
    end = time.monotonic() + LONGEST_WAIT
    for consumer in list(_consumers):
        while consumer.is_alive() and not consumer._queue.full() and time.monotonic() < end:
            time.sleep(0.005)


iterators.BackgroundConsumer = _StoppableConsumer
