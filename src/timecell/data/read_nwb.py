"""NWB files (Neurodata Without Borders): one of their time series, or the spikes of their units, with the trials.

Spike times become counts in bins of dt seconds from time zero of the session, so that one rate holds for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from timecell.data.binning import bin_spikes, refuse_sparse
from timecell.data.damage import reading, refuse_bomb
from timecell.data.grid import regular_grid
from timecell.data.recordings import Annotation, Recording
from timecell.errors import DataError, MissingExtra, unknown_name

SUFFIXES = (".nwb",)
UNITS = "units"
NO_LABEL = ("start_time", "stop_time", "tags", "timeseries")


def read_nwb(path: str | Path, *, item: str | None = None, target: str | None = None, dt: float = 0.010) -> Recording:
    """A time series or the units of the file; the trials become its annotations.

    Args:
        path: the file.
        item: name of a time series, or "units" for the spikes; None where the file has only one of all these.
        target: column of the trials that labels them; None = their only column beside the times.
        dt: bin width in seconds for spikes.

    Raises:
        DataError: the file is truncated or malformed, has no such data or several, times go back, values are no numbers.
        InputError: `item` or `target` does not exist.
        MissingExtra: pynwb is not installed.
    """
    try:
        from pynwb import NWBHDF5IO, TimeSeries
    except ImportError as error:
        raise MissingExtra("pynwb", "neuro", f"reading {path}") from error
    path = Path(path)
    with reading(path, "NWB file"), NWBHDF5IO(str(path), "r") as io:
        nwb = io.read()
        items = {o.name: o for o in nwb.objects.values() if isinstance(o, TimeSeries)}
        if nwb.units is not None:
            items[UNITS] = nwb.units
        name = _chosen(path, items, item)
        annotations = _trials(path, nwb.trials, target)
        if name == UNITS:
            return _counts(path, items[name], annotations, dt)
        return _signals(path, items[name], annotations)


def _chosen(path: Path, items: Mapping[str, Any], item: str | None) -> str:
    """The item asked for, or the only one."""
    if item is not None:
        if item not in items:
            raise unknown_name(f"{path}, item", item, items)
        return item
    if len(items) != 1:
        raise DataError(
            str(path), found=f"the items {', '.join(sorted(items))}" if items else "no time series and no units",
            expected="one to read", remedy=f"choose it: item={min(items)!r} (--item)" if items else "check the file",
        )  # fmt: skip
    return next(iter(items))


def _trials(path: Path, table: Any, target: str | None) -> tuple[Annotation, ...]:
    """One annotation a trial, with the value of the label column, or "" where no column is the only one."""
    columns = [] if table is None else [name for name in table.colnames if name not in NO_LABEL]
    if target is not None and target not in columns:
        raise unknown_name(f"{path}, target", target, columns)
    if table is None:
        return ()
    label = target or (columns[0] if len(columns) == 1 else None)
    start, stop = (np.asarray(table[name][:], dtype=np.float64) for name in ("start_time", "stop_time"))
    texts = [""] * len(start) if label is None else [str(value).strip() for value in table[label][:]]
    broken = ~(np.isfinite(start) & (stop >= start))
    if broken.any():
        i = int(np.argmax(broken))
        raise DataError(
            f"{path}, trial {i}", found=f"{start[i]:g} to {stop[i]:g} s", expected="a start and a later stop",
            remedy="correct the table of trials",
        )  # fmt: skip
    return tuple(Annotation(float(a), float(b - a), text) for a, b, text in zip(start, stop, texts))


def _signals(path: Path, series: Any, annotations: tuple[Annotation, ...]) -> Recording:
    """A time series in its unit."""
    place = f"{path}, {series.name}"
    raw = series.data
    if getattr(raw, "ndim", 0) not in (1, 2) or raw.dtype.kind not in "iufb" or not raw.size:
        raise DataError(
            place, found=f"{getattr(raw, 'dtype', type(raw).__name__)} {list(getattr(raw, 'shape', []))}",
            expected="numbers [T] or [T, C]", remedy="choose another item, or write this one as numbers over time",
        )  # fmt: skip
    refuse_bomb(place, raw.size * 8, raw.id.get_storage_size())
    values = raw[()].astype(np.float64).reshape(len(raw), -1)
    scale = series.conversion * np.asarray(getattr(series, "channel_conversion", None) or 1.0)
    values = values * scale + series.offset
    if np.isinf(values).any():
        step, channel = np.argwhere(np.isinf(values))[0]
        raise DataError(
            f"{place}, step {step}, channel {channel}", found="inf", expected="a number, or NaN where it is missing",
            remedy="correct the value",
        )  # fmt: skip
    start, rate = series.starting_time or 0.0, series.rate
    if series.timestamps is not None:
        time = np.asarray(series.timestamps[:], dtype=np.float64)
        if len(time) != len(values) or not np.isfinite(time).all():
            raise DataError(
                f"{place}, timestamps", found=f"{np.isfinite(time).sum()} times", expected=f"{len(values)}, one a step",
                remedy="write the file again",
            )  # fmt: skip
        grid = regular_grid(time, f"{place}, timestamps", lambda i: f"step {i}")
        values, start, rate = grid.spread(values), float(time[0]), grid.rate
    if rate is None or not 0 < rate < np.inf:
        raise DataError(place, found=f"a rate of {rate}", expected="steps per second", remedy="write it again with one")
    names = _names(series, values.shape[1])
    return Recording(values, float(rate), names, (series.unit,) * len(names), annotations, float(start), place)


def _names(series: Any, C: int) -> tuple[str, ...]:
    """The electrodes' numbers, or x0, x1, ..."""
    region = getattr(series, "electrodes", None)
    if region is None:
        return tuple(f"x{c}" for c in range(C))
    return tuple(f"electrode{number}" for number in region.table.id[:][region.data[:]])


