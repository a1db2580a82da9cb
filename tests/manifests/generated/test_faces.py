"""Mouth movements follow the audio."""

from pathlib import Path

import av
import numpy as np
import pytest

from manifests.generated.mouth import mouth_path

pytest.importorskip("espeakng_loader")


def test_lips_close_for_p_and_open_for_a():
    phonemes = ((0.2, "p"), (0.4, "'A:"), (0.7, "m"), (0.9, "u:"), (1.2, "_:"))
    mouth = mouth_path(phonemes, 35, 25)

    def at(trajectory: np.ndarray, seconds: float) -> float:
        return trajectory[int(seconds * 25)]

    assert at(mouth.opening, 0.3) < 0.1
    assert at(mouth.opening, 0.8) < 0.1
    assert at(mouth.opening, 0.55) > 0.8
    assert at(mouth.rounding, 1.05) > 0.7 > at(mouth.rounding, 0.55)


def mouth_and_loudness(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per video frame: pixel change around the mouth and in an upper corner, and audio RMS."""
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="gray").astype(float) for f in container.decode(video=0)]
    with av.open(str(path)) as container:
        audio = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    images, size = np.stack(frames), frames[0].shape[0]
    change = np.abs(images - images[0])
    mouth = change[:, int(0.6 * size) : int(0.85 * size), int(0.3 * size) : int(0.7 * size)]
    corner = change[:, : size // 4, : size // 8]
    rms = np.sqrt((audio[: 640 * len(frames)].reshape(len(frames), 640) ** 2).mean(1))
    return mouth.mean((1, 2)), corner.mean((1, 2)), rms


def test_only_the_mouth_correlates_with_the_audio(corpus):
    clips = [mouth_and_loudness(path) for path in sorted(corpus.rglob("*.mp4"))]

    def correlation(change: np.ndarray, loudness: np.ndarray) -> float:
        n = min(len(change), len(loudness))
        if change[:n].std() == 0:
            return 0.0
        return float(np.corrcoef(change[:n], loudness[:n])[0, 1])

    # The silent start and end are left out: they would correlate between any two clips.
    inner = [(m[12:-12], c[12:-12], s[12:-12]) for m, c, s in clips]
    own = np.mean([correlation(m, s) for m, _, s in inner])
    corner = np.mean([correlation(c, s) for _, c, s in inner])
    others = np.mean(
        [
            correlation(m, s)
            for i, (m, _, _) in enumerate(inner)
            for j, (_, _, s) in enumerate(inner)
            if i != j
        ]
    )
    assert own > 0.3
    assert own > others + 0.25
    assert own > corner + 0.25
