"""Import fairseq faster and without side effects on the rest of the program.

fairseq imports scikit-learn and ``scipy.stats`` for a sentence classifier and an audio classifier,
which takes a quarter of a command's start-up time. Here their import is deferred until one of their
functions is called, unless they are already imported.

Garbage collection is off during the import: imported objects stay alive, and scanning them again
and again would take another tenth. The root logger's level and handlers are restored: one of
fairseq's modules would make the whole program write debug messages to stderr.
"""

import gc
import importlib
import logging
import sys
from types import ModuleType

DEFERRED = ("sklearn", "sklearn.metrics", "scipy.stats")


class DeferredModule(ModuleType):
    """Placeholder for a module; its functions import the real one when called."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def function(*args, **kwargs):
            return getattr(importlib.import_module(self.__name__), name)(*args, **kwargs)

        return function


def import_fairseq() -> None:
    """Import fairseq with placeholders, which are removed afterwards."""
    placeholders = {name: DeferredModule(name) for name in DEFERRED}
    placeholders["sklearn"].metrics = placeholders["sklearn.metrics"]
    if placeholders.keys() & sys.modules.keys():
        placeholders = {}
    sys.modules.update(placeholders)
    gc_enabled, log = gc.isenabled(), logging.getLogger()
    level, handlers = log.level, log.handlers[:]
    gc.disable()
    try:
        importlib.import_module("fairseq")
    finally:
        if gc_enabled:
            gc.enable()
        for name in placeholders:
            del sys.modules[name]
        log.setLevel(level)
        log.handlers[:] = handlers


import_fairseq()