def _counts(path: Path, units: Any, annotations: tuple[Annotation, ...], dt: float) -> Recording:
    """Spikes per bin of all units, up to the last spike or the end of the last trial."""
    place = f"{path}, {UNITS}"
    if "spike_times" not in units.colnames:
        raise DataError(place, found="no spike times", expected="a column spike_times", remedy="choose another item")
    times = [np.asarray(units["spike_times"][i], dtype=np.float64) for i in range(len(units))]
    names = tuple(f"unit{number}" for number in units.id[:])
    for name, own in zip(names, times):
        _check_spikes(f"{place}, {name}", own)
    flat = np.concatenate([np.zeros(0), *times])
    if not len(flat):
        raise DataError(place, found="no spikes", expected="at least one", remedy="choose another item")
    unit = np.repeat(np.arange(len(times)), [len(own) for own in times])
    counts, _ = bin_spikes(flat, unit, np.array([0, len(flat)]), dt, len(times), place)
    end = max([a.onset + a.duration for a in annotations], default=0.0)
    refuse_sparse([end], dt, len(times), len(flat), f"{path}, trials")
    steps = max(len(counts), int(np.ceil(end / dt - 1e-6)))
    values = np.zeros((steps, len(times)))
    values[: len(counts)] = counts
    return Recording(values, 1 / dt, names, ("spikes",) * len(names), annotations, 0.0, place)


def _check_spikes(place: str, times: Float[np.ndarray, "E"]) -> None:
    """Raise DataError unless the times ascend from 0 on."""
    before = np.concatenate([[0.0], times[:-1]])
    broken = ~(np.isfinite(times) & (times >= before))
    if broken.any():
        i = int(np.argmax(broken))
        raise DataError(
            f"{place}, spike {i}", found=f"{times[i]:g} s after {before[i]:g} s", expected="times that ascend from 0 on",
            remedy="sort the spikes; count time from the start of the session",
        )  # fmt: skip
