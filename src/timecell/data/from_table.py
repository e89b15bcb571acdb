"""What a table means: a series, or sequences in long form (one row a step) or wide form (one row a sequence)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int, Shaped

from timecell.data.containers import Schema, Sequences, Series, is_counts
from timecell.data.grid import TOLERANCE, increasing, regular_grid
from timecell.data.labels import class_indices
from timecell.data.table import PARTS, Table
from timecell.errors import DataError


def series(table: Table, *, time: str | None = None, period: int | None = None) -> Series:
    """One row a step. Rows that are missing between time stamps become NaN.

    Raises:
        DataError: a channel holds text, an infinite number or nothing at all; time stamps are not an even grid.
    """
    roles = table.roles({"time": time})
    names = table.channels(roles)
    values = table.matrix(names)
    empty = np.isnan(values).all(axis=0)
    if empty.any():
        name = names[int(np.argmax(empty))]
        raise DataError(
            table.source(name), found="no value in any row", expected="numbers",
            remedy=f"leave the column out with ignore=[{name!r}] (--ignore {name})",
        )  # fmt: skip
    if "time" not in roles:
        return Series(values, Schema("series", tuple(names), lengths=(len(table),) * 2, period=period))
    seconds, dates = table.seconds(roles["time"])
    grid = regular_grid(seconds, table.source(roles["time"]), table.row, dates=dates)
    steps = len(grid.time)
    schema = Schema("series", tuple(names), rate=grid.rate, lengths=(steps, steps), period=period or grid.period)
    return Series(grid.spread(values), schema, grid.time)


def sequences(
    table: Table, *, target: str | None = None, id: str | None = None, time: str | None = None, group: str | None = None
) -> Sequences:
    """Long form if there is an id column whose values repeat, else wide form.

    Raises:
        DataError: a value is missing or infinite, a channel holds text, a label is missing or changes within a
            sequence, the rows of a sequence lie apart or out of order, time stamps are unevenly spaced.
    """
    roles = table.roles({"target": target, "id": id, "group": group, "split": None, "time": time})
    if "id" in roles and len(np.unique(table.columns[roles["id"]])) < len(table):
        return _long(table, roles)
    return _wide(table, roles)


def _long(table: Table, roles: Mapping[str, str]) -> Sequences:
    """One row a step; the id says which sequence it belongs to."""
    names = table.channels(roles)
    table, offsets = _gathered(table, roles["id"], timed="time" in roles)
    rate = _rate(table, roles["time"], offsets) if "time" in roles else None
    for role in ("target", "group", "split"):
        if role in roles:
            _refuse_change(table, roles[role], roles["id"], offsets)
    return _assembled(table, roles, _complete(table, names), offsets, tuple(names), offsets[:-1], rate)


def _wide(table: Table, roles: Mapping[str, str]) -> Sequences:
    """One row a sequence; each number is a step: of one channel, or of several where columns are named name_0, name_1.

    Columns x_0, x_1, ..., y_0, y_1, ... are steps of the channels x and y.
    """
    if "time" in roles:
        raise DataError(
            table.source(roles["time"]), found="a time column, but no column that says which rows are one sequence",
            expected="an id column, or one row a sequence without times",
            remedy=f"name the column with id=, or leave this one out with ignore=[{roles['time']!r}] (--ignore {roles['time']})",
        )  # fmt: skip
    names = table.channels(roles)
    channels, steps = _numbered(names) or (("x",), [names])
    values = np.stack([_complete(table, step) for step in steps], axis=-1)  # [N, T, C]
    N, T, C = values.shape
    return _assembled(table, roles, values.reshape(N * T, C), np.arange(N + 1) * T, channels, np.arange(N), None)


def _assembled(
    table: Table, roles: Mapping[str, str], values: Float[np.ndarray, "S C"], offsets: Int[np.ndarray, "N+1"],
    channels: tuple[str, ...], first: Int[np.ndarray, "N"], rate: float | None,
) -> Sequences:  # fmt: skip
    """The container; `first` is the row that label, group and part of each sequence are read from."""
    label = roles.get("target")
    index, classes, group, part = None, None, None, None
    if label is not None:
        index, classes = class_indices(table.columns[label], table.source(label), table.row)
        index = index[first]
    if "group" in roles:
        group = np.unique(_filled(table, roles["group"]), return_inverse=True)[1][first]
    if "split" in roles:
        part = np.array([PARTS[word.strip().lower()] for word in table.columns[roles["split"]][first].tolist()])
    lengths = np.diff(offsets)
    schema = Schema(
        "sequences", channels, classes, rate, (int(lengths.min()), int(lengths.max())), is_counts(values), label=label
    )
    return Sequences(values, offsets, index, schema, group, part)


def _complete(table: Table, names: list[str]) -> Float[np.ndarray, "R C"]:
    """Columns of finite numbers."""
    values = table.matrix(names)
    remedy = "fill the cell in or delete the sequence; sequences of different lengths are written with one row a step"
    table.refuse(np.isnan(values), names, "no value", "a number", remedy)
    return values


def _filled(table: Table, name: str) -> Shaped[np.ndarray, "R"]:
    """A column of ids or groups without empty cells."""
    column = table.columns[name]
    empty = column == "" if column.dtype.kind == "U" else np.isnan(column)
    table.refuse(empty[:, None], [name], "an empty cell", "a value in every row", "fill the cell in, or delete the row")
    return column


def _gathered(table: Table, name: str, *, timed: bool) -> tuple[Table, Int[np.ndarray, "N+1"]]:
    """The rows sequence by sequence, in order of first appearance, and where each sequence starts."""
    ids = _filled(table, name)
    _, first, code = np.unique(ids, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[code]
    back = np.flatnonzero(np.diff(rank) < 0)
    if len(back) and not timed:
        i = int(back[0]) + 1
        raise DataError(
            f"{table.source(name)}, {table.row(i)}", found=f"{ids[i]!s} again, after rows of another sequence",
            expected="the rows of one sequence together", remedy="sort the rows, or add a time column",
        )  # fmt: skip
    return table.take(np.argsort(rank, kind="stable")), np.concatenate([[0], np.cumsum(np.bincount(rank))])


def _rate(table: Table, name: str, offsets: Int[np.ndarray, "N+1"]) -> float | None:
    """Steps per second; DataError unless all sequences have the same even steps."""
    seconds, _ = table.seconds(name)
    before = np.delete(np.arange(len(table) - 1), offsets[1:-1] - 1)  # rows followed by one of the same sequence
    gap = np.diff(seconds)[before]
    if not len(gap):
        return None
    if (gap <= 0).any():
        i = int(before[np.argmax(gap <= 0)])
        increasing(seconds[i : i + 2], table.source(name), table.take(np.array([i, i + 1])).row)
    base = float(np.median(gap))
    off = np.abs(gap - base) > TOLERANCE * base
    if off.any():
        i = int(np.argmax(off))
        raise DataError(
            f"{table.source(name)}, {table.row(before[i] + 1)}", found=f"{gap[i]:g} s after {table.row(before[i])}",
            expected=f"even steps of {base:g} s",
            remedy=f"resample the sequence, or count rows as steps with ignore=[{name!r}] (--ignore {name})",
        )  # fmt: skip
    return 1 / base


def _refuse_change(table: Table, name: str, id: str, offsets: Int[np.ndarray, "N+1"]) -> None:
    """Raise DataError where a column is not constant within a sequence."""
    column = table.columns[name]
    first = np.repeat(offsets[:-1], np.diff(offsets))
    changed = column != column[first]
    if column.dtype.kind == "f":
        changed &= ~(np.isnan(column) & np.isnan(column[first]))
    if changed.any():
        i = int(np.argmax(changed))
        raise DataError(
            f"{table.source(name)}, {table.row(i)}",
            found=f"{column[i]!s} after {column[first[i]]!s} in the sequence {table.columns[id][i]!s}",
            expected="one value for all rows of a sequence", remedy="correct the row, or check which column is the id",
        )  # fmt: skip


def _numbered(names: list[str]) -> tuple[tuple[str, ...], list[list[str]]] | None:
    """Channels, and the columns of each in order of their number, if all names are channel_number on one range."""
    steps: dict[str, dict[int, str]] = {}
    for name in names:
        match = re.fullmatch(r"(.+)_(\d+)", name)
        if not match:
            return None
        steps.setdefault(match[1], {})[int(match[2])] = name
    numbers = {tuple(sorted(own)) for own in steps.values()}
    if len(numbers) > 1 or sum(map(len, steps.values())) < len(names):
        return None
    return tuple(steps), [[own[k] for k in sorted(own)] for own in steps.values()]
