"""What named arrays mean: spikes or blocks of labelled samples, one long series, or the events of one recording.

    spikes      times [E], units [E], offsets [N+1]; labels [N], speakers [N], split [N], classes [K], tick
    counts      times [E], units [E]; tick; values [T, C] with rate and channels [C], what was measured beside
    sequences   x [N, T, C] or [N, T]; y [N], lengths [N], group [N], split [N], rate
    series      values [T, C] or [T] (or x without y); time [T], rate, channels [C]
    events      x, y, t, p [E], or one array [E] with these fields; tick, height, width

`tick` is the length in seconds of one unit of `times` or `t`; spike times without it are in seconds. An array that none of this
explains is an error, because a misspelt `lengths` would otherwise make padding into data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from timecell.data.arrays import EVENT, Arrays
from timecell.data.binning import bin_spikes
from timecell.data.containers import Schema, Sequences, Series, is_counts
from timecell.data.events import EventStream, Size
from timecell.data.grid import regular_grid
from timecell.data.labels import class_indices
from timecell.data.table import PARTS
from timecell.errors import DataError, InputError, unknown_name


def series(arrays: Arrays, *, period: int | None = None) -> Series:
    """One long record; NaN is a missing value, and steps missing between time stamps become NaN.

    Raises:
        DataError: an array has a wrong shape or type, a value is infinite, time stamps are not an even grid.
    """
    name = "values" if "values" in arrays.named else "x"
    arrays.only(name, "time", "rate", "channels")
    values = arrays.numbers(name, (1, 2)).astype(np.float64)
    raw = arrays.named[name]
    arrays.refuse(np.isinf(raw), name, "a finite number, or NaN where it is missing", "correct the value")
    channels = _channels(arrays, values.shape[1])
    if "time" not in arrays.named:
        return Series(values, Schema("series", channels, rate=arrays.rate(), lengths=(len(values),) * 2, period=period))
    time = arrays.get("time", "iuf", (len(values),)).astype(np.float64)
    arrays.refuse(~np.isfinite(time), "time", "seconds", "give every step its time")
    grid = regular_grid(time, arrays.source("time"), lambda i: f"step {i}")
    steps = len(grid.time)
    schema = Schema("series", channels, rate=grid.rate, lengths=(steps, steps), period=period or grid.period)
    return Series(grid.spread(values), schema, grid.time)


def counts(arrays: Arrays, *, dt: float = 0.010, tick: float | None = None) -> Series:
    """One recording of spikes as counts in bins of dt seconds, from time zero to its last spike.

    Where something else was measured at an even rate (`values`, the speed of the animal), the bins are its steps and
    its channels follow those of the units.

    Raises:
        DataError: an array has a wrong shape or type, a time or unit is negative, times are whole numbers without a
            tick, the values have no rate or end before the spikes do.
        InputError: dt is not positive.
    """
    beside = "values" in arrays.named
    arrays.only("times", "units", "tick", *(("values", "rate", "channels") if beside else ()))
    if beside:
        rate = arrays.rate()
        if rate is None:
            raise DataError(
                str(arrays.path), found="values beside spikes, and no rate", expected="steps of the values per second",
                remedy="add an array rate",
            )  # fmt: skip
        dt = 1 / rate
    seconds, units, names = _spike_times(arrays, tick)
    binned, _ = bin_spikes(seconds, units, np.array([0, len(units)]), dt, len(names), arrays.source("times"))
    if not beside:
        schema = Schema("series", names, rate=1 / dt, lengths=(len(binned),) * 2, spikes=True)
        return Series(binned.astype(np.float64), schema)
    values = arrays.numbers("values", (1, 2)).astype(np.float64)
    if len(binned) > len(values):
        raise DataError(
            arrays.source("times"), found=f"a spike at {seconds.max():g} s",
            expected=f"all within the {len(values) * dt:g} s of the values", remedy="check rate and tick",
        )  # fmt: skip
    whole = np.zeros((len(values), len(names)))
    whole[: len(binned)] = binned
    schema = Schema("series", names + _channels(arrays, values.shape[1]), rate=rate, lengths=(len(values),) * 2)
    return Series(np.concatenate([whole, values], axis=1), schema)


def sequences(arrays: Arrays, *, target: str | None = None, group: str | None = None) -> Sequences:
    """Labelled samples of one block, cut to their lengths where these are given.

    Raises:
        DataError: an array has a wrong shape or type, a value within a sample is not finite, a length lies outside the
            block, a label is missing.
    """
    label = _name(arrays, "target", target, ("y", "labels"))
    group = _name(arrays, "group", group, ("group",))
    arrays.only("x", label, group, "lengths", "split", "rate")
    x = arrays.numbers("x", (2, 3))
    N, T, C = x.shape
    lengths = np.full(N, T)
    if "lengths" in arrays.named:
        lengths = arrays.get("lengths", "iu", (N,)).astype(np.int64)
        arrays.refuse((lengths < 1) | (lengths > T), "lengths", f"1 to {T}, the steps of x", "correct the length")
    inside = np.arange(T) < lengths[:, None]
    broken = ~np.isfinite(x) & inside[..., None]
    arrays.refuse(
        broken.reshape(arrays.named["x"].shape), "x", "a finite number",
        "fill the gap; where samples are padded, add their lengths [N]",
    )  # fmt: skip
    values = x[inside]
    schema = Schema(
        "sequences", tuple(f"x{c}" for c in range(C)), None, arrays.rate(), spikes=is_counts(values), label=label
    )
    return _with_labels(arrays, values, np.concatenate([[0], np.cumsum(lengths)]), schema, group)


def spikes(
    arrays: Arrays, *, dt: float = 0.010, tick: float | None = None, target: str | None = None, group: str | None = None
) -> Sequences:
    """Labelled samples of spike counts in bins of dt seconds, from time zero of each sample to its last spike.

    Raises:
        DataError: an array has a wrong shape or type, a time or unit is negative, times are whole numbers without a
            tick, a label is missing.
        InputError: dt is not positive.
    """
    label = _name(arrays, "target", target, ("labels", "y"))
    group = _name(arrays, "group", group, ("speakers", "group"))
    arrays.only("times", "units", "offsets", label, group, "split", "classes", "tick")
    seconds, units, names = _spike_times(arrays, tick)
    offsets = arrays.get("offsets", "iu", (None,)).astype(np.int64)
    whole = len(offsets) > 1 and offsets[0] == 0 and offsets[-1] == len(units) and (np.diff(offsets) >= 0).all()
    if not whole:
        ends = f"{offsets[0]} ... {offsets[-1]}" if len(offsets) else "none"
        raise DataError(
            arrays.source("offsets"), found=ends, expected=f"ascending numbers from 0 to {len(units)} (all spikes)",
            remedy="sample i holds the spikes offsets[i] to offsets[i + 1]",
        )  # fmt: skip
    values, starts = bin_spikes(seconds, units, offsets, dt, len(names), arrays.source("times"))
    schema = Schema("sequences", names, None, 1 / dt, spikes=True, label=label)
    return _with_labels(arrays, values, starts, schema, group)


def events(arrays: Arrays, *, tick: float | None = None, size: Size | None = None) -> EventStream:
    """The events of one recording.

    Args:
        arrays: x, y, t, p, or one array with these fields.
        tick: seconds in one unit of t, where the file has no array `tick`.
        size: (height, width) of the sensor, where the file has no arrays `height` and `width`.

    Raises:
        DataError: an array has a wrong shape or type, a pixel lies off the sensor, times go back.
        InputError: the unit of time or the size of the sensor is not known, or other than the file says.
    """
    for name, array in arrays.named.items():
        if array.dtype.names:
            fields = {field: array[field] for field in array.dtype.names}
            arrays = replace(arrays, named={k: v for k, v in arrays.named.items() if k != name} | fields)
    arrays.only(*EVENT, "tick", "height", "width")
    t = arrays.get("t", "iuf", (None,))
    x, y, p = (arrays.get(name, kinds, t.shape) for name, kinds in (("x", "iu"), ("y", "iu"), ("p", "biu")))
    seconds = _tick(arrays, tick, None)
    given = tuple(int(arrays.get(name, "iu", ())) for name in ("height", "width") if name in arrays.named)
    if size is None and len(given) != 2:
        raise InputError(
            "size", found=f"none, and no height and width in {arrays.path}", expected="(height, width) of the sensor",
            remedy="say it: size=(128, 128) (--size 128 128)",
        )  # fmt: skip
    if size is not None and given and tuple(size) != given:
        raise InputError("size", found=size, expected=f"{given}, as {arrays.path} says", remedy="leave it out")
    return EventStream(x, y, t, p.astype(np.int64), seconds, size or (given[0], given[1]), source=str(arrays.path))


def _spike_times(
    arrays: Arrays, tick: float | None
) -> tuple[Float[np.ndarray, "E"], Int[np.ndarray, "E"], tuple[str, ...]]:
    """When each spike was, in seconds, of which unit, and the units' names."""
    times = arrays.get("times", "iuf", (None,))
    units = arrays.get("units", "iu", times.shape)
    if not len(times):
        raise DataError(arrays.source("times"), found="no spikes", expected="at least one", remedy="check the file")
    arrays.refuse(
        ~np.isfinite(times) | (times < 0), "times", "a time from 0 on", "count time from the start of a sample"
    )
    arrays.refuse(units < 0, "units", "a unit number from 0 on", "correct the number")
    names = tuple(f"unit{c}" for c in range(int(units.max()) + 1))
    return times * _tick(arrays, tick, 1.0 if times.dtype.kind == "f" else None), units.astype(np.int64), names


