"""Random masks over the positions of a clip, each with an exact number of masked positions.

Uniform without replacement as in masked autoencoders (arXiv 2111.06377), spans in time as in
wav2vec 2.0 (arXiv 2006.11477), tubes through time as in VideoMAE (arXiv 2203.12602).
"""

import numpy as np
from numpy.typing import NDArray


def random_mask(length: int, ratio: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mask ``(length,)``, True at :func:`masked_count` positions drawn without replacement."""
    mask = np.zeros(length, dtype=bool)
    mask[rng.permutation(length)[: masked_count(length, ratio)]] = True
    return mask


def span_mask(length: int, ratio: float, span: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mask ``(length,)`` as :func:`random_mask`, with True in runs of ``span`` positions.

    The runs do not overlap but may touch; one is shorter if ``span`` does not divide the number
    of masked positions. Every order of runs and visible positions on a circle is equally likely,
    so each position is masked equally often; a run across the circle's seam is cut in two.
    """
    masked = masked_count(length, ratio)
    if not masked:
        return np.zeros(length, dtype=bool)
    runs = [span] * (masked // span) + [masked % span] * (masked % span > 0)
    pieces = np.array([*runs, *[0] * (length - masked)])[
        rng.permutation(len(runs) + length - masked)
    ]
    mask = np.repeat(pieces > 0, np.maximum(pieces, 1))
    return np.roll(mask, int(rng.integers(length)))


def tube_mask(
    grid: tuple[int, int, int], ratio: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Mask ``(t * h * w,)`` over a ``grid`` of patches, the same in every time slice."""
    t, h, w = grid
    return np.tile(random_mask(h * w, ratio, rng), t)


def masked_count(length: int, ratio: float) -> int:
    """Number of masked positions out of ``length`` at a mask ratio of ``ratio``.

    At least one position stays visible; with a ratio above 0, at least one of two or more is
    masked.
    """
    masked = round(ratio * length)
    if ratio > 0:
        masked = max(masked, 1)
    return max(min(masked, length - 1), 0)
