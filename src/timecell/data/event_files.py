"""What a table or named arrays mean, read as marked event sequences.

    table    one row an event: time, and where there are such, the id of its sequence, its mark, start and end
    arrays   times [S]; marks [S], offsets [N + 1], start [N], end [N], classes [K], group [N], split [N]

A table says when events happened but seldom when somebody looked. Where it does not (columns `start` and `end`), a
sequence is observed from its first event, which is its origin and not one of its events, to its last one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from timecell.data.arrays import Arrays
from timecell.data.event_sequences import EventSequences
from timecell.data.labels import class_indices
from timecell.data.table import PARTS, USUAL, Table
from timecell.errors import DataError, InputError

MARKS = ("mark", "event", "event_type", "type", "kind", "label", "class", "target")
IDS = ("user", "user_id", "customer", "customer_id", "seq", "seq_id", "case", "case_id")
BOUNDS = {"start": ("start", "begin"), "end": ("end", "stop")}
MOST_MARKS = 256  # more of them are rather a measured quantity than a kind of event


def is_events(table: Table) -> bool:
    """Whether a table has a column of times, one of marks under a name that only marks have, and nothing unexplained.

    Example:
        >>> from pathlib import Path
        >>> columns = {name: np.zeros(1) for name in ("id", "time", "mark")}
        >>> is_events(Table(Path("log.csv"), columns, np.array([2])))
        True
    """
    found = {name.lower() for name in table.columns}
    explained = {name for role in ("id", "time", "group", "split") for name in USUAL[role]}
    bounds = {name for names in BOUNDS.values() for name in names}
    known = explained | bounds | set(MARKS[:5]) | set(IDS)
    return bool(found & set(USUAL["time"]) and found & set(MARKS[:5])) and found <= known


def events(
    table: Table,
    *,
    target: str | None = None,
    id: str | None = None,
    time: str | None = None,
    group: str | None = None,
    resolution: float | None = None,
) -> EventSequences:
    """One row an event.

    Args:
        table: its rows may be in any order; the events of a sequence are sorted by time.
        target: column of the marks; None = found (mark, event, type, label, ...), or the only column left.
        id: column that says which sequence an event belongs to; None = found, or that of the groups where there is none;
            without either, all are one sequence.
        time: column of numbers or ISO dates; None = found.
        group: column of groups of sequences that splits keep together; None = found.
        resolution: width to which the time stamps are rounded; None = guessed if some coincide, as the smallest
            difference that there is. Within it the events are then spread at random, with a fixed seed.

    Raises:
        DataError: no time column, an empty cell or one that is no time, a mark that is missing or has a fraction, too
            many different marks, columns that nothing explains, a start or an end that changes within a sequence or
            does not enclose it.
    """
    names = {name.lower(): name for name in table.columns}
    mark = target or next((names[usual] for usual in MARKS if usual in names), None)
    free = {usual: name for usual, name in names.items() if name not in (mark, time, group)}
    id = id or next((free[usual] for usual in (*USUAL["id"], *IDS) if usual in free), None)
    roles = table.roles({"target": mark, "id": id, "group": group, "split": None, "time": time})
    if "id" not in roles and "group" in roles:
        roles["id"] = roles.pop("group")
    if "time" not in roles:
        raise DataError(
            str(table.path), found=f"the columns {', '.join(table.columns)}, none of which is called time",
            expected="a column that says when each event happened", remedy="name it with time= (--time NAME)",
        )  # fmt: skip
    for bound, usual in BOUNDS.items():
        found = [names[name] for name in usual if name in names and names[name] not in roles.values()]
        if found:
            roles[bound] = found[0]
    left = [name for name in table.columns if name not in roles.values()]
    if len(left) == 1 and "target" not in roles:
        roles["target"] = left.pop()
    if left:
        raise DataError(
            f"{table.path}, columns {', '.join(left)}", found="columns that an event sequence has no use for",
            expected="time, and at most an id, a mark, a group, start and end",
            remedy=f"say which one is the mark with target= (--target), and leave the others out with ignore={left} "
            f"(--ignore {' '.join(left)})",
        )  # fmt: skip
    moments, _ = table.seconds(roles["time"])
    order, offsets, first = _sorted(table, roles.get("id"), moments)
    stamps, marks, classes = moments[order], None, None
    if "target" in roles:
        index, classes = _marks(table.columns[roles["target"]], table.source(roles["target"]), table.row)
        marks = np.split(index[order], offsets[1:-1])
    bounds = {bound: _constant(table, roles, bound, order, offsets) for bound in BOUNDS if bound in roles}
    for bound, at in bounds.items():
        _refuse_outside(table, roles, bound, at, stamps, order, offsets)
    extra: dict[str, Any] = {}
    if "group" in roles:
        extra["group"] = np.unique(table.columns[roles["group"]], return_inverse=True)[1][first]
    if "split" in roles:
        words = table.columns[roles["split"]][first].tolist()
        extra["part"] = [PARTS[word.strip().lower()] for word in words]
    return EventSequences.of(
        np.split(stamps, offsets[1:-1]), marks, start=bounds.get("start"), end=bounds.get("end"), classes=classes,
        resolution=resolution or _resolution(stamps, offsets, bounds.get("start"), table.source(roles["time"])),
        label=roles.get("target"), **extra,
    )  # fmt: skip


def event_arrays(arrays: Arrays, *, resolution: float | None = None) -> EventSequences:
    """Event sequences end to end.

    Args:
        arrays: times [S]; all else may be absent. Without `offsets` they are one sequence.
        resolution: as of `events`.

    Raises:
        DataError: an array has a wrong shape or type, offsets that do not cover the events, times that decrease, a
            mark that is no class.
    """
    arrays.only("times", "marks", "offsets", "start", "end", "classes", "group", "split")
    times = arrays.get("times", "iuf", (None,)).astype(np.float64)
    arrays.refuse(~np.isfinite(times), "times", "a finite time", "give every event its time")
    offsets = np.array([0, len(times)])
    if "offsets" in arrays.named:
        offsets = arrays.get("offsets", "iu", (None,)).astype(np.int64)
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(times) or (np.diff(offsets) < 0).any():
        raise DataError(
            arrays.source("offsets"), found=f"{offsets[:3].tolist()} ... {offsets[-1:].tolist()}",
            expected=f"ascending numbers from 0 to {len(times)} (all events)",
            remedy="sequence i holds the events offsets[i] to offsets[i + 1]",
        )  # fmt: skip
    N, cuts = len(offsets) - 1, offsets[1:-1]
    back = np.flatnonzero(np.diff(times) < 0) + 1
    back = back[~np.isin(back, cuts)]
    arrays.refuse(np.isin(np.arange(len(times)), back), "times", "increasing times", "sort the events")
    marks = classes = None
    if "marks" in arrays.named:
        marks, classes = _array_marks(arrays, len(times))
    given: dict[str, Any] = {
        name: arrays.get(name, "iuf", (N,)).astype(np.float64) for name in BOUNDS if name in arrays.named
    }
    start = given.pop("start", None)
    if "group" in arrays.named:
        given["group"] = np.unique(arrays.get("group", "iuU", (N,)), return_inverse=True)[1]
    if "split" in arrays.named:
        words = np.char.lower(np.char.strip(arrays.get("split", "U", (N,))))
        arrays.refuse(~np.isin(words, list(PARTS)), "split", "train, valid or test", "correct the word")
        given["part"] = [PARTS[word] for word in words.tolist()]
    try:
        return EventSequences.of(
            np.split(times, cuts), None if marks is None else np.split(marks, cuts), start=start, classes=classes,
            resolution=resolution or _resolution(times, offsets, start, arrays.source("times")),
            label="marks" if marks is not None else None, **given,
        )  # fmt: skip
    except InputError as e:
        raise DataError(f"{arrays.path}, {e.place}", found=e.found, expected=e.expected, remedy=e.remedy) from e


def describe_events(data: EventSequences) -> str:
    """One line that says what was read.

    Example:
        >>> describe_events(EventSequences.of([[1.0, 2.0], [3.0]], [[0, 1], [1]], classes=("buy", "sell"), label="type"))
        "3 events in 2 sequences of 1 to 2, mean gap 1.67, 2 marks; marks from 'type'"
    """
    shortest, longest = int(data.counts.min()), int(data.counts.max())
    of = f"{shortest:,} to {longest:,}" if shortest < longest else f"{longest:,}"
    sequences = f"{len(data):,} sequences of {of}" if len(data) > 1 else "one sequence"
    marks = len(data.schema.classes or ())
    parts = [f"{len(data.times):,} events in {sequences}", f"mean gap {data.mean_gap:.3g}"]
    parts.append(f"{marks} marks" if marks > 1 else "no marks")
    if data.resolution is not None:
        parts.append(f"spread within {data.resolution:.3g}, since time stamps coincide")
    if data.group is not None:
        parts.append(f"{len(np.unique(data.group))} groups")
    if data.part is not None:
        parts.append("split as given")
    return ", ".join(parts) + (f"; marks from {data.schema.label!r}" if data.schema.label else "")


# --- helpers ----------------------------------------------------------------------------------------------------------


def _sorted(
    table: Table, id: str | None, moments: Float[np.ndarray, "R"]
) -> tuple[Int[np.ndarray, "R"], Int[np.ndarray, "N+1"], Int[np.ndarray, "N"]]:
    """The rows by sequence (in order of first appearance) and time, where sequences begin, and a row of each."""
    if id is None:
        return np.argsort(moments, kind="stable"), np.array([0, len(table)]), np.array([0])
    column = table.columns[id]
    empty = column == "" if column.dtype.kind == "U" else np.isnan(column)
    table.refuse(empty[:, None], [id], "an empty cell", "the id of a sequence", "fill the cell in, or delete the row")
    _, first, code = np.unique(column, return_index=True, return_inverse=True)
    if len(first) == len(table) > 1:
        raise DataError(
            table.source(id), found=f"another value in each of {len(table):,} rows",
            expected="one value for all events of a sequence",
            remedy=f"if it numbers the events, leave it out with ignore=[{id!r}] (--ignore {id})",
        )  # fmt: skip
    rank = np.argsort(np.argsort(first))[code]
    return np.lexsort((moments, rank)), np.concatenate([[0], np.cumsum(np.bincount(rank))]), np.sort(first)


def _marks(
    values: Shaped[np.ndarray, "R"], source: str, row: Callable[[int], str]
) -> tuple[Int[np.ndarray, "R"], tuple[str, ...]]:
    index, classes = class_indices(values, source, row)
    if len(classes) > MOST_MARKS:
        raise DataError(
            source, found=f"{len(classes):,} different values", expected=f"at most {MOST_MARKS} kinds of events",
            remedy="choose another column as the mark, or sort the values into kinds first",
        )  # fmt: skip
    return index, classes


def _array_marks(arrays: Arrays, events: int) -> tuple[Int[np.ndarray, "S"], tuple[str, ...]]:
    """Marks and their names; with an array `classes`, the marks already are numbers into it."""
    if "classes" not in arrays.named:
        return _marks(arrays.get("marks", "iufUb", (events,)), arrays.source("marks"), lambda i: f"marks[{i}]")
    classes = arrays.get("classes", "U", (None,))
    marks = arrays.get("marks", "iu", (events,)).astype(np.int64)
    arrays.refuse((marks < 0) | (marks >= len(classes)), "marks", f"0 to {len(classes) - 1}", "correct the mark")
    return marks, tuple(classes.tolist())


def _constant(
    table: Table, roles: dict[str, str], bound: str, order: Int[np.ndarray, "R"], offsets: Int[np.ndarray, "N+1"]
) -> Float[np.ndarray, "N"]:
    """A moment of each sequence, which all its rows must agree on."""
    moments = table.seconds(roles[bound])[0][order]
    own = np.repeat(moments[offsets[:-1]], np.diff(offsets))
    if (moments != own).any():
        i = int(np.argmax(moments != own))
        raise DataError(
            f"{table.source(roles[bound])}, {table.row(int(order[i]))}", found=f"{moments[i]:g} after {own[i]:g}",
            expected=f"one {bound} for all events of a sequence", remedy="correct the row, or leave the column out",
        )  # fmt: skip
    return moments[offsets[:-1]]


def _refuse_outside(
    table: Table, roles: dict[str, str], bound: str, at: Float[np.ndarray, "N"], stamps: Float[np.ndarray, "R"],
    order: Int[np.ndarray, "R"], offsets: Int[np.ndarray, "N+1"],
) -> None:  # fmt: skip
    """Raise DataError at the first event before its sequence's start or after its end."""
    own = np.repeat(at, np.diff(offsets))
    outside = stamps < own if bound == "start" else stamps > own
    if outside.any():
        i = int(np.argmax(outside))
        side = "before" if bound == "start" else "after"
        raise DataError(
            f"{table.source(roles['time'])}, {table.row(int(order[i]))}",
            found=f"an event at {stamps[i]:g}, {side} the {bound} at {own[i]:g}",
            expected="events between start and end", remedy="correct the row, or the column of the bound",
        )  # fmt: skip


def _resolution(
    stamps: Float[np.ndarray, "S"], offsets: Int[np.ndarray, "N+1"], start: np.ndarray | None, source: str
) -> float | None:
    """The smallest difference between time stamps, if some of one sequence coincide; else None."""
    gaps = np.diff(stamps)
    inside = np.delete(gaps, offsets[1:-1] - 1) if len(offsets) > 2 else gaps
    some = np.diff(offsets) > 0
    at_start = np.zeros(0) if start is None else stamps[offsets[:-1][some]] - start[some]
    if not ((inside == 0).any() or (at_start == 0).any()):
        return None
    distinct = np.unique(stamps)
    if len(distinct) < 2:
        raise DataError(
            source, found=f"{len(stamps)} events at one and the same time", expected="times that differ",
            remedy="check which column is the time",
        )  # fmt: skip
    return float(np.diff(distinct).min())