def _channels(arrays: Arrays, number: int) -> tuple[str, ...]:
    """The names of the channels of `values`: those of the file, or x0, x1, ..."""
    if "channels" not in arrays.named:
        return tuple(f"x{c}" for c in range(number))
    names = tuple(arrays.get("channels", "U", (number,)).tolist())
    if len(set(names)) < number:
        raise DataError(
            arrays.source("channels"), found="a name twice", expected="a different name for each", remedy="rename one"
        )
    return names


def _tick(arrays: Arrays, given: float | None, usual: float | None) -> float:
    """Seconds in one unit of time: as given, as the file says, or as usual."""
    own = None
    if "tick" in arrays.named:
        own = float(arrays.get("tick", "iuf", ()))
        if not 0 < own < np.inf:
            raise DataError(arrays.source("tick"), found=own, expected="seconds above 0", remedy="0.001 = milliseconds")
    if given is not None and own is not None and given != own:
        raise InputError("tick", found=given, expected=f"{own}, as {arrays.path} says", remedy="leave it out")
    tick = given or own or usual
    if tick is None:
        name = "times" if "times" in arrays.named else "t"
        raise DataError(
            arrays.source(name), found="no array 'tick', and no tick= given", expected="a unit of time",
            remedy="say the seconds in one unit of time: tick=0.001 (--tick 0.001) for milliseconds, 1e-6 for microseconds",
        )  # fmt: skip
    if not 0 < tick < np.inf:
        raise InputError("tick", found=tick, expected="seconds above 0", remedy="1e-6 means microseconds")
    return tick


