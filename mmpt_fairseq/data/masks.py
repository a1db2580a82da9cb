"""Which positions of a clip are masked: random draws, each of an exact share.

Uniform without replacement as in masked autoencoders (arXiv 2111.06377), spans in time as in
wav2vec 2.0 (arXiv 2006.11477), tubes through time as in VideoMAE (arXiv 2203.12602).
"""

import numpy as np
from numpy.typing import NDArray


def random_mask(length: int, ratio: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """``(length,)``, True at :func:`masked_count` positions drawn without replacement."""
    mask = np.zeros(length, dtype=bool)
    mask[rng.permutation(length)[: masked_count(length, ratio)]] = True
    return mask


def span_mask(length: int, ratio: float, span: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """``(length,)``, as many True as in :func:`random_mask`, in runs of ``span`` positions.

    The runs do not overlap but may touch; one of them is shorter where ``span`` does not divide
    their sum. Every order of runs and visible positions on a circle is equally likely, so that
    each position is masked equally often; a run over the circle's seam is cut in two.
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
    """``(t * h * w,)`` for a ``grid`` of patches: the same places masked in every slice of time."""
    t, h, w = grid
    return np.tile(random_mask(h * w, ratio, rng), t)


def masked_count(length: int, ratio: float) -> int:
    """How many of ``length`` positions a share of ``ratio`` masks.

    At least one position stays visible and, for a ratio above 0, one is masked when there are two.
    """
    masked = round(ratio * length)
    if ratio > 0:
        masked = max(masked, 1)
    return max(min(masked, length - 1), 0)
