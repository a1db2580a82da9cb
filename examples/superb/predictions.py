"""Predictions of a SUPERB model on a split, and their score."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from fairseq import checkpoint_utils
from numpy.typing import NDArray
from tqdm import tqdm

from manifests.errors import InputError
from mmpt_fairseq.data.audio import FRAMES_PER_SECOND
from mmpt_fairseq.data.rows import raise_if_unreadable
from mmpt_fairseq.data.segments import format_segments
from mmpt_fairseq.decoding.superb import (
    Activity,
    DiarizationErrors,
    diarization_errors,
    predict_batch,
    speaker_activities,
    speech_activity,
)
from mmpt_fairseq.models.superb import SuperbModel
from mmpt_fairseq.models.upstreams import check_stored
from mmpt_fairseq.tasks.superb import Scoring, SuperbTask

# The grid of s3prl's downstream/diarization/score.sh, which reports the best on the test set; here
# the values are chosen on the validation split.
THRESHOLDS, MEDIANS = (0.3, 0.4, 0.5, 0.6, 0.7), (1, 11)
METRIC_OF_TASK = {
    "keyword_spotting": "accuracy",
    "intent_classification": "accuracy",
    "phoneme_recognition": "per",
    "speaker_diarization": "der",
}


@dataclass
class Predictions:
    """Predictions on one split, in manifest order.

    Attributes:
        texts: label, slots or phones of each clip (not for diarization).
        probabilities: ``(T, 2)`` in 10 ms frames (diarization only).
        references: ``(T, 2)``, likewise.
        wrong, total: number of clips or phones.
    """

    texts: list[str] = field(default_factory=list)
    probabilities: list[NDArray[np.float32]] = field(default_factory=list)
    references: list[Activity] = field(default_factory=list)
    wrong: int = 0
    total: int = 0


def load(checkpoint: str | Path, data: str | Path) -> tuple[SuperbModel, SuperbTask]:
    """Load a trained model and its task, set up for the manifests in ``data``.

    Raises:
        InputError: not a checkpoint of this task, or ``data`` has states of another upstream.
    """
    if not Path(checkpoint).is_file():
        raise InputError(f"there is no checkpoint {checkpoint}")
    # decodes_with marks an evaluation, in which no row may be skipped.
    overrides = {"data": str(data), "decodes_with": str(checkpoint)}
    models, cfg, task = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)], overrides)
    if not isinstance(task, SuperbTask):
        raise InputError(f"{checkpoint} is not a checkpoint of the task mmpt_superb")
    check_stored(cfg.model, Path(data))
    return models[0].eval(), task


@torch.no_grad()
def predict(model: SuperbModel, task: SuperbTask, split: str, batch: int = 16) -> Predictions:
    """Predict every row of a split; raise InputError for a row that cannot be read."""
    task.load_dataset(split)
    dataset = task.dataset(split)
    batches = task.get_batch_iterator(
        dataset, max_sentences=batch, max_positions=task.max_positions()
    ).next_epoch_itr(shuffle=False)
    found: dict[int, dict] = {}
    scores = Predictions()
    for sample in tqdm(batches, desc=split, unit="batch"):
        raise_if_unreadable(sample)
        output = model(**sample["net_input"])
        batch_found = _predict_batch(model, task, output, sample, scores)
        found.update(zip(sample["id"].tolist(), batch_found, strict=True))
    for row in range(len(dataset)):
        for name, value in found[row].items():
            getattr(scores, name).append(value)
    return scores


def _predict_batch(model, task: SuperbTask, output, sample: dict, scores: Predictions) -> list:
    if task.kind == "speaker_diarization":
        rows = speaker_activities(output, sample, model.upstream.stride)
        return [{"probabilities": found, "references": reference} for found, reference in rows]
    found, wrong, total = predict_batch(output, sample, task.labels)
    scores.wrong += wrong
    scores.total += total
    return [{"texts": task.labels.text(row)} for row in found]


def diarization_score(predictions: Predictions, scoring: Scoring) -> DiarizationErrors:
    """Errors summed over recordings."""
    pairs = zip(predictions.references, predictions.probabilities, strict=True)
    return sum(
        (
            diarization_errors(
                reference,
                speech_activity(values, scoring.threshold, scoring.median),
                scoring.collar,
            )
            for reference, values in pairs
        ),
        DiarizationErrors(),
    )


def choose_scoring(predictions: Predictions, scoring: Scoring) -> Scoring:
    """Choose the threshold and median filter with the lowest DER on (validation) predictions."""
    choices = [
        replace(scoring, threshold=threshold, median=median)
        for threshold, median in product(THRESHOLDS, MEDIANS)
    ]
    return min(choices, key=lambda choice: diarization_score(predictions, choice).rate)


def score(
    model: SuperbModel, task: SuperbTask, split: str, tuned_on: str
) -> tuple[dict, Predictions]:
    """The task's metric in percent on ``split``; diarization is tuned on split ``tuned_on``."""
    metric = METRIC_OF_TASK[task.kind]
    found = predict(model, task, split)
    if metric != "der":
        rate = 100 * found.wrong / found.total
        value = 100 - rate if metric == "accuracy" else rate
        details = {"wrong": found.wrong, "of": found.total}
        if task.kind == "intent_classification":
            references = task.dataset(split).manifest.column(task.labels.column)
            details["slots"] = slot_accuracies(list(references), found.texts)
        return {"metric": metric, "value": value, **details}, found
    scoring = choose_scoring(predict(model, task, tuned_on), task.scoring)
    errors = diarization_score(found, scoring)
    found.texts = [
        activity_text(speech_activity(p, scoring.threshold, scoring.median))
        for p in found.probabilities
    ]
    details = {**asdict(errors), **asdict(scoring)}
    return {"metric": metric, "value": 100 * errors.rate, **details}, found


def slot_accuracies(references: Sequence[str], texts: Sequence[str]) -> list[float]:
    """Accuracy of each slot in percent, from texts as written by :meth:`ClassLabels.text`."""
    pairs = [(a.split(), b.split()) for a, b in zip(references, texts, strict=True)]
    correct = np.array([[x == y for x, y in zip(a, b, strict=True)] for a, b in pairs])
    return [float(percent) for percent in 100 * correct.mean(axis=0)]


def activity_text(active: Activity) -> str:
    """Format ``(T, speakers)`` as a manifest's ``segments`` column; speakers are named 1 and 2."""
    segments = []
    for speaker, row in enumerate(np.pad(active, ((1, 1), (0, 0))).T.astype(np.int8), 1):
        starts, ends = np.flatnonzero(np.diff(row) > 0), np.flatnonzero(np.diff(row) < 0)
        segments += [
            (str(speaker), float(start) / FRAMES_PER_SECOND, float(end) / FRAMES_PER_SECOND)
            for start, end in zip(starts, ends, strict=True)
        ]
    return format_segments(sorted(segments, key=lambda segment: segment[1]))
