"""What SUPERB's four tasks predict: a manifest's cells as targets, and labels from outputs.

=========================  ==============================================================
``keyword_spotting``       ``tgt_text`` is the class: ``yes``
``intent_classification``  ``tgt_text`` holds the slots, parted by spaces, with underscores for
                           the spaces inside one: ``change_language none none``
``phoneme_recognition``    ``tgt_text`` holds phones, parted by spaces: ``HH AH L OW``
``speaker_diarization``    ``segments`` says who speaks when (see data/segments.py)
=========================  ==============================================================

The labels are those of the training split, or those that ``labels.txt`` beside it declares: one
line a slot (phones: one line), labels parted by spaces.
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

KINDS = (
    "keyword_spotting",
    "intent_classification",
    "phoneme_recognition",
    "speaker_diarization",
)
SPEAKERS = 2  # at once, as in Libri2Mix


class ClassLabels:
    """Keyword spotting (one slot) and intent classification (two or more)."""

    column = "tgt_text"

    def __init__(self, kind: str, inventory: list[list[str]]) -> None:
        self.kind, self.inventory = kind, inventory
        self._index = [{label: i for i, label in enumerate(slot)} for slot in inventory]

    @property
    def size(self) -> int:
        """Outputs of a head: the classes of all slots."""
        return sum(map(len, self.inventory))

    @classmethod
    def from_rows(cls, kind: str, manifest: Manifest) -> "ClassLabels":
        """The labels that occur, sorted."""
        rows = [_words(manifest, row, cls.column) for row in range(len(manifest))]
        for row, words in enumerate(rows):
            _check_slots(kind, len(words), len(rows[0]), manifest.where(row))
        return cls(kind, [sorted(set(slot)) for slot in zip(*rows, strict=True)])

    def target(self, manifest: Manifest, row: int) -> Tensor:
        """``(slots,)`` class indices.

        Raises:
            InputError: a label that does not occur in training, or too many or few.
        """
        words = _words(manifest, row, self.column)
        _check_slots(self.kind, len(words), len(self.inventory), manifest.where(row))
        for word, slot in zip(words, self._index, strict=True):
            if word not in slot:
                raise InputError(
                    f"{manifest.where(row)}: the label {word!r} does not occur in training, which "
                    f"has {', '.join(list(slot)[:8])}{', ...' if len(slot) > 8 else ''}; mend the "
                    "row or train with it"
                )
        return torch.tensor([slot[word] for word, slot in zip(words, self._index, strict=True)])

    def collate(self, targets: list[Tensor]) -> dict[str, Tensor]:
        """``target`` ``(B, slots)``."""
        return {"target": torch.stack(targets)}

    def text(self, indices: Tensor) -> str:
        """``(slots,)`` class indices as a manifest spells them."""
        pairs = zip(self.inventory, indices.tolist(), strict=True)
        return " ".join(slot[index] for slot, index in pairs)

    def check(self, training: Manifest) -> None:
        """Raise InputError for a declared class that training has no example of."""
        seen = ClassLabels.from_rows(self.kind, training).inventory
        for slot, occurring in zip(self.inventory, seen, strict=False):
            _refuse_without_example(slot, occurring, training)


class PhoneLabels:
    """Phoneme recognition; the blank is the dictionary's BOS, as in stages 2 and 3."""

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
        """The phones that occur, sorted.

        Raises:
            InputError: the rows are those of another task.
        """
        rows = [_words(manifest, row, cls.column) for row in range(len(manifest))]
        if max(map(len, rows)) == 1:
            raise InputError(
                f"every row of {manifest.path} has a single label; phoneme_recognition wants "
                "phones parted by spaces. Is this a manifest of keyword_spotting?"
            )
        if _are_slots(rows):
            raise InputError(
                f"every row of {manifest.path} has {len(rows[0])} labels, each place its own; "
                "phoneme_recognition wants phones. Is this a manifest of intent_classification?"
            )
        return cls(kind, [sorted({phone for words in rows for phone in words})])

    def target(self, manifest: Manifest, row: int) -> Tensor:
        """``(L,)`` tokens.

        Raises:
            InputError: a phone does not occur in training.
        """
        words = _words(manifest, row, self.column)
        unknown = [w for w in words if self.dictionary.index(w) == self.dictionary.unk()]
        if unknown:
            raise InputError(
                f"{manifest.where(row)}: the phone {unknown[0]!r} does not occur in training; mend "
                "the row or train with it"
            )
        return torch.tensor([self.dictionary.index(word) for word in words])

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
        _refuse_without_example(self.inventory[0], occurring, training)


