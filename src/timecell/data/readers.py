"""`load`: a file that somebody has, into `Sequences` or a `Series`; `describe`: one line saying how it was read.

.csv .tsv .txt (.gz)  .parquet     ->  Table   ->  series, or sequences in long or wide form     (from_table.py)
.npz                  .h5 .hdf5    ->  Arrays  ->  series, sequences, or spikes binned to counts (from_arrays.py)
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from timecell.data import from_arrays, from_table
from timecell.data.arrays import Arrays
from timecell.data.containers import Sequences, Series
from timecell.data.read_csv import read_csv
from timecell.data.read_hdf5 import read_hdf5
from timecell.data.read_npz import read_npz
from timecell.data.read_parquet import read_parquet
from timecell.data.table import Table
from timecell.errors import DataError, InputError, unknown_name

Kind = Literal["sequences", "series"]
TABLES: dict[str, Callable[[Path], Table]] = {
    ".csv": read_csv, ".tsv": read_csv, ".txt": read_csv, ".parquet": read_parquet, ".pq": read_parquet,
}  # fmt: skip
ARRAYS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".npz": read_npz, ".h5": read_hdf5, ".hdf5": read_hdf5, ".hdf": read_hdf5,
}  # fmt: skip


def load(
    path: str | Path,
    *,
    kind: Kind | None = None,
    target: str | None = None,
    id: str | None = None,
    time: str | None = None,
    group: str | None = None,
    ignore: Collection[str] = (),
    period: int | None = None,
    dt: float = 0.010,
) -> Sequences | Series:
    """Read a data file.

    A table is a **series** with one row a step, or holds **sequences**: in long form (a column `id`, one row a step,
    the label constant within an id; lengths may differ) or in wide form (one row a sequence, every number a step of
    one channel; columns x_0, x_1, ..., y_0, y_1, ... are steps of the channels x and y). Columns without a role are
    channels and must hold numbers. Time stamps are ISO dates (UTC unless they say otherwise) or seconds; rows that are
    missing in a series become NaN.

    Arrays are named x [N, T, C] with y [N] (and lengths, group, split), values [T, C] (and time, rate), or times,
    units, offsets, labels for spikes. HDF5 files may also have the Spiking Heidelberg layout.

    Args:
        path: .csv, .tsv, .txt (also .gz), .parquet, .npz, .h5 or .hdf5.
        kind: "sequences" or "series"; None = sequences where `target` or `id` is given or a label column is found
            (without a time column that has no id), else a series.
        target: column or array of class labels; None = found under a usual name (label, class, target; y, labels).
        id: column that says which sequence a row belongs to; None = found (id, sample, sequence, series, trial).
        time: column of time stamps; None = found (time, timestamp, datetime, date, ds, t, step).
        group: column or array of groups that splits keep together; None = found (group, subject, speaker, ...).
        ignore: columns or arrays to leave out.
        period: steps in a season of a series; None = guessed from the time stamps (hourly: 24, daily: 7, ...).
        dt: bin width in seconds for spike times.

    Raises:
        DataError: the file is missing, truncated or malformed; the message names the place and the remedy.
        InputError: an argument does not fit the file.
        MissingExtra: the package for this format is not installed.

    Example:
        >>> from timecell.data.datasets import files
        >>> print(describe(load(files()["taxi"])))
        10,320 steps of 30 min from 2014-07-01 00:00 to 2015-01-31 23:30, 1 channel, season of 48 steps, none missing
    """
    path = Path(path)
    suffix = _suffix(path)
    if isinstance(ignore, str):
        raise InputError("ignore", found=repr(ignore), expected="a list of names", remedy=f"write ignore=[{ignore!r}]")
    if kind not in (None, *get_args(Kind)):
        raise unknown_name("kind", str(kind), get_args(Kind))
    if period is not None and not (period >= 1 and period == int(period)):
        raise InputError("period", found=period, expected="a whole number of steps", remedy="leave it out for a guess")
    if not path.is_file():
        raise DataError(
            str(path), found="a folder" if path.is_dir() else "no such file", expected="a data file",
            remedy="check the path",
        )  # fmt: skip
    if suffix in TABLES:
        table = TABLES[suffix](path).without(ignore)
        if (kind or _kind_of(table, target, id, time)) == "series":
            _refuse("a series", target=target, id=id, group=group)
            return from_table.series(table, time=time, period=period)
        _refuse("sequences", period=period)
        return from_table.sequences(table, target=target, id=id, time=time, group=group)

    _refuse("a file of arrays", id=id, time=time)
    arrays = Arrays(path, ARRAYS[suffix](path)).without(ignore)
    layout = arrays.layout(kind, target)
    if layout == "series":
        _refuse("a series", target=target, group=group)
        return from_arrays.series(arrays, period=period)
    _refuse("sequences", period=period)
    if layout == "spikes":
        return from_arrays.spikes(arrays, dt=dt, target=target, group=group)
    return from_arrays.sequences(arrays, target=target, group=group)


def describe(data: Sequences | Series) -> str:
    """One line that says what was read.

    Example:
        >>> describe(Sequences.of([np.zeros((3, 2)), np.ones((5, 2))], target=[0, 1]))
        '2 sequences of 3 to 5 steps, 2 channels, 2 classes'
    """
    schema = data.schema
    channels = _count(len(schema.channels), "channel")
    if isinstance(data, Series):
        parts = [_steps(data), channels]
        if schema.period:
            parts.append(f"season of {_count(schema.period, 'step')}")
        missing = int(np.isnan(data.values).sum())
        return ", ".join([*parts, f"{_count(missing, 'value')} missing" if missing else "none missing"])

    shortest, longest = schema.lengths
    lengths = f"{shortest:,} to {longest:,} steps" if shortest < longest else _count(longest, "step")
    every = f" of {_duration(1 / schema.rate)}" if schema.rate else ""
    parts = [
        f"{_count(len(data), 'sequence')} of {lengths}{every}",
        channels + (" of spike counts" if schema.spikes else ""),
    ]
    if schema.classes:
        parts.append(_count(len(schema.classes), "class", "classes"))
    if data.group is not None:
        parts.append(_count(len(np.unique(data.group)), "group"))
    if data.part is not None:
        cut = [f"{int((data.part == name).sum()):,} {name}" for name in ("train", "valid", "test") if name in data.part]
        parts.append(f"split as given ({', '.join(cut)})")
    return ", ".join(parts) + (f"; labels from {schema.label!r}" if schema.label else "")


def _suffix(path: Path) -> str:
    """The ending that says the format; .gz is looked through for text."""
    suffix = path.suffix.lower()
    inner = Path(path.stem).suffix.lower()
    if suffix == ".gz" and TABLES.get(inner) is read_csv:
        return inner
    if suffix not in TABLES | ARRAYS:
        raise DataError(
            str(path), found=f"the ending {path.suffix!r}",
            expected=f"one of {' '.join([*TABLES, '.csv.gz', *ARRAYS])}",
            remedy="convert the file, or correct its name",
        )  # fmt: skip
    return suffix


def _kind_of(table: Table, target: str | None, id: str | None, time: str | None) -> Kind:
    """Sequences where label or id is named, or a label is found (and no time column without an id); else a series."""
    roles = table.roles({"target": target, "id": id, "time": time})
    named = target is not None or id is not None
    return "sequences" if named or ("target" in roles and ("id" in roles or "time" not in roles)) else "series"


def _refuse(what: str, **arguments: object) -> None:
    """Raise InputError if an argument that means nothing here was given."""
    for name, value in arguments.items():
        if value is not None:
            hint = "; the channels to forecast are named in the task" if name == "target" else ""
            raise InputError(name, found=repr(value), expected=f"None for {what}", remedy=f"leave it out{hint}")


def _count(n: int, one: str, many: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def _steps(series: Series) -> str:
    """Number, length and range of the steps."""
    text = _count(len(series), "step")
    if series.schema.rate:
        text += f" of {_duration(1 / series.schema.rate)}"
    if series.time is not None and series.time[0] > 1e8:  # seconds since 1970 rather than since some start
        first, last = (datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M") for t in series.time[[0, -1]])
        text += f" from {first} to {last}"
    return text


def _duration(seconds: float) -> str:
    """Seconds in the largest unit that keeps the number at 1 or above.

    Example:
        >>> _duration(0.01), _duration(1800.0), _duration(86400.0)
        ('10 ms', '30 min', '1 d')
    """
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= 0.999 * size:
            return f"{seconds / size:.4g} {unit}"
    return f"{1000 * seconds:.4g} ms"
