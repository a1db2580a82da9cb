"""A linear classifier on one vector per clip: ``python -m examples.probe.classify VECTORS OUT``.

Reads the output of pooling.py and writes ``OUT/scores.json``. The classifier is logistic regression
on standardised vectors. Its view of the clips (layer and pooling), then its penalty, are selected
without the clips that it is scored on:

* digits: each speaker is the test set once; views are compared by leaving out each of the other
  speakers in turn;
* words: trained on sentences that stage 1 was trained on too, selected on validation sentences,
  scored on test sentences.

For the selection, classifiers are trained on a third of the clips.
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

PENALTIES = (0.1, 0.01, 0.001)  # scikit-learn's C, the inverse; views are compared at the first
SAMPLE_EVERY = 3  # clips, when views and penalties are selected

Groups = frozenset[str]
Fold = tuple[Groups, str]  # training groups, validation group


class Clips:
    """Labels, groups and views of one task's clips.

    Args:
        path: a file written by pooling.py.

    Raises:
        InputError: there is no such file.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"there is no {path}; write it with python -m examples.probe.pooling")
        stored = dict(np.load(path))
        self.labels, self.groups = stored.pop("labels"), stored.pop("groups")
        self.views: dict[str, NDArray[np.float32]] = stored
        # Both tasks are stored in order of label or of sentence, so the sample is shuffled.
        shuffled = np.random.default_rng(0).permutation(len(self.labels))
        self.sample = np.zeros(len(self.labels), bool)
        self.sample[shuffled[::SAMPLE_EVERY]] = True
        self.correct = cache(self._correct)

    def _correct(self, view: str, penalty: float, train: Groups, sample: bool) -> NDArray[np.bool_]:
        """Clips that a classifier trained on the groups ``train`` gets right, among all clips."""
        selected = np.isin(self.groups, list(train))
        if sample:
            selected &= self.sample
        classifier = make_pipeline(
            StandardScaler(), LogisticRegression(C=penalty, max_iter=200, tol=1e-3)
        )
        vectors = self.views[view]
        classifier.fit(vectors[selected], self.labels[selected])
        return classifier.predict(vectors) == self.labels

    def accuracy(
        self, view: str, penalty: float, train: Groups, test: str, sample: bool = False
    ) -> float:
        """Accuracy on the group ``test`` in per cent."""
        correct = self.correct(view, penalty, train, sample)
        return 100 * float(correct[self.groups == test].mean())

    def validated(self, view: str, penalty: float, folds: list[Fold]) -> float:
        """Mean accuracy over ``folds``, trained on the sample."""
        return float(np.mean([self.accuracy(view, penalty, *fold, sample=True) for fold in folds]))


def folds(task: str, groups: NDArray[np.str_]) -> dict[str, tuple[Groups, list[Fold]]]:
    """Test group -> its training groups, and the folds (train, validation) for the selection."""
    if task == "words":
        train = frozenset(["train"])
        return {"test": (train, [(train, "valid")])}
    everyone = frozenset(groups.tolist())
    by_speaker = {}
    for speaker in sorted(everyone):
        others = everyone - {speaker}
        by_speaker[speaker] = (others, [(others - {other}, other) for other in sorted(others)])
    return by_speaker


def score(task: str, clips: Clips, views: list[str]) -> dict:
    """Mean accuracy over the test groups, and for each group its accuracy and selection."""
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
    """Command-line entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.probe.classify", description=__doc__.splitlines()[0]
    )
    parser.add_argument("vectors", type=Path, help="output folder of pooling.py")
    parser.add_argument("out", type=Path, help="folder for scores.json")
    parser.add_argument(
        "--alone", nargs="+", default=[], metavar="VIEW", help="views to score on their own too"
    )
    args = parser.parse_args(arguments)
    with command_line():
        scores = {}
        for task in TASKS:
            clips = Clips(args.vectors / f"{task}.npz")
            if unknown := set(args.alone) - set(clips.views):
                raise InputError(f"{args.vectors} has no view {unknown.pop()!r}")
            alone = {view: score(task, clips, [view]) for view in args.alone}
            scores[task] = {**score(task, clips, list(clips.views)), "alone": alone}
        with atomic_path(args.out / "scores.json") as partial:
            partial.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    print(", ".join(f"{task} {scores[task]['accuracy']:.1f} %" for task in scores))


if __name__ == "__main__":
    main()
