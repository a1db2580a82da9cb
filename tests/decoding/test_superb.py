"""SUPERB metrics against other implementations and formulas."""

from itertools import permutations

import jiwer
import numpy as np
import pytest
import torch

from examples.superb.predictions import activity_text, slot_accuracies
from mmpt_fairseq.data.segments import parse_segments, speaker_activity
from mmpt_fairseq.decoding.superb import (
    DiarizationErrors,
    correct_clips,
    diarization_errors,
    downsample_labels,
    in_frames,
    near_boundaries,
    phone_errors,
    predict_slots,
    speech_activity,
)


def random_activity(rng, frames: int, speakers: int) -> np.ndarray:
    """Random speaker turns of multiples of 8 frames, with overlaps."""
    turns = rng.random((frames // 8 + 1, speakers)) < 0.5
    return np.repeat(turns, 8, axis=0)[:frames]


def segments(active: np.ndarray) -> list[tuple[int, int, int]]:
    """(speaker, first, end) of every contiguous activity."""
    edges = np.diff(np.pad(active.astype(int), ((1, 1), (0, 0))), axis=0)
    return [
        (speaker, int(first), int(end))
        for speaker in range(active.shape[1])
        for first, end in zip(
            np.flatnonzero(edges[:, speaker] > 0),
            np.flatnonzero(edges[:, speaker] < 0),
            strict=True,
        )
    ]


def md_eval(reference: np.ndarray, hypothesis: np.ndarray, collar: int) -> tuple[int, int]:
    """(errors, speech) by md-eval's formula over regions between boundaries, best of all mappings.

    Error of a region: duration x (max(reference, hypothesis speakers) - correct speakers).
    """
    theirs, ours = segments(reference), segments(hypothesis)
    excluded = [(t - collar, t + collar) for _, *ends in theirs for t in ends] if collar else []
    cuts = {0, len(reference)} | {t for _, *ends in (*theirs, *ours) for t in ends}
    cuts |= {min(max(t, 0), len(reference)) for span in excluded for t in span}
    regions = []
    for start, end in zip(sorted(cuts)[:-1], sorted(cuts)[1:], strict=True):
        middle = (start + end) / 2
        if any(low < middle < high for low, high in excluded):
            continue
        spoken = {s for s, a, b in theirs if a < middle < b}
        detected = {s for s, a, b in ours if a < middle < b}
        regions.append((end - start, spoken, detected))
    slots = max(reference.shape[1], hypothesis.shape[1])
    best = min(
        sum(
            duration
            * (
                max(len(spoken), len(detected))
                - len(spoken & {mapping[speaker] for speaker in detected})
            )
            for duration, spoken, detected in regions
        )
        for mapping in permutations(range(slots))
    )
    return best, sum(duration * len(spoken) for duration, spoken, _ in regions)


@pytest.mark.parametrize("speakers", [(2, 2), (3, 3), (3, 2), (1, 3), (2, 0), (0, 2)])
@pytest.mark.parametrize("collar", [0, 3])
def test_der_matches_md_eval_over_all_mappings(speakers, collar):
    rng = np.random.default_rng(0)
    for _ in range(20):
        reference = random_activity(rng, 90, speakers[0])
        hypothesis = random_activity(rng, 90, speakers[1])
        errors = diarization_errors(reference, hypothesis, collar)
        assert (errors.wrong, errors.spoken) == md_eval(reference, hypothesis, collar)


def test_der_of_a_hand_computed_example():
    """Ten frames with swapped speaker names: two missed, one false alarm, one confused."""
    reference = np.zeros((10, 2), bool)
    reference[0:5, 0], reference[5:9, 1] = True, True
    hypothesis = np.zeros((10, 2), bool)
    hypothesis[2:6, 1], hypothesis[6:10, 0] = True, True
    errors = diarization_errors(reference, hypothesis)
    assert errors == DiarizationErrors(missed=2, false_alarms=1, confused=1, spoken=9)
    assert errors.rate == 4 / 9
    assert (errors + errors).rate == 4 / 9


def test_der_without_reference_or_detected_speech():
    silence, speech = np.zeros((50, 2), bool), np.ones((50, 2), bool)
    assert diarization_errors(silence, silence).rate == 0.0
    assert diarization_errors(silence, speech).rate == float("inf")
    assert diarization_errors(speech, silence).rate == 1.0
    assert diarization_errors(speech, np.zeros((50, 0), bool)).rate == 1.0
    assert DiarizationErrors().rate == 0.0


def test_der_with_three_simultaneous_speakers():
    """Two of three are detected, so a third of the speech is missed."""
    reference, hypothesis = np.ones((30, 3), bool), np.ones((30, 2), bool)
    assert diarization_errors(reference, hypothesis) == DiarizationErrors(missed=30, spoken=90)


def test_collar_excludes_frames_around_every_boundary():
    reference = np.zeros((20, 1), bool)
    reference[5:12] = True
    assert np.flatnonzero(near_boundaries(reference, 2)).tolist() == [3, 4, 5, 6, 10, 11, 12, 13]
    assert not near_boundaries(reference, 0).any()


def test_phone_errors_match_jiwer():
    rng = np.random.default_rng(0)
    phones = list("abcde")
    for _ in range(50):
        reference = list(rng.choice(phones, rng.integers(1, 12)))
        hypothesis = list(rng.choice(phones, rng.integers(0, 12)))
        expected = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
        edits = expected.insertions + expected.deletions + expected.substitutions
        assert phone_errors(reference, hypothesis) == edits
    assert phone_errors(["a", "b"], []) == 2


def test_a_clip_is_correct_if_every_slot_is():
    logits = torch.tensor([[2.0, 0, 0, 1, 5], [0, 1, 3, 0, 0]])
    predicted = predict_slots(logits, [2, 3])
    assert predicted.tolist() == [[0, 2], [1, 0]]
    assert correct_clips(predicted, torch.tensor([[0, 2], [0, 0]])) == 1
    assert correct_clips(predicted, predicted) == 2


def test_slot_accuracies_are_per_slot():
    assert slot_accuracies(["a x", "b y", "b x", "a y"], ["a x", "a y", "a y", "a y"]) == [50, 75]


def test_median_filter_is_a_running_majority():
    values = np.random.default_rng(0).random((60, 2))
    padded = np.pad(values > 0.4, ((2, 2), (0, 0)))
    majority = np.stack([padded[i : i + 60] for i in range(5)]).sum(axis=0) > 2
    assert (speech_activity(values, 0.4, 5) == majority).all()
    assert (speech_activity(values, 0.4, 1) == (values > 0.4)).all()


def test_conversion_between_states_and_frames():
    target = torch.arange(10.0).view(1, 10, 1)
    assert downsample_labels(target, 4, 3).flatten().tolist() == [2, 6, 9]
    assert downsample_labels(target, 1, 10).flatten().tolist() == list(range(10))
    frames = in_frames(torch.tensor([[1.0], [2.0]]), 4, 10)
    assert frames.flatten().tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 2, 2]


def test_activity_text_round_trip():
    active = random_activity(np.random.default_rng(3), 80, 2)
    text = activity_text(active)
    assert {speaker for speaker, _, _ in parse_segments(text, "here")} == {"1", "2"}
    assert (speaker_activity(text, 80, "here") == active).all()
    assert activity_text(np.zeros((9, 2), bool)) == ""
