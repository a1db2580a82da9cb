"""What holds for the rows of every dataset of ours, and of fairseq's that are made of them."""

import itertools
import os
from collections.abc import Iterator, Sequence

import numpy as np
from fairseq.data import FairseqDataset
from numpy.typing import NDArray

from manifests.errors import InputError
from mmpt_fairseq.data.waveform import split_slice


def manifest_datasets(dataset: FairseqDataset) -> Iterator[FairseqDataset]:
    """The datasets of ours inside fairseq's concatenations and resamplings."""
    if hasattr(dataset, "manifest"):
        yield dataset
    else:
        for part in getattr(dataset, "datasets", None) or [dataset.dataset]:
            yield from manifest_datasets(part)


def longest_first(
    rows: NDArray[np.integer], sizes: NDArray[np.integer], shuffle: bool
) -> NDArray[np.int64]:
    """``rows`` by falling size; equals as they come, or at random (fairseq seeds numpy per epoch).

    Args:
        sizes: of all rows.
    """
    rows = np.random.permutation(rows) if shuffle else rows
    return rows[np.argsort(-sizes[rows], kind="stable")]


def dataset_is_training(dataset: FairseqDataset) -> bool:
    """Whether rows of it may be left out or drawn twice."""
    return all(part.training for part in manifest_datasets(dataset))


def begin_validation(
    dataset: FairseqDataset, root: str | None, columns: Sequence[str] = ("audio",)
) -> None:
    """See that a training can be validated on a split, before it begins.

    A clip that turns out to be damaged is then skipped in each validation, told and counted, as it
    is in training: at its first validation a run has much to lose.

    Args:
        root: what paths are relative to, the manifest's folder if none is given.
        columns: of the manifest, in which files are named.

    Raises:
        InputError: a file is not there.
    """
    there: set[str] = set()
    for part in manifest_datasets(dataset):
        part.skipped.tolerate = True
        for row, column in itertools.product(range(len(part)), columns):
            path, _, _ = split_slice(part.manifest.resolve(column, row, root or None))
            if path and path not in there:
                if not os.path.exists(path):
                    raise InputError(
                        f"{part.manifest.where(row)}: there is no {column} file {path}; "
                        "mend it or leave it out"
                    )
                there.add(path)


def refuse_unreadable(sample: dict) -> None:
    """Stop an evaluation that would leave out a clip."""
    if sample.get("unreadable"):
        raise InputError(f"{sample['unreadable'][0]}; an evaluation leaves no row out, mend it")


def check_skipped(dataset: FairseqDataset) -> None:
    """Stop a training in which too many clips cannot be used."""
    for part in manifest_datasets(dataset):
        part.skipped.check()
