"""Functions for all datasets of this package, also inside fairseq's concatenations of them."""

import itertools
import os
from collections.abc import Iterator, Sequence

import numpy as np
from fairseq.data import FairseqDataset
from numpy.typing import NDArray

from manifests.errors import InputError
from mmpt_fairseq.data.waveform import split_slice


def manifest_datasets(dataset: FairseqDataset) -> Iterator[FairseqDataset]:
    """This package's datasets inside fairseq's concatenated and resampled ones."""
    if hasattr(dataset, "manifest"):
        yield dataset
    else:
        for part in getattr(dataset, "datasets", None) or [dataset.dataset]:
            yield from manifest_datasets(part)


def longest_first(
    rows: NDArray[np.integer], sizes: NDArray[np.integer], shuffle: bool
) -> NDArray[np.int64]:
    """Sort ``rows`` by descending size; ties keep their order or are shuffled.

    Args:
        sizes: of all rows of the dataset.
        shuffle: with NumPy's global generator, which fairseq seeds per epoch.
    """
    rows = np.random.permutation(rows) if shuffle else rows
    return rows[np.argsort(-sizes[rows], kind="stable")]


def is_training_set(dataset: FairseqDataset) -> bool:
    """Whether it is a training set, whose rows may be skipped or drawn twice."""
    return all(part.training for part in manifest_datasets(dataset))


def prepare_validation(
    dataset: FairseqDataset, root: str | None, columns: Sequence[str] = ("audio",)
) -> None:
    """Check, before training starts, that the files of a validation split exist.

    A clip that turns out to be damaged is then skipped, logged and counted in each validation, as
    in training, so that the first validation does not end a run.

    Args:
        root: what paths are relative to; the manifest's folder if None.
        columns: manifest columns that contain paths.

    Raises:
        InputError: a file is missing.
    """
    existing: set[str] = set()
    for part in manifest_datasets(dataset):
        part.skipped.tolerate = True
        for row, column in itertools.product(range(len(part)), columns):
            path, _, _ = split_slice(part.manifest.resolve(column, row, root or None))
            if path and path not in existing:
                if not os.path.exists(path):
                    raise InputError(
                        f"{part.manifest.where(row)}: there is no {column} file {path}; "
                        "restore it or remove the row"
                    )
                existing.add(path)


def raise_if_unreadable(sample: dict) -> None:
    """Raise InputError if an evaluation batch contains an unreadable clip."""
    if sample.get("unreadable"):
        raise InputError(f"{sample['unreadable'][0]}; an evaluation skips no rows, so fix it")


def check_skipped(dataset: FairseqDataset) -> None:
    """Raise InputError if too many clips, or too many noise clips, are unusable."""
    for part in manifest_datasets(dataset):
        part.skipped.check()
        if getattr(part, "augmentation", None) is not None:
            part.augmentation.skipped.check()
