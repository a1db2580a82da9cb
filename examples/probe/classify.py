"""A linear classifier on one vector a clip: ``python -m examples.probe.classify VECTORS OUT``.

Reads what pooling.py wrote and writes ``OUT/scores.json``. Logistic regression on
standardised vectors. Which view of the clips it sees (layer and average), and then its penalty, is
chosen without the clips it is scored on:

* digits: each speaker is the test once; views are compared by leaving out each of the other
  speakers in turn;
* words: trained on sentences that stage 1 saw too, chosen by validation sentences, scored on test
  sentences.

For the choice the classifiers learn from every third clip alone.
"""

import argparse
import json
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from examples.probe.pooling import TASKS
from manifests.common import atomic_path
from manifests.errors import InputError, command_line

PENALTIES = (0.1, 0.01, 0.001)  # scikit-learn's C, the inverse; views are compared by the first
THIRD = 3

Groups = frozenset[str]
Fold = tuple[Groups, str]  # to learn from, to validate on


class Clips:
    """Labels, groups and views of one task's clips.

    Args:
        path: what pooling.py wrote.

    Raises:
        InputError: there is no such file.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"there is no {path}; write it with python -m examples.probe.pooling")
        stored = dict(np.load(path))
        self.labels, self.groups = stored.pop("labels"), stored.pop("groups")
        self.views: dict[str, NDArray[np.float32]] = stored
        # Both tasks are stored label by label or sentence by sentence: every third clip in a
        # shuffled order is a fair sample.
        shuffled = np.random.default_rng(0).permutation(len(self.labels))
        self.sample = np.zeros(len(self.labels), bool)
        self.sample[shuffled[::THIRD]] = True
        self.correct = cache(self._correct)

    def _correct(self, view: str, penalty: float, train: Groups, sample: bool) -> NDArray[np.bool_]:
        """Which of all clips a classifier gets right that learns from these groups."""
        chosen = np.isin(self.groups, list(train))
        if sample:
            chosen &= self.sample
        classifier = make_pipeline(
            StandardScaler(), LogisticRegression(C=penalty, max_iter=200, tol=1e-3)
        )
        vectors = self.views[view]
        classifier.fit(vectors[chosen], self.labels[chosen])
        return classifier.predict(vectors) == self.labels

    def accuracy(
        self, view: str, penalty: float, train: Groups, test: str, sample: bool = False
    ) -> float:
        """On one group, in per cent."""
        correct = self.correct(view, penalty, train, sample)
        return 100 * float(correct[self.groups == test].mean())

    def validated(self, view: str, penalty: float, folds: list[Fold]) -> float:
        """Mean accuracy over ``folds``."""
        return float(np.mean([self.accuracy(view, penalty, *fold, sample=True) for fold in folds]))


def folds(task: str, groups: NDArray[np.str_]) -> dict[str, tuple[Groups, list[Fold]]]:
    """Test group -> the groups to learn from, and the folds (train, validation) of the choice."""
    if task == "words":
        train = frozenset(["train"])
        return {"test": (train, [(train, "valid")])}
    everyone = frozenset(groups.tolist())
    found = {}
    for speaker in sorted(everyone):
        others = everyone - {speaker}
        found[speaker] = (others, [(others - {other}, other) for other in sorted(others)])
    return found


def score(task: str, clips: Clips, views: list[str]) -> dict:
    """Mean accuracy over the test groups, each with what was chosen for it."""
    tests = {}
    for test, (train, inner) in folds(task, clips.groups).items():
        by_view = {view: clips.validated(view, PENALTIES[0], inner) for view in views}
        view = max(by_view, key=by_view.__getitem__)
        by_penalty = {penalty: clips.validated(view, penalty, inner) for penalty in PENALTIES}
        penalty = max(by_penalty, key=by_penalty.__getitem__)
        tests[test] = {
            "accuracy": clips.accuracy(view, penalty, train, test),
            "view": view,
            "penalty": penalty,
            "validated": by_view,
        }
    return {"accuracy": float(np.mean([t["accuracy"] for t in tests.values()])), "tests": tests}


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vectors", type=Path, help="folder that pooling.py wrote")
    parser.add_argument("out", type=Path, help="folder for scores.json")
    parser.add_argument("--alone", nargs="+", default=[], metavar="VIEW", help="score these too")
    args = parser.parse_args(arguments)
    with command_line():
        found = {}
        for task in TASKS:
            clips = Clips(args.vectors / f"{task}.npz")
            if unknown := set(args.alone) - set(clips.views):
                raise InputError(f"{args.vectors} has no view {unknown.pop()!r}")
            alone = {view: score(task, clips, [view]) for view in args.alone}
            found[task] = {**score(task, clips, list(clips.views)), "alone": alone}
        with atomic_path(args.out / "scores.json") as partial:
            partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(", ".join(f"{task} {found[task]['accuracy']:.1f} %" for task in found))


if __name__ == "__main__":
    main()
