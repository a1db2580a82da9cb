import numpy as np
import pytest

from mmpt_fairseq.data.tsv import BLOCK_BYTES, CellCountError, Cells, line_starts, may_be_blank


def rows_of(lines):
    text = "".join(lines).encode()
    starts = line_starts(text)
    return text, starts[:-1], starts[1:]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r\r\n"])
def test_cells_match_str_split(newline):
    rng = np.random.default_rng(0)
    words = ["", "a", "größer", "12", " ", "x\u2028y", "\u0663"]
    rows = [[words[i] for i in rng.integers(len(words), size=4)] for _ in range(200)]
    cells = Cells(*rows_of("\t".join(row) + newline for row in rows), 4)
    for index in range(4):
        column = [row[index] for row in rows]
        assert [cell.decode() for cell in cells.column(index)] == column
        assert cells.filled[:, index].tolist() == [bool(cell) for cell in column]


def test_last_line_needs_no_line_break():
    assert Cells(*rows_of(["a\tb\n", "c\td"]), 2).column(1) == [b"b", b"d"]


def test_wrong_number_of_cells_raises_error():
    for wrong in ("a\tb\n", "a\tb\tc\td\n", "a\n"):
        with pytest.raises(CellCountError) as caught:
            Cells(*rows_of(["a\tb\tc\n", "\t\t\n", wrong, wrong]), 3)
        assert caught.value.line == 2


def test_tabs_in_blank_lines_are_ignored():
    text, starts, ends = rows_of(["a\tb\n", "\t\t\n", "c\td\n"])
    assert may_be_blank(text, starts).tolist() == [False, True, False]
    cells = Cells(text, starts[[0, 2]], ends[[0, 2]], 2)
    assert cells.column(1) == [b"b", b"d"]


@pytest.mark.parametrize(
    ("cell", "count"),
    [
        *{"0": 0, "007": 7, "": 0, "999999999": 999_999_999, "2147483647": 2**31 - 1}.items(),
        *{"00000000000012": 12, " 12 ": 12, "+5": 5, "\u0663": 3}.items(),
        *[(cell, -1) for cell in ("2147483648", "-3", "1.5", "many", "1e3", "9" * 5000)],
    ],
)
def test_counts_match_python_int(cell, count):
    """In a column with cells of other widths, which are parsed as arrays."""
    cells = Cells(*rows_of(f"{n}\tx\n" for n in ("5", cell, "", "123456")), 2)
    assert cells.counts(0).tolist() == [5, count, 0, 123_456]


def test_line_starts_of_files_of_several_blocks():
    data = bytearray(b"x" * (2 * BLOCK_BYTES + 10))
    positions = [5, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES - 1, 2 * BLOCK_BYTES + 3]
    for index in positions:
        data[index] = ord("\n")
    starts = line_starts(bytes(data))
    assert starts.tolist() == [0, *(index + 1 for index in positions), len(data)]
