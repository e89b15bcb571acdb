"""What a file of edges means: a table with a row an edge, or arrays src, dst, t.

A table needs a column for each end and one of times. Every further column is a feature of the edge and must hold
numbers. Both ends share one set of names: where users meet items, the items need names of their own ("item 7", not 7).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from timecell.data.arrays import Arrays
from timecell.data.read_npz import read_npz
from timecell.data.table import USUAL, Table
from timecell.data.temporal_edges import TemporalEdges
from timecell.errors import DataError, InputError

ENDS: Mapping[str, tuple[str, ...]] = {
    "source": ("source", "src", "from", "sender", "user", "u"),
    "target": ("target", "dst", "destination", "to", "receiver", "recipient", "item", "v"),
    "time": (*USUAL["time"], "ts", "onset"),
}
"""Role -> usual names of its column."""


def is_edges(table: Table) -> bool:
    """Whether a table has a column with a usual name for each end and for the time.

    Example:
        >>> from pathlib import Path
        >>> columns = {name: np.zeros(1) for name in ("src", "dst", "ts")}
        >>> is_edges(Table(Path("mail.csv"), columns, np.array([2])))
        True
    """
    return set(_roles(table, {})) == set(ENDS)


def edges_of_table(
    table: Table, *, source: str | None = None, target: str | None = None, time: str | None = None
) -> TemporalEdges:
    """One row an edge, in any order.

    Args:
        table: numbers, text or dates in columns.
        source, target, time: names of the columns; None = found under a usual name (`ENDS`).

    Raises:
        DataError: a role has no column or two have the same, a cell is empty, a time is neither a number nor an ISO
            date, a feature is no finite number.
    """
    given = {"source": source, "target": target, "time": time}
    roles = _roles(table, {role: table.known(role, name) for role, name in given.items() if name is not None})
    for role, usual in ENDS.items():
        if role not in roles:
            raise DataError(
                str(table.path), found=f"no {role} among the columns {', '.join(table.columns)}",
                expected=f"a column {' or '.join(usual)}", remedy=f"name it: {role}=... (--{role} NAME)",
            )  # fmt: skip
    if len(set(roles.values())) < len(roles):
        raise DataError(
            str(table.path), found=" and ".join(f"{role}={name!r}" for role, name in roles.items()),
            expected="a different column for each role", remedy="name each column once",
        )  # fmt: skip
    ends = [_names(table, roles[role]) for role in ("source", "target")]
    names = _in_order(np.unique(np.concatenate(ends)))
    rank = np.argsort(names)
    u, v = (rank[np.searchsorted(names, end, sorter=rank)] for end in ends)
    seconds, _ = table.seconds(roles["time"])
    channels = [name for name in table.columns if name not in roles.values()]
    features = None
    if channels:
        features = table.matrix(channels)
        table.refuse(np.isnan(features), channels, "no value", "a number", "fill the cell in, or delete the row")
    return TemporalEdges.of(u, v, seconds, features, nodes=names, channels=channels)


def edges_of_arrays(arrays: Arrays) -> TemporalEdges:
    """Arrays src [E], dst [E], t [E], and perhaps features [E, F], nodes [V] (names), channels [F] (names).

    Raises:
        DataError: an array is absent, of another shape or type, of another name, or holds what is no edge.
    """
    arrays.only("src", "dst", "t", "features", "nodes", "channels")
    u, v = arrays.get("src", "iu", (None,)), arrays.get("dst", "iu", (None,))
    t = arrays.get("t", "iuf", (None,))
    named = arrays.named
    features = arrays.get("features", "biuf", (None, None)) if "features" in named else None
    nodes = arrays.get("nodes", "U", (None,)) if "nodes" in named else None
    channels = arrays.get("channels", "U", (None,)).tolist() if "channels" in named else None
    try:
        return TemporalEdges.of(u, v, t, features, nodes=nodes, channels=channels)
    except InputError as e:
        place = f"{arrays.path}, {e.place}"
        raise DataError(place, found=e.found, expected=e.expected, remedy=e.remedy) from e


def describe_edges(data: TemporalEdges) -> str:
    """One line that says what was read.

    Example:
        >>> describe_edges(TemporalEdges.of([0, 0, 1], [1, 2, 2], [1.0, 2.0, 2.5]))
        '3 edges between 3 nodes from 1 to 2.5'
    """
    first, last = (
        datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M") if t > 1e8 else f"{t:g}" for t in data.time[[0, -1]]
    )
    features = f", {len(data.schema.channels)} features" if data.schema.channels else ""
    return f"{len(data.time):,} edges between {len(data.nodes):,} nodes from {first} to {last}{features}"


def enron() -> TemporalEdges:
    """34,427 mails between 184 people of the Enron corporation, November 1998 to June 2002; times in seconds since 1970.

    A mail to several people is an edge to each, at the same instant. CC BY-SA 4.0, see the text beside the file.

    Example:
        >>> mails = enron()
        >>> len(mails), len(mails.nodes), len(np.unique(mails.time))
        (34427, 184, 19913)
    """
    return edges_of_arrays(read_npz(Path(__file__).parent / "files" / "enron.npz"))


def _roles(table: Table, given: Mapping[str, str]) -> dict[str, str]:
    """Role -> column: as given, else the first column with a usual name for the role."""
    roles = dict(given)
    for role in ENDS:
        free = {name.lower(): name for name in table.columns if name not in roles.values()}
        found = [free[usual] for usual in ENDS[role] if usual in free]
        if role not in roles and found:
            roles[role] = found[0]
    return roles


def _names(table: Table, name: str) -> Shaped[np.ndarray, "R"]:
    """A column of node names as text; DataError at an empty cell."""
    column = table.columns[name]
    if column.dtype.kind == "f":
        empty, text = np.isnan(column), np.array([f"{value:.17g}" for value in column.tolist()])
    else:
        text = np.char.strip(column.astype(str))
        empty = text == ""
    table.refuse(empty[:, None], [name], "an empty cell", "the name of a node", "fill the cell in, or delete the row")
    return text


def _in_order(names: Shaped[np.ndarray, "V"]) -> Shaped[np.ndarray, "V"]:
    """As people sort: 2 before 10."""

    def parts(name: str) -> list[tuple[int, int, str]]:
        return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]

    return np.array(sorted(names.tolist(), key=parts))
