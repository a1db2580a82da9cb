"""Convert eSpeak's phonemes to mouth movements: visemes per phoneme, smoothed over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# opening, width, rounding, teeth, tongue, each 0-1
_CLOSED = (0.0, 0.5, 0.0, 0.0, 0.0)
_VISEMES = {
    "p b m": (0.0, 0.45, 0.1, 0.0, 0.0),
    "f v": (0.12, 0.5, 0.0, 1.0, 0.0),
    "T D": (0.28, 0.5, 0.0, 0.6, 0.9),
    "t d n s z": (0.22, 0.6, 0.0, 0.9, 0.2),
    "l": (0.32, 0.55, 0.0, 0.4, 0.8),
    "S Z tS dZ": (0.28, 0.25, 0.75, 0.8, 0.0),
    "k g N x C h": (0.32, 0.5, 0.0, 0.3, 0.1),
    "r R": (0.28, 0.3, 0.55, 0.2, 0.1),
    "w": (0.14, 0.05, 1.0, 0.0, 0.0),
    "j": (0.25, 0.85, 0.0, 0.6, 0.1),
    "i": (0.3, 1.0, 0.0, 0.7, 0.1),
    "I": (0.38, 0.8, 0.0, 0.5, 0.1),
    "e E": (0.58, 0.8, 0.0, 0.5, 0.2),
    "a": (0.92, 0.75, 0.0, 0.4, 0.4),
    "A 0": (1.0, 0.5, 0.1, 0.2, 0.4),
    "V": (0.78, 0.5, 0.0, 0.3, 0.3),
    "O o": (0.72, 0.15, 0.8, 0.0, 0.2),
    "U u": (0.28, 0.0, 1.0, 0.0, 0.0),
    "3": (0.42, 0.3, 0.5, 0.2, 0.1),
    "@": (0.45, 0.5, 0.1, 0.3, 0.1),
}
_BY_PHONEME = {name: shape for names, shape in _VISEMES.items() for name in names.split()}
_STRESS_AND_LENGTH = "',%=:|!?#^-~\"*.0123456789"
_STEP = 0.005  # seconds between the points of the smoothed trajectory


@dataclass(frozen=True)
class Mouth:
    """Trajectories (T,) of mouth parameters over the video frames, each 0-1."""

    opening: NDArray[np.float32]
    width: NDArray[np.float32]
    rounding: NDArray[np.float32]
    teeth: NDArray[np.float32]
    tongue: NDArray[np.float32]


def visemes(mnemonic: str) -> list[tuple[float, ...]]:
    """Mouth shapes of an eSpeak phoneme: two for a diphthong, none for a modifier."""
    name = mnemonic.lstrip("',%=|")
    if not name or name[0] in ";?":  # palatalisation and the glottal stop do not move the lips
        return []
    if name.startswith("_"):
        return [_CLOSED]
    if name[:2] in _BY_PHONEME:
        return [_BY_PHONEME[name[:2]]]
    shapes = [_BY_PHONEME.get(name[0], _BY_PHONEME["@"])]
    rest = name[1:].strip(_STRESS_AND_LENGTH)
    if rest and rest[0] in "IUi@uo":
        shapes.append(_BY_PHONEME[rest[0]])
    return shapes


def mouth_path(
    phonemes: tuple[tuple[float, str], ...], frames: int, fps: float, effort: float = 1.0
) -> Mouth:
    """Mouth parameters for `frames` video frames; `effort` scales how far the mouth opens."""
    times, shapes = [0.0], [_CLOSED]
    ends = [start for start, _ in phonemes[1:]] + [phonemes[-1][0] + 0.05]
    for (start, name), end in zip(phonemes, ends, strict=True):
        targets = visemes(name)
        for i, shape in enumerate(targets):
            times.append(start + (end - start) * (2 * i + 1) / (2 * len(targets)))
            shapes.append(shape)
    # The lips open only shortly before the first phoneme and close after the last.
    times[1:1], shapes[1:1] = [max(0.0, phonemes[0][0] - 0.06)], [_CLOSED]
    times.append(ends[-1] + 0.06)
    shapes.append(_CLOSED)
    grid = np.arange(0, frames / fps, _STEP)
    kernel = np.hanning(13)
    kernel /= kernel.sum()
    middle = (np.arange(frames) + 0.5) / fps
    paths = []
    for values in np.array(shapes, np.float64).T:
        path = np.interp(grid, times, values)
        path = np.convolve(np.pad(path, 6, mode="edge"), kernel, mode="valid")
        paths.append(np.interp(middle, grid, path).astype(np.float32))
    opening, *others = paths
    return Mouth(np.clip(opening * effort, 0, 1.2).astype(np.float32), *others)
