"""`Table`: the columns of a file, each with a role or else a channel of numbers, and errors that name row and column.

A role (label, id, time, group, split) is given by the caller or found under a usual name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Shaped

from timecell.errors import DataError

USUAL: Mapping[str, tuple[str, ...]] = {
    "target": ("label", "class", "target"),
    "id": ("id", "sample", "sample_id", "sequence", "sequence_id", "series", "series_id", "trial", "trial_id"),
    "time": ("time", "timestamp", "datetime", "date", "ds", "t", "step"),
    "group": ("group", "subject", "speaker", "session", "patient"),
    "split": ("split", "part"),
}
MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}  # what an empty cell of a column of numbers may look like
PARTS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "test": "test"}


@dataclass(frozen=True)
class Table:
    """Columns of one length, as a file had them.

    Attributes:
        path: the file.
        columns: name -> float64 (NaN = missing), text ("" = missing) or datetime64[us] (NaT = missing).
        lines: [R] number of each row, as an editor counts.
        unit: what these numbers count, "line" or "row".
    """

    path: Path
    columns: Mapping[str, Shaped[np.ndarray, "R"]]
    lines: Int[np.ndarray, "R"]
    unit: str = "row"

    def __len__(self) -> int:
        return len(self.lines)

    def row(self, i: int) -> str:
        """What to call a row in a message."""
        return f"{self.unit} {self.lines[i]}"

    def source(self, name: str) -> str:
        """What to call a column in a message."""
        return f"{self.path}, column {name!r}"

    def without(self, names: Iterable[str]) -> Table:
        """The table without these columns; DataError if one does not exist."""
        dropped = {self.known("ignore", name) for name in names}
        return replace(self, columns={k: v for k, v in self.columns.items() if k not in dropped})

    def take(self, rows: Int[np.ndarray, "n"]) -> Table:
        """These rows, in this order; they keep their numbers."""
        return replace(self, columns={k: v[rows] for k, v in self.columns.items()}, lines=self.lines[rows])

    def known(self, argument: str, name: str) -> str:
        """The name itself; DataError naming the columns if there is none like it."""
        if name not in self.columns:
            close = difflib.get_close_matches(name, self.columns, n=1)
            raise DataError(
                f"{self.path}, {argument}", found=repr(name), expected=f"one of the columns {_listed(self.columns)}",
                remedy=f"did you mean {close[0]!r}?" if close else "choose one of these columns",
            )  # fmt: skip
        return name

    def numbers(self, name: str) -> Float[np.ndarray, "R"]:
        """A column of numbers, NaN where a cell is empty.

        Raises:
            DataError: a cell holds something else; True and False count as 1 and 0.
        """
        column = self.columns[name]
        if column.dtype.kind == "f":
            return column
        if column.dtype.kind == "U":
            words = {"true": 1.0, "false": 0.0, **dict.fromkeys(MISSING, np.nan)}
            lowered = np.char.lower(np.char.strip(column))
            if np.isin(lowered, list(words)).all():
                return np.array([words[word] for word in lowered.tolist()])
        i = _first_text([str(cell) for cell in column])
        raise DataError(
            f"{self.source(name)}, {self.row(i)}", found=repr(str(column[i])), expected="a number",
            remedy=f"correct the cell, leave the column out with ignore=[{name!r}] (--ignore {name}), "
            "or say what it is with target=, id=, group= or time=",
        )  # fmt: skip

    def seconds(self, name: str) -> tuple[Float[np.ndarray, "R"], bool]:
        """A time column in seconds (dates since 1970, in UTC unless they say otherwise), and whether it holds dates.

        Raises:
            DataError: a cell is empty or is neither a number nor an ISO date.
        """
        column = self.columns[name]
        if column.dtype.kind == "U":
            time = np.array([_iso(cell) for cell in column.tolist()])
        elif column.dtype.kind == "M":
            time = np.where(np.isnat(column), np.nan, column.astype(np.int64) / 1e6)
        else:
            time = column
        bad = np.flatnonzero(~np.isfinite(time))
        if len(bad):
            i = int(bad[0])
            raise DataError(
                f"{self.source(name)}, {self.row(i)}", found=repr(str(column[i])),
                expected="a number of seconds, or a date like 2024-01-31 or 2024-01-31T12:30:00",
                remedy=f"rewrite the dates so, or count rows as steps with ignore=[{name!r}] (--ignore {name})",
            )  # fmt: skip
        return time, column.dtype.kind != "f"

    def roles(self, given: Mapping[str, str | None]) -> dict[str, str]:
        """Role -> column: as given, else the first column with a usual name for the role.

        Raises:
            DataError: a given column does not exist, or has two roles.
        """
        roles = {role: self.known(role, name) for role, name in given.items() if name is not None}
        if len(set(roles.values())) < len(roles):
            raise DataError(
                str(self.path), found=" and ".join(f"{role}={name!r}" for role, name in roles.items()),
                expected="a different column for each role", remedy="name each column once",
            )  # fmt: skip
        for role in given:
            free = {name.lower(): name for name in self.columns if name not in roles.values()}
            found = [free[usual] for usual in USUAL[role] if usual in free]
            if role not in roles and found:
                roles[role] = found[0]
        if "split" in roles and not _is_split(self.columns[roles["split"]]):
            del roles["split"]
        return roles

    def channels(self, roles: Mapping[str, str]) -> list[str]:
        """The columns without a role; DataError if there is none."""
        names = [name for name in self.columns if name not in roles.values()]
        if not names:
            raise DataError(
                str(self.path), found=f"only the columns {_listed(self.columns)}", expected="a column of values too",
                remedy="add one, or name the roles of the columns differently",
            )  # fmt: skip
        return names

    def matrix(self, names: list[str]) -> Float[np.ndarray, "R C"]:
        """Columns of numbers side by side; DataError at a cell that is infinite or no number."""
        values = np.stack([self.numbers(name) for name in names], axis=1)
        self.refuse(np.isinf(values), names, "inf", "a finite number", "correct the cell")
        return values

    def refuse(self, bad: Shaped[np.ndarray, "R C"], names: list[str], found: str, expected: str, remedy: str) -> None:
        """Raise DataError at the first cell marked as bad."""
        if bad.any():
            i, c = np.argwhere(bad)[0]
            raise DataError(
                f"{self.source(names[c])}, {self.row(int(i))}", found=found, expected=expected, remedy=remedy
            )


def _is_split(column: Shaped[np.ndarray, "R"]) -> bool:
    return column.dtype.kind == "U" and set(np.char.lower(np.char.strip(column)).tolist()) <= PARTS.keys()


def number(cell: str) -> float:
    """The number in a cell of text, NaN if it is empty.

    Raises:
        ValueError: it holds something else.

    Example:
        >>> number(" 1.5 "), number("n/a")
        (1.5, nan)
    """
    cell = cell.strip()
    return np.nan if cell.lower() in MISSING else float(cell)


def _first_text(cells: list[str]) -> int:
    """The first cell that is no number."""
    for i, cell in enumerate(cells):
        try:
            number(cell)
        except ValueError:
            return i
    return 0


def _iso(cell: str) -> float:
    """Seconds since 1970 of an ISO date, in UTC unless it says otherwise; NaN if it is none."""
    try:
        moment = datetime.fromisoformat(cell.strip())
    except ValueError:
        return np.nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _listed(names: Iterable[str]) -> str:
    """The first twelve names."""
    names = list(names)
    return ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
