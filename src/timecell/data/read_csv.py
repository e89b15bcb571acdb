"""CSV files, plain or gzipped, into a `Table`: separator sniffed, every row counted, numbers told from text."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from timecell.data.table import Table, number
from timecell.data.text import read_text
from timecell.errors import DataError

SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
SEPARATORS = ",;\t|"


def read_csv(path: Path) -> Table:
    """A file with a line of column names and one line a row.

    The separator is the one of comma, semicolon, tab and bar that cuts the first two lines into equally many cells,
    and most of them. A column becomes numbers if every cell is a number or empty, else text.

    Raises:
        DataError: the file is empty, truncated, no UTF-8 text, has no names or the same name twice, no rows, a row
            with too few or too many cells, or a blank line in the middle.
    """
    text = read_text(path)
    try:
        names, rows, lines = _rows(path, text, _separator(text))
    except csv.Error as error:
        raise DataError(
            str(path), found=f"broken quoting ({error})", expected='cells with quotes around all of them: "a, b"',
            remedy="close the quotes",
        ) from error  # fmt: skip
    if not rows:
        raise DataError(
            str(path), found="column names but no rows", expected="at least one row", remedy="check how it was written"
        )
    columns = {name: _column(cells) for name, cells in zip(names, zip(*rows))}
    return Table(path, columns, np.array(lines), unit="line")


def _separator(text: str) -> str:
    """The separator that cuts the first two lines into equally many cells (more than one), as many as possible."""
    first_lines = re.split(r"\r\n|\r|\n", text, maxsplit=2)[:2]

    def cells(separator: str) -> tuple[bool, int]:
        counts = [len(row) for row in csv.reader(first_lines, delimiter=separator)]
        return counts[0] > 1 and len(set(counts)) == 1, counts[0]

    return max(SEPARATORS, key=cells)


def _rows(path: Path, text: str, separator: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Column names, rows of cells, and the line on which each row ends."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    names = [name.strip() for name in next(reader) or [""]]
    _check_names(path, names)
    rows, lines, blank = [], [], 0
    for row in reader:
        if not row:
            blank = blank or reader.line_num
            continue
        if blank or len(row) != len(names):
            raise DataError(
                f"{path}, line {blank or reader.line_num}",
                found="a blank line before further rows" if blank else f"{len(row)} cells",
                expected=f"{len(names)} cells, as in the line of names",
                remedy="delete the line" if blank else "complete the row; put text that holds the separator in quotes",
            )
        rows.append(row)
        lines.append(reader.line_num)
    return names, rows, lines


def _check_names(path: Path, names: list[str]) -> None:
    """Raise DataError unless the first line holds different names."""
    unnamed = [i + 1 for i, name in enumerate(names) if not name]
    if unnamed:
        raise DataError(
            f"{path}, line 1", found=f"no name for column {unnamed[0]}", expected="a name for every column",
            remedy="name it; if it only numbers the rows, write the file without it (pandas: index=False)",
        )  # fmt: skip
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise DataError(
            f"{path}, line 1", found=f"the column name {twice[0]!r} twice", expected="a different name for each column",
            remedy="rename one of them",
        )  # fmt: skip
    if all(_is_number(name) for name in names) and not all(name.isdigit() for name in names):
        raise DataError(
            f"{path}, line 1", found=f"numbers only ({', '.join(names[:3])}, ...)", expected="column names",
            remedy="put a line of names above the numbers",
        )  # fmt: skip


def _column(cells: tuple[str, ...]) -> Shaped[np.ndarray, "R"]:
    """float64 if every cell is a number or empty, else text."""
    try:
        return np.array([number(cell) for cell in cells])
    except ValueError:
        return np.array(cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
