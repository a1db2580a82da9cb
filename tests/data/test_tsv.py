import numpy as np
import pytest

from mmpt_fairseq.data.tsv import AT_ONCE, Cells, OddLine, line_starts, may_be_blank


def rows_of(lines):
    text = "".join(lines).encode()
    starts = line_starts(text)
    return text, starts[:-1], starts[1:]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r\r\n"])
def test_cells_are_those_that_split_gives(newline):
    rng = np.random.default_rng(0)
    words = ["", "a", "größer", "12", " ", "x\u2028y", "\u0663"]
    rows = [[words[i] for i in rng.integers(len(words), size=4)] for _ in range(200)]
    cells = Cells(*rows_of("\t".join(row) + newline for row in rows), 4)
    for place in range(4):
        column = [row[place] for row in rows]
        assert [cell.decode() for cell in cells.column(place)] == column
        assert cells.filled[:, place].tolist() == [bool(cell) for cell in column]


def test_the_last_line_need_not_end():
    assert Cells(*rows_of(["a\tb\n", "c\td"]), 2).column(1) == [b"b", b"d"]


def test_lines_with_other_numbers_of_cells_are_odd():
    for odd in ("a\tb\n", "a\tb\tc\td\n", "a\n"):
        with pytest.raises(OddLine) as caught:
            Cells(*rows_of(["a\tb\tc\n", "\t\t\n", odd, odd]), 3)
        assert caught.value.line == 2


def test_tabs_of_lines_between_are_not_counted():
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
def test_counts_are_those_that_python_reads(cell, count):
    """Beside others of other widths, which are read as arrays."""
    cells = Cells(*rows_of(f"{n}\tx\n" for n in ("5", cell, "", "123456")), 2)
    assert cells.counts(0).tolist() == [5, count, 0, 123_456]


def test_long_files_are_looked_through_in_parts():
    data = bytearray(b"x" * (2 * AT_ONCE + 10))
    places = [5, AT_ONCE - 1, AT_ONCE, 2 * AT_ONCE - 1, 2 * AT_ONCE + 3]
    for place in places:
        data[place] = ord("\n")
    starts = line_starts(bytes(data))
    assert starts.tolist() == [0, *(place + 1 for place in places), len(data)]
