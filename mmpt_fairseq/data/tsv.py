"""A tab-separated file as arrays: where its lines and cells lie, which are empty, what they count.

Files of millions of rows are looked through without a Python object for each of their cells.
"""

import mmap

import numpy as np
from numpy.typing import NDArray

TAB, NEWLINE, RETURN, SPACE, ZERO, ASCII = b"\t\n\r 0\x7f"
AT_ONCE = 1 << 24  # bytes
DIGITS = 9  # numbers of so many fit into 32 bits

Offsets = NDArray[np.int64]


def line_starts(data: mmap.mmap | bytes) -> Offsets:
    """``(lines + 1,)`` offsets at which lines start, and the end of the data."""
    found = [np.zeros(1, np.int64)]
    for begin in range(0, len(data), AT_ONCE):
        part = np.frombuffer(data[begin : begin + AT_ONCE], np.uint8)
        found.append(np.flatnonzero(part == NEWLINE) + (begin + 1))
    starts = np.concatenate(found)
    return starts if starts[-1] == len(data) else np.append(starts, len(data))


def may_be_blank(data: mmap.mmap | bytes, starts: Offsets) -> NDArray[np.bool_]:
    """``(lines,)``: whether a line begins as one of white space alone does, Unicode's included."""
    first = np.frombuffer(data, np.uint8)[starts]
    return (first <= SPACE) | (first > ASCII)


class OddLine(ValueError):
    """A line has more or fewer cells than there are columns.

    Attributes:
        line: its number among those looked at, from 0.
    """

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line} has another number of cells")
        self.line = line


class Cells:
    """The cells of some lines.

    Args:
        text: that holds the lines.
        starts, ends: ``(lines,)`` offsets into it, those of line breaks included.
        columns: how many cells a line has.

    Attributes:
        filled: ``(lines, columns)`` bool: there is something in the cell.

    Raises:
        OddLine: the first that has more or fewer.
    """

    def __init__(self, text: bytes, starts: Offsets, ends: Offsets, columns: int) -> None:
        self.text, self._bytes = text, np.frombuffer(text, np.uint8)
        # Some files end their lines with several of them.
        while (broken := (ends > starts) & np.isin(self._bytes[ends - 1], (NEWLINE, RETURN))).any():
            ends = ends - broken
        tabs = np.flatnonzero(self._bytes == TAB)
        line = np.searchsorted(starts, tabs, side="right") - 1
        inside = tabs < ends[line]  # those in blank lines are not
        tabs, line = tabs[inside], line[inside]
        odd = np.bincount(line, minlength=len(starts)) != columns - 1
        if odd.any():
            raise OddLine(int(odd.argmax()))
        tabs = tabs.reshape(len(starts), columns - 1)
        self._left = np.column_stack([starts, tabs + 1])
        self._right = np.column_stack([tabs, ends])
        self.filled = self._right > self._left

    def column(self, place: int) -> list[bytes]:
        """``(lines,)`` cells."""
        bounds = zip(self._left[:, place].tolist(), self._right[:, place].tolist(), strict=True)
        return [self.text[left:right] for left, right in bounds]

    def counts(self, place: int) -> NDArray[np.int32]:
        """``(lines,)`` whole numbers; 0 where a cell is empty, -1 where it holds no such number."""
        left, right = self._left[:, place], self._right[:, place]
        wide = min(int((right - left).max()), DIGITS)
        places = left[:, None] + np.arange(wide)
        beyond = places >= right[:, None]
        digits = self._bytes[np.minimum(places, len(self._bytes) - 1)].astype(np.int32) - ZERO
        plain = ((digits >= 0) & (digits <= 9) | beyond).all(1) & (right - left <= DIGITS)
        found = np.zeros(len(left), np.int32)
        for digit, behind in zip(digits.T, beyond.T, strict=True):
            found = np.where(behind, found, 10 * found + digit)
        for row in np.flatnonzero(~plain):
            found[row] = _count(self.text[left[row] : right[row]])
        return found


def _count(cell: bytes) -> int:
    """As Python reads it: with spaces around, leading zeros, the digits of any script."""
    try:
        return int(np.int32(max(-1, int(cell.decode()))))
    except (ValueError, OverflowError):
        return -1
