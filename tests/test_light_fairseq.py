"""fairseq is imported without scikit-learn and scipy.stats, which remain usable, and without side
effects on the importing program."""

import sys

import pytest

from mmpt_fairseq.compat.light_fairseq import import_fairseq
from tests.commands import run, succeeded

SCRIPT = """
import sys
import mmpt_fairseq
late = {"sklearn", "sklearn.metrics", "scipy.stats"}
assert not {"scipy", *late} & sys.modules.keys()
from fairseq.criterions.sentence_prediction import acc_and_f1
import numpy as np
labels, predictions = np.array([1, 0, 1, 1]), np.array([1, 0, 0, 1])
found = acc_and_f1(predictions, labels)
from fairseq.criterions.sentence_prediction import pearson_and_spearman
correlation = pearson_and_spearman(predictions, labels)["pearson"]
assert late <= sys.modules.keys() | {"sklearn"}
import scipy.stats, sklearn.metrics
assert found["f1"] == sklearn.metrics.f1_score(labels, predictions) == 0.8
assert correlation == scipy.stats.pearsonr(predictions, labels)[0]
from fairseq.tasks.audio_classification import sklearn_metrics
assert sklearn_metrics.roc_curve([0, 1], [0.1, 0.9])[1].tolist()[-1] == 1
"""


def test_deferred_modules_are_imported_on_use():
    succeeded(run([sys.executable, "-c", SCRIPT]))


@pytest.mark.parametrize("first", ["gc", "scipy.stats", "sklearn.metrics"])
def test_logging_and_garbage_collection_are_unchanged(first):
    """Whatever the program has already imported."""
    script = f"""
import {first}, gc, logging
import mmpt_fairseq
assert gc.isenabled()
assert logging.getLogger().level == logging.WARNING and not logging.getLogger().handlers
"""
    succeeded(run([sys.executable, "-c", script]))


def test_imported_modules_are_not_replaced():
    import scipy.stats

    import_fairseq()
    assert sys.modules["scipy.stats"] is scipy.stats
    assert scipy.stats.pearsonr
