"""Labels of SUPERB's four tasks: manifest cells to targets, and model outputs to labels.

=========================  ==============================================================
``keyword_spotting``       ``tgt_text`` is the class: ``yes``
``intent_classification``  ``tgt_text`` holds the slots, separated by spaces, with underscores for
                           spaces inside a slot: ``change_language none none``
``phoneme_recognition``    ``tgt_text`` holds phones, separated by spaces: ``HH AH L OW``
``speaker_diarization``    ``segments`` says who speaks when (see data/segments.py)
=========================  ==============================================================

The labels are those of the training split, or those declared by ``labels.txt`` in its folder: one
line per slot (phones: one line), labels separated by spaces.
"""

from pathlib import Path

import numpy as np
import torch
from fairseq.data import Dictionary
from fairseq.data.data_utils import collate_tokens
from torch import Tensor

from manifests.errors import InputError
from mmpt_fairseq.data.manifest import Manifest
from mmpt_fairseq.data.segments import speaker_activity

UTTERANCE_KINDS = ("keyword_spotting", "intent_classification")  # one prediction per clip
FRAME_KINDS = ("phoneme_recognition", "speaker_diarization")
KINDS = (*UTTERANCE_KINDS, *FRAME_KINDS)
SPEAKERS = 2  # per clip, as in Libri2Mix


class ClassLabels:
    """Keyword spotting (one slot) and intent classification (two or more)."""

    column = "tgt_text"

    def __init__(self, kind: str, inventory: list[list[str]]) -> None:
        self.kind, self.inventory = kind, inventory
        self._index = [{label: i for i, label in enumerate(slot)} for slot in inventory]

    @property
    def size(self) -> int:
        """Number of outputs of a head: the classes of all slots."""
        return sum(map(len, self.inventory))

    @classmethod
    def from_rows(cls, kind: str, manifest: Manifest) -> "ClassLabels":
        """Collect the labels that occur, sorted."""
        rows = [_row_labels(manifest, row, cls.column) for row in range(len(manifest))]
        for row, labels in enumerate(rows):
            _check_slots(kind, len(labels), len(rows[0]), manifest.where(row))
        return cls(kind, [sorted(set(slot)) for slot in zip(*rows, strict=True)])

    def target(self, manifest: Manifest, row: int) -> Tensor:
        """``(slots,)`` class indices.

        Raises:
            InputError: a label does not occur in training, or there are too many or too few.
        """
        labels = _row_labels(manifest, row, self.column)
        _check_slots(self.kind, len(labels), len(self.inventory), manifest.where(row))
        for label, slot in zip(labels, self._index, strict=True):
            if label not in slot:
                raise InputError(
                    f"{manifest.where(row)}: the label {label!r} does not occur in training, which "
                    f"has {', '.join(list(slot)[:8])}{', ...' if len(slot) > 8 else ''}; fix the "
                    "row or add the label to the training split"
                )
        return torch.tensor([slot[label] for label, slot in zip(labels, self._index, strict=True)])

    def collate(self, targets: list[Tensor]) -> dict[str, Tensor]:
        """``target`` ``(B, slots)``."""
        return {"target": torch.stack(targets)}

    def text(self, indices: Tensor) -> str:
        """Convert ``(slots,)`` class indices to the text of a manifest cell."""
        pairs = zip(self.inventory, indices.tolist(), strict=True)
        return " ".join(slot[index] for slot, index in pairs)

    def check(self, training: Manifest) -> None:
        """Raise InputError if the declared labels are not those of the training split."""
        training_inventory = ClassLabels.from_rows(self.kind, training).inventory
        for slot, occurring in zip(self.inventory, training_inventory, strict=True):
            _check_declared(slot, occurring, training)


class PhoneLabels:
    """Phoneme recognition; the CTC blank is the dictionary's BOS, as in stages 2 and 3."""

    column = "tgt_text"

    def __init__(self, kind: str, inventory: list[list[str]]) -> None:
        self.kind, self.inventory = kind, inventory
        self.dictionary = Dictionary()
        for phone in inventory[0]:
            self.dictionary.add_symbol(phone)

    @property
    def size(self) -> int:
        return len(self.dictionary)

    @classmethod
    def from_rows(cls, kind: str, manifest: Manifest) -> "PhoneLabels":
        """Collect the phones that occur, sorted.

        Raises:
            InputError: the rows belong to another task.
        """
        rows = [_row_labels(manifest, row, cls.column) for row in range(len(manifest))]
        if max(map(len, rows)) == 1:
            raise InputError(
                f"every row of {manifest.path} has a single label; phoneme_recognition needs "
                "phones separated by spaces. Is this a manifest of keyword_spotting?"
            )
        if _look_like_slots(rows):
            raise InputError(
                f"every row of {manifest.path} has {len(rows[0])} labels, each position its own; "
                "phoneme_recognition needs phones. Is this a manifest of intent_classification?"
            )
        return cls(kind, [sorted({phone for phones in rows for phone in phones})])

    def target(self, manifest: Manifest, row: int) -> Tensor:
        """``(L,)`` tokens.

        Raises:
            InputError: a phone does not occur in training.
        """
        phones = _row_labels(manifest, row, self.column)
        unknown = [p for p in phones if self.dictionary.index(p) == self.dictionary.unk()]
        if unknown:
            raise InputError(
                f"{manifest.where(row)}: the phone {unknown[0]!r} does not occur in training; fix "
                "the row or add the phone to the training split"
            )
        return torch.tensor([self.dictionary.index(phone) for phone in phones])

    def collate(self, targets: list[Tensor]) -> dict[str, Tensor]:
        """``target`` ``(B, L)`` and its lengths."""
        return {
            "target": collate_tokens(targets, self.dictionary.pad()),
            "target_lengths": torch.tensor([len(t) for t in targets]),
        }

    def text(self, tokens: Tensor) -> str:
        return " ".join(self.dictionary[int(token)] for token in tokens)

    def check(self, training: Manifest) -> None:
        occurring = PhoneLabels.from_rows(self.kind, training).inventory[0]
        _check_declared(self.inventory[0], occurring, training)