class SpeakerLabels:
    """Speaker diarization: who of two speaks in each 10 ms frame."""

    column = "segments"
    size = SPEAKERS

    def __init__(self, kind: str, inventory: list[list[str]]) -> None:
        self.kind, self.inventory = kind, inventory

    @classmethod
    def from_rows(cls, kind: str, manifest: Manifest) -> "SpeakerLabels":
        """Speakers are told apart within a clip alone: there is nothing to collect.

        Raises:
            InputError: nobody speaks in any row.
        """
        if not any(manifest.column(cls.column)):
            raise InputError(
                f"nobody speaks in {manifest.path}: its column segments is empty in every row. Is "
                "this a manifest of another task?"
            )
        return cls(kind, [])

    def target(self, manifest: Manifest, row: int) -> Tensor:
        """``(T, 2)``, 1.0 where a speaker speaks.

        Raises:
            InputError: the cell cannot be read, or has more speakers than the task.
        """
        where = manifest.where(row)
        cell = manifest.column(self.column)[row]
        active = speaker_activity(cell, int(manifest.n_frames[row]), where)
        if active.shape[1] > SPEAKERS:
            raise InputError(
                f"{where} has {active.shape[1]} speakers in the column segments; this task tells "
                f"{SPEAKERS} apart. Leave the row out"
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
        """Nothing is declared."""


Labels = ClassLabels | PhoneLabels | SpeakerLabels
_CLASSES = dict(zip(KINDS, (ClassLabels, ClassLabels, PhoneLabels, SpeakerLabels), strict=True))


def label_column(kind: str) -> str:
    """The manifest's column that ``kind`` reads."""
    return _CLASSES[kind].column


def make_labels(kind: str, inventory: list[list[str]]) -> Labels:
    """Labels of a kind from the inventory that a checkpoint carries."""
    return _CLASSES[kind](kind, inventory)


def training_labels(kind: str, training: Manifest) -> Labels:
    """Labels that the training split has, or that ``labels.txt`` beside it declares.

    Raises:
        InputError: a manifest of another task, a declared class that has no example.
    """
    declared = training.path.parent / "labels.txt"
    found = _CLASSES[kind].from_rows(kind, training)
    if not found.inventory or not declared.is_file():
        return found
    labels = make_labels(kind, _declared(declared, len(found.inventory)))
    labels.check(training)
    return labels


def check_rows(labels: Labels, manifest: Manifest) -> None:
    """Read every row's target once, so that a fault is said before hours of training."""
    for row in range(len(manifest)):
        labels.target(manifest, row)


def _words(manifest: Manifest, row: int, column: str) -> list[str]:
    words = manifest.column(column)[row].split()
    if not words:
        raise InputError(
            f"{manifest.where(row)}: the column {column} is empty; fill it. Is this a manifest of "
            "another task?"
        )
    return words


def _are_slots(rows: list[list[str]]) -> bool:
    """Whether rows are of one length and hardly a label (``none`` may) occurs in two places.

    One row alone tells nothing.
    """
    if len(rows) == 1 or len({len(row) for row in rows}) > 1:
        return False
    places = [set(place) for place in zip(*rows, strict=True)]
    return sum(map(len, places)) - len(set().union(*places)) < len(places)


def _check_slots(kind: str, here: int, elsewhere: int, where: str) -> None:
    if kind == "keyword_spotting" and here != 1:
        raise InputError(
            f"{where} has {here} labels where keyword_spotting takes one; is this a manifest of "
            "another task? (Write spaces inside a label as underscores)"
        )
    if kind == "intent_classification" and here == 1:
        raise InputError(
            f"{where} has one label where intent_classification takes several slots; is this a "
            "manifest of keyword_spotting?"
        )
    if here != elsewhere:
        raise InputError(
            f"{where} has {here} slots where others have {elsewhere}; is this a manifest of "
            "another task? (Write spaces inside a slot as underscores)"
        )


def _declared(path: Path, slots: int) -> list[list[str]]:
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    inventory = [line for line in lines if line]
    if len(inventory) != slots:
        raise InputError(
            f"{path} declares {len(inventory)} slots (one a line) and the rows have {slots}"
        )
    return inventory


def _refuse_without_example(declared: list[str], occurring: list[str], training: Manifest) -> None:
    missing = [label for label in declared if label not in occurring]
    if missing:
        raise InputError(
            f"labels.txt declares {missing[0]!r}, of which {training.path} has no example; add one "
            "or remove the label"
        )