def _with_labels(
    arrays: Arrays, values: np.ndarray, offsets: Int[np.ndarray, "N+1"], schema: Schema, group: str | None
) -> Sequences:
    """The container, with what there is of label, group and part for each sample."""
    lengths = np.diff(offsets)
    N = len(lengths)
    index = groups = part = None
    classes: tuple[str, ...] | None = None
    if schema.label is not None:
        index, classes = _labels(arrays, schema.label, N)
    if group is not None:
        groups = np.unique(arrays.get(group, "iuU", (N,)), return_inverse=True)[1]
    if "split" in arrays.named:
        words = np.char.lower(np.char.strip(arrays.get("split", "U", (N,))))
        arrays.refuse(~np.isin(words, list(PARTS)), "split", "train, valid or test", "correct the word")
        part = np.array([PARTS[word] for word in words.tolist()])
    schema = replace(schema, classes=classes, lengths=(int(lengths.min()), int(lengths.max())))
    return Sequences(values, offsets, index, schema, groups, part)


def _labels(arrays: Arrays, name: str, N: int) -> tuple[Int[np.ndarray, "N"], tuple[str, ...]]:
    """Class indices and names; with an array `classes`, the labels already are indices into it."""
    labels = arrays.get(name, "iufUb", (N,))
    at: Callable[[int], str] = lambda i: f"{name}[{i}]"  # noqa: E731
    if "classes" not in arrays.named:
        return class_indices(labels, str(arrays.path), at)
    classes = arrays.get("classes", "U", (None,))
    index = arrays.get(name, "iu", (N,)).astype(np.int64)
    arrays.refuse((index < 0) | (index >= len(classes)), name, f"0 to {len(classes) - 1}, a class", "correct the label")
    return index, tuple(classes.tolist())


def _name(arrays: Arrays, argument: str, given: str | None, usual: tuple[str, ...]) -> str | None:
    """The array for a role: the given one, else the first with a usual name."""
    if given is not None and given not in arrays.named:
        raise unknown_name(f"{arrays.path}, {argument}", given, arrays.named)
    return given or next((name for name in usual if name in arrays.named), None)