class SpeakerLabels:
    """Speaker diarization: who of two speaks in each 10 ms frame."""

    column = "segments"
    size = SPEAKERS

    def __init__(self, kind: str, inventory: list[list[str]]) -> None:
        self.kind, self.inventory = kind, inventory

    @classmethod
    def from_rows(cls, kind: str, manifest: Manifest) -> "SpeakerLabels":
        """Speakers are only distinguished within a clip, so there are no labels to collect.

        Raises:
            InputError: no row has any segments.
        """
        if not any(manifest.column(cls.column)):
            raise InputError(
                f"nobody speaks in {manifest.path}: its column segments is empty in every row. Is "
                "this a manifest of another task?"
            )
        return cls(kind, [])

    def target(self, manifest: Manifest, row: int) -> Tensor:
        """``(T, 2)``, 1.0 where a speaker is active.

        Raises:
            InputError: the cell cannot be parsed, or has more speakers than the task.
        """
        where = manifest.where(row)
        cell = manifest.column(self.column)[row]
        active = speaker_activity(cell, int(manifest.n_frames[row]), where)
        if active.shape[1] > SPEAKERS:
            raise InputError(
                f"{where} has {active.shape[1]} speakers in the column segments; this task "
                f"distinguishes {SPEAKERS}. Remove the row"
            )
        missing = SPEAKERS - active.shape[1]
        return torch.from_numpy(np.pad(active, ((0, 0), (0, missing)))).float()

    def collate(self, targets: list[Tensor]) -> dict[str, Tensor]:
        """``target`` ``(B, T, 2)`` and its lengths in 10 ms frames."""
        return {
            "target": torch.nn.utils.rnn.pad_sequence(targets, batch_first=True),
            "target_lengths": torch.tensor([len(t) for t in targets]),
        }

    def check(self, training: Manifest) -> None:
        """Do nothing: there are no declared labels."""


Labels = ClassLabels | PhoneLabels | SpeakerLabels
_CLASSES = dict(zip(KINDS, (ClassLabels, ClassLabels, PhoneLabels, SpeakerLabels), strict=True))


def label_column(kind: str) -> str:
    """The manifest column that task ``kind`` reads."""
    return _CLASSES[kind].column


def make_labels(kind: str, inventory: list[list[str]]) -> Labels:
    """Build the labels of task ``kind`` from the inventory stored in a checkpoint."""
    return _CLASSES[kind](kind, inventory)


def training_labels(kind: str, training: Manifest) -> Labels:
    """Labels of the training split, or those declared by ``labels.txt`` in its folder.

    Raises:
        InputError: the manifest is of another task, or a declared label has no example.
    """
    declared = training.path.parent / "labels.txt"
    found = _CLASSES[kind].from_rows(kind, training)
    if not found.inventory or not declared.is_file():
        return found
    labels = make_labels(kind, _read_inventory(declared, len(found.inventory)))
    labels.check(training)
    return labels


def check_rows(labels: Labels, manifest: Manifest) -> None:
    """Parse the targets of all rows, so that errors are raised before training."""
    for row in range(len(manifest)):
        labels.target(manifest, row)


def _row_labels(manifest: Manifest, row: int, column: str) -> list[str]:
    labels = manifest.column(column)[row].split()
    if not labels:
        raise InputError(
            f"{manifest.where(row)}: the column {column} is empty; fill it. Is this a manifest of "
            "another task?"
        )
    return labels


def _look_like_slots(rows: list[list[str]]) -> bool:
    """Whether all rows have one length and hardly any label (``none``) occurs at two positions.

    False for a single row, which is not enough to tell.
    """
    if len(rows) == 1 or len({len(row) for row in rows}) > 1:
        return False
    positions = [set(position) for position in zip(*rows, strict=True)]
    return sum(map(len, positions)) - len(set().union(*positions)) < len(positions)


def _check_slots(kind: str, count: int, expected: int, where: str) -> None:
    if kind == "keyword_spotting" and count != 1:
        raise InputError(
            f"{where} has {count} labels where keyword_spotting takes one; is this a manifest of "
            "another task? (Write spaces inside a label as underscores)"
        )
    if kind == "intent_classification" and count == 1:
        raise InputError(
            f"{where} has one label where intent_classification takes several slots; is this a "
            "manifest of keyword_spotting?"
        )
    if count != expected:
        raise InputError(
            f"{where} has {count} slots where others have {expected}; is this a manifest of "
            "another task? (Write spaces inside a slot as underscores)"
        )


def _read_inventory(path: Path, slots: int) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8; convert it") from None
    inventory = [labels for line in text.splitlines() if (labels := line.split())]
    if len(inventory) != slots:
        raise InputError(
            f"{path} declares {len(inventory)} slots (one per line) but the rows have {slots}"
        )
    for labels in inventory:
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        if repeated:
            raise InputError(f"{path} declares {repeated[0]!r} twice; remove one")
    return inventory


def _check_declared(declared: list[str], occurring: list[str], training: Manifest) -> None:
    missing = [label for label in declared if label not in occurring]
    if missing:
        raise InputError(
            f"labels.txt declares {missing[0]!r}, of which {training.path} has no example; add one "
            "or remove the label"
        )
    undeclared = [label for label in occurring if label not in declared]
    if undeclared:
        raise InputError(
            f"labels.txt lacks {undeclared[0]!r}, which {training.path} has; add it or remove the "
            "rows"
        )
