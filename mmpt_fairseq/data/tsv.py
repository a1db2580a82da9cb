"""Parse tab-separated files as arrays: offsets of lines and cells, empty cells, integer columns.

Files of millions of rows are scanned without a Python object per cell.
"""

import mmap

import numpy as np
from numpy.typing import NDArray

TAB, NEWLINE, RETURN, SPACE, ZERO, ASCII = b"\t\n\r 0\x7f"
BLOCK_BYTES = 1 << 24
DIGITS = 9  # decimal digits that always fit into 32 bits

Offsets = NDArray[np.int64]


def line_starts(data: mmap.mmap | bytes) -> Offsets:
    """Offsets of line starts, and the end of the data: ``(lines + 1,)``."""
    result = [np.zeros(1, np.int64)]
    for begin in range(0, len(data), BLOCK_BYTES):
        part = np.frombuffer(data[begin : begin + BLOCK_BYTES], np.uint8)
        result.append(np.flatnonzero(part == NEWLINE) + (begin + 1))
    starts = np.concatenate(result)
    return starts if starts[-1] == len(data) else np.append(starts, len(data))


def may_be_blank(data: mmap.mmap | bytes, starts: Offsets) -> NDArray[np.bool_]:
    """``(lines,)``: whether a line may be blank, judged by its first byte (ASCII or Unicode)."""
    first = np.frombuffer(data, np.uint8)[starts]
    return (first <= SPACE) | (first > ASCII)


class CellCountError(ValueError):
    """A line has more or fewer cells than there are columns.

    Attributes:
        line: its index among the lines parsed.
    """

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line} has the wrong number of cells")
        self.line = line


class Cells:
    """The cells of some lines.

    Args:
        text: contains the lines.
        starts, ends: ``(lines,)`` offsets into it, including line breaks.
        columns: number of cells per line.

    Attributes:
        filled: ``(lines, columns)`` bool: whether the cell is not empty.

    Raises:
        CellCountError: a line has more or fewer cells; names the first such line.
    """

    def __init__(self, text: bytes, starts: Offsets, ends: Offsets, columns: int) -> None:
        self.text, self._bytes = text, np.frombuffer(text, np.uint8)
        # Some files have several line break characters per line.
        while (
            has_break := (ends > starts) & np.isin(self._bytes[ends - 1], (NEWLINE, RETURN))
        ).any():
            ends = ends - has_break
        tabs = np.flatnonzero(self._bytes == TAB)
        line = np.searchsorted(starts, tabs, side="right") - 1
        inside = tabs < ends[line]  # excludes tabs in blank lines
        tabs, line = tabs[inside], line[inside]
        wrong = np.bincount(line, minlength=len(starts)) != columns - 1
        if wrong.any():
            raise CellCountError(int(wrong.argmax()))
        tabs = tabs.reshape(len(starts), columns - 1)
        self._left = np.column_stack([starts, tabs + 1])
        self._right = np.column_stack([tabs, ends])
        self.filled = self._right > self._left

    def column(self, index: int) -> list[bytes]:
        """Cells of a column: ``(lines,)``."""
        bounds = zip(self._left[:, index].tolist(), self._right[:, index].tolist(), strict=True)
        return [self.text[left:right] for left, right in bounds]

    def counts(self, index: int) -> NDArray[np.int32]:
        """Integers of a column: ``(lines,)``; 0 for empty, -1 for invalid or negative cells."""
        left, right = self._left[:, index], self._right[:, index]
        width = min(int((right - left).max()), DIGITS)
        positions = left[:, None] + np.arange(width)
        past_ends = positions >= right[:, None]
        digits = self._bytes[np.minimum(positions, len(self._bytes) - 1)].astype(np.int32) - ZERO
        simple = ((digits >= 0) & (digits <= 9) | past_ends).all(1) & (right - left <= DIGITS)
        result = np.zeros(len(left), np.int32)
        for digit, past_end in zip(digits.T, past_ends.T, strict=True):
            result = np.where(past_end, result, 10 * result + digit)
        for row in np.flatnonzero(~simple):
            result[row] = _parse_count(self.text[left[row] : right[row]])
        return result


def _parse_count(cell: bytes) -> int:
    """Parse as Python does: with surrounding spaces, leading zeros, digits of any script."""
    try:
        return int(np.int32(max(-1, int(cell.decode()))))
    except (ValueError, OverflowError):
        return -1
