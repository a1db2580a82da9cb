"""Imports fairseq sooner, and with no effect on the rest of the program.

fairseq takes scikit-learn and ``scipy.stats`` in whenever it is imported, for a sentence classifier
and an audio classifier: a quarter of the time that a command takes to start. Here they are imported
when one of their functions is called, unless they are there already.

Python meanwhile looks for no garbage: what importing makes stays, and looking through it again and
again would be a further tenth. And logging stays as it was: one of fairseq's modules would have the
whole program say on stderr what is meant for debugging.
"""

import gc
import importlib
import logging
import sys
from types import ModuleType

POSTPONED = ("sklearn", "sklearn.metrics", "scipy.stats")


class Postponed(ModuleType):
    """Stands for a module; its functions import the real one when they are called."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def function(*args, **kwargs):
            return getattr(importlib.import_module(self.__name__), name)(*args, **kwargs)

        return function


def import_fairseq() -> None:
    """Afterwards the real modules can be imported as ever."""
    standing_in = {name: Postponed(name) for name in POSTPONED}
    standing_in["sklearn"].metrics = standing_in["sklearn.metrics"]
    if standing_in.keys() & sys.modules.keys():
        standing_in = {}
    sys.modules.update(standing_in)
    collecting, log = gc.isenabled(), logging.getLogger()
    level, handlers = log.level, log.handlers[:]
    gc.disable()
    try:
        importlib.import_module("fairseq")
    finally:
        if collecting:
            gc.enable()
        for name in standing_in:
            del sys.modules[name]
        log.setLevel(level)
        log.handlers[:] = handlers


import_fairseq()
