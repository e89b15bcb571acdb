"""`load`: a file or folder that somebody has, into `Sequences` or a `Series`; `describe`: one line on how it was read.

Each format is a module ``read_FORMAT.py`` with its SUFFIXES and a function of its own name, and is found by walking.
What that function returns has one of few forms, and each form has its meanings:

    .csv .tsv .txt (.gz)  .parquet .pq    Table         series, or sequences in long or wide form   (from_table.py)
    .npz .npy  .h5 .hdf5 .hdf             Arrays        series, sequences, spikes, or events        (from_arrays.py)
    either of these                                     marked events; edges of a temporal graph    (event_files.py, edge_files.py)
    .bin .aedat                           EventStream   frames of an event camera                   (events.py)
    .wav .wave                            Sound         waves, or the spikes of an ear              (sounds.py)
    .edf .bdf  .nwb                       Recording     series, or trials around annotations        (recordings.py)
    .ts                                   Sequences     as they are

A folder holds a file for each sample (folders.py). The options of `load` are those of the functions that a file passes
through; one that none of them has is refused.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from timecell.data import edge_files, event_files, events, from_arrays, from_table, sounds
from timecell.data.arrays import Arrays
from timecell.data.containers import AnyData, Kind, Sequences, Series
from timecell.data.event_sequences import EventSequences
from timecell.data.events import EventStream
from timecell.data.folders import load_folder
from timecell.data.labelled_series import LabelledSeries
from timecell.data.recordings import Recording
from timecell.data.sounds import Sound
from timecell.data.table import Table
from timecell.data.temporal_edges import TemporalEdges
from timecell.errors import DataError, InputError, TimecellError, unknown_name

PREFIX = "read_"
OPTIONAL_EVERYWHERE = ("dt",)  # has a default, so it may be there without being meant


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
    tick: float | None = None,
    size: tuple[int, int] | None = None,
    pool: int | None = None,
    rate: float | None = None,
    filters: int | None = None,
    epoch: tuple[float, float] | None = None,
    classes: Collection[str] | None = None,
    item: str | None = None,
    gaps: Literal["forward"] | None = None,
    resolution: float | None = None,
) -> Any:
    """Read a data file, or a folder of them.

    A table is a **series** with one row a step, or holds **sequences**: in long form (a column `id`, one row a step,
    the label constant within an id; lengths may differ) or in wide form (one row a sequence, every number a step of
    one channel; columns x_0, x_1, ..., y_0, y_1, ... are steps of the channels x and y). Columns without a role are
    channels and must hold numbers. Time stamps are ISO dates (UTC unless they say otherwise) or seconds; rows that are
    missing in a series become NaN.

    **Marked events** (kind="events"; one row an event: sequence, time, mark) and the **edges** of a temporal graph
    (kind="edges"; one row a contact: source, target, time, numbers as features) are tables too, or named arrays.

    Arrays are named x [N, T, C] with y [N] (and lengths, group, split), values [T, C] (and time, rate), times, units,
    offsets, labels for spikes (times and units alone: one recording, a series of counts), or x, y, t, p for the events
    of a camera. HDF5 files may also have the Spiking
    Heidelberg layout.

    Sounds, event recordings and .ts files are sequences. An EDF or NWB file is a series, or with kind="sequences",
    `epoch` or `classes` a sequence for each annotation or trial. A **folder** of such files has a folder for each class
    (and above these train, valid, test, if you like).

    Args:
        path: .csv, .tsv, .txt (also .gz), .parquet, .npz, .npy, .h5, .hdf5, .ts, .wav, .edf, .bdf, .nwb, .bin (N-MNIST),
            .aedat, or a folder.
        kind: "sequences", "series", "events" or "edges"; None = edges where a table has columns source, target and time
            by their usual names; events where it has a time and a mark (mark, event, type) and nothing else; sequences where `target` or `id` is given or a label column is found
            (without a time column that has no id), else a series.
        target: column or array of class labels; None = found under a usual name (label, class, target; y, labels). For
            NWB the column of the trials. Of a series, the column that marks its anomalies (1) and the rest (0); of events,
            that of the marks.
        id: column that says which sequence a row belongs to; None = found (id, sample, sequence, series, trial).
        time: column of time stamps; None = found (time, timestamp, datetime, date, ds, t, step).
        group: column or array of groups that splits keep together; None = found (group, subject, speaker, ...).
        ignore: columns, arrays or channels to leave out.
        period: steps in a season of a series; None = guessed from the time stamps (hourly: 24, daily: 7, ...).
        dt: bin width in seconds for spikes and events.
        tick: seconds in one unit of the times of spikes or events (1e-6: microseconds), where the file does not say it.
        size: (height, width) of an event camera in pixels, where the file does not say it.
        pool: pixels of an event camera to put together, in each direction.
        rate: samples per second to resample sounds and EDF channels to.
        filters: turn sounds into the spikes of an ear with so many filters (see `cochleagram`).
        epoch: seconds around each annotation that make a trial: (-0.2, 0.8); None = from its onset to its end.
        classes: annotations that make a trial.
        item: time series of an NWB file, or "units" for its spikes.
        gaps: "forward" fills missing values of a .ts file with the last one before.
        resolution: of marked events, the width in time to which their stamps are rounded; None = found where some
            coincide.

    Returns:
        `Sequences`, a `Series`, `EventSequences` or `TemporalEdges`, as `kind` says.

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
    given: dict[str, Any] = dict(  # noqa: C408
        target=target, id=id, time=time, group=group, ignore=ignore or None, period=period, dt=dt, tick=tick, size=size,
        pool=pool, rate=rate, filters=filters, epoch=epoch, classes=classes, item=item, gaps=gaps,
        resolution=resolution,
    )  # fmt: skip
    options = {name: value for name, value in given.items() if value is not None}
    if isinstance(ignore, str):
        raise InputError("ignore", found=repr(ignore), expected="a list of names", remedy=f"write ignore=[{ignore!r}]")
    if kind not in (None, *get_args(Kind)):
        raise unknown_name("kind", str(kind), get_args(Kind))
    if period is not None and not (period >= 1 and period == int(period)):
        raise InputError("period", found=period, expected="a whole number of steps", remedy="leave it out for a guess")
    if path.is_dir() and path.suffix.lower() not in readers():
        if kind not in (None, "sequences"):
            raise InputError("kind", found=repr(kind), expected="sequences from a folder", remedy="name one file")
        return load_folder(path, _folder_suffix, partial(_sequences, options=options))
    return _load_file(path, kind, options)


def read_events(path: str | Path, *, tick: float | None = None, size: tuple[int, int] | None = None) -> EventStream:
    """The events of one recording as they are; `tick` and `size` as in `load`.

    Raises:
        DataError: the file is damaged, or holds no events.
        InputError: the unit of time or the size of the sensor is missing.
    """
    given: dict[str, Any] = {"tick": tick, "size": size}
    form, options = _form(Path(path), {name: value for name, value in given.items() if value is not None})
    if isinstance(form, Arrays) and form.layout("sequences", None) == "events":
        return from_arrays.events(form, **options)
    if not isinstance(form, EventStream):
        raise DataError(str(path), found="no events", expected="x, y, t, p, or a .bin of N-MNIST", remedy="use load()")
    _call(lambda: None, "a file that says its unit of time", options)
    return form


@cache
def readers() -> dict[str, Callable[..., Any]]:
    """Suffix -> the function that reads such files."""
    found: dict[str, Callable[..., Any]] = {}
    for module in sorted(
        m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name.startswith(PREFIX)
    ):
        reader = importlib.import_module(f"timecell.data.{module}")
        found |= dict.fromkeys(reader.SUFFIXES, getattr(reader, module))
    return found


def describe(data: AnyData) -> str:
    """One line that says what was read.

    Example:
        >>> describe(Sequences.of([np.zeros((3, 2)), np.ones((5, 2))], target=[0, 1]))
        '2 sequences of 3 to 5 steps, 2 channels, 2 classes'
    """
    if isinstance(data, EventSequences):
        return event_files.describe_events(data)
    if isinstance(data, TemporalEdges):
        return edge_files.describe_edges(data)
    schema = data.schema
    channels = _count(len(schema.channels), "channel")
    if isinstance(data, Series):
        parts = [_steps(data), channels]
        if schema.period:
            parts.append(f"season of {_count(schema.period, 'step')}")
        missing = int(np.isnan(data.values).sum())
        parts.append(f"{_count(missing, 'value')} missing" if missing else "none missing")
        if isinstance(data, LabelledSeries):
            parts.append(f"{_count(int(data.anomalous.sum()), 'step')} anomalous by {schema.label!r}")
        return ", ".join(parts)

    assert isinstance(data, Sequences)
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


def _load_file(path: Path, kind: Kind | None, options: dict[str, Any]) -> Any:
    """One file: read into its form, then understood."""
    form, options = _form(path, options)
    if isinstance(form, Table | Arrays):
        form = form.without(options.pop("ignore", ()))
    if isinstance(form, Arrays) and kind is None:
        kind = _kind_of_arrays(form)
    if (
        isinstance(form, Arrays)
        and kind not in ("events", "edges")
        and form.layout(kind, options.get("target")) == "events"
    ):
        taken = {name: options.pop(name) for name in ("tick", "size") if name in options}
        form = from_arrays.events(form, **taken)
    marks = options.pop("target", None) if kind == "series" and isinstance(form, Table | Arrays) else None
    what, function = _meaning(path, form, kind, options)
    data = _call(function, what, options)
    if marks is None:
        return data
    try:
        return LabelledSeries.of(data, marks)
    except TimecellError as e:
        raise DataError(f"{path}, {e.place}", found=e.found, expected=e.expected, remedy=e.remedy) from None


def _form(path: Path, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What the reader of this format makes of a file, and the options that it did not take."""
    reader = readers()[_suffix(path)]
    if not path.is_file():
        raise DataError(
            str(path), found="a folder" if path.is_dir() else "no such file", expected="a data file",
            remedy="check the path",
        )  # fmt: skip
    takes = inspect.signature(reader).parameters
    form = reader(path, **{name: value for name, value in options.items() if name in takes})
    return form, {name: value for name, value in options.items() if name not in takes or name in OPTIONAL_EVERYWHERE}


def _meaning(path: Path, form: Any, kind: Kind | None, options: dict[str, Any]) -> tuple[str, Callable[..., Any]]:
    """What a form means here, in words, and the function that makes data of it."""
    if isinstance(form, Table):
        meanings: dict[Kind, tuple[str, Callable[..., Any]]] = {
            "series": ("a series", partial(from_table.series, form)),
            "sequences": ("sequences", partial(from_table.sequences, form)),
            "events": ("events", partial(event_files.events, form)),
            "edges": ("edges", partial(edge_files.edges_of_table, form)),
        }
        return meanings[kind or _kind_of(form, options)]
    if kind == "events" and isinstance(form, Arrays):
        return "events", partial(event_files.event_arrays, form)
    if kind == "edges" and isinstance(form, Arrays):
        return "edges", partial(edge_files.edges_of_arrays, form)
    if kind in ("events", "edges"):
        raise DataError(
            str(path), found="a file of another kind", expected=f"a table or named arrays of {kind}",
            remedy="choose a task that fits the data, or write them as a table",
        )  # fmt: skip
    if isinstance(form, Arrays):
        layout = form.layout(kind, options.get("target"))
        what = "a series" if layout in ("series", "counts") else "sequences in a file of arrays"
        return what, partial(getattr(from_arrays, layout), form)
    if isinstance(form, Recording):
        if kind == "sequences" or (kind is None and options.keys() & {"epoch", "classes"}):
            return "trials of a recording", form.epochs
        return "a series", form.series
    if isinstance(form, Sound) and kind == "series":
        return "a series", partial(sounds.series, form)
    if isinstance(form, Sound):
        return "a sound", partial(sounds.sequences, form)
    if kind == "series":
        raise DataError(
            str(path), found="sequences", expected="a series", remedy="choose a task that fits the data: classify"
        )
    if isinstance(form, EventStream):
        return "an event recording", partial(events.sequences, form)
    return f"a {path.suffix} file", lambda: form


def _sequences(path: Path, options: dict[str, Any]) -> Sequences:
    """The samples of one file of a folder."""
    data = _load_file(path, "sequences", options)
    assert isinstance(data, Sequences)
    return data


def _folder_suffix(path: Path) -> str:
    """The format of a file in a folder of samples; a table may hold any number of them, so it must be named itself."""
    suffix = _suffix(path)
    if readers()[suffix].__name__ in ("read_csv", "read_parquet"):
        raise DataError(
            str(path), found="a table in a folder", expected="sounds, events, recordings or .ts files",
            remedy="name the table itself; it may hold all samples, one row a step, with columns id and label",
        )  # fmt: skip
    return suffix


def _suffix(path: Path) -> str:
    """The ending that says the format; .gz is looked through for text."""
    endings = [suffix.lower() for suffix in path.suffixes]
    for suffix in ("".join(endings[-2:]), "".join(endings[-1:])):
        if suffix in readers():
            return suffix
    raise DataError(
        str(path), found=f"the ending {path.suffix!r}", expected=f"one of {' '.join(readers())}",
        remedy="convert the file, or correct its name",
    )  # fmt: skip


def _kind_of(table: Table, options: dict[str, Any]) -> Kind:
    """Edges or events where all columns have their usual names, events too where times, ids and labels are all there is;
    sequences where label or id is named, or a label is found (and no time column without an id); else a series."""
    if "target" not in options and edge_files.is_edges(table):
        return "edges"
    if "target" not in options and event_files.is_events(table):
        return "events"
    roles = table.roles({role: options.get(role) for role in ("target", "id", "time", "group", "split")})
    if "time" in roles and len(roles) > 1 and set(table.columns) == set(roles.values()):
        return "events"
    named = "target" in options or "id" in options
    return "sequences" if named or ("target" in roles and ("id" in roles or "time" not in roles)) else "series"


def _kind_of_arrays(arrays: Arrays) -> Kind | None:
    """Edges or marked events where the names say so; else to be told from the layout."""
    if {"src", "dst", "t"} <= arrays.named.keys():
        return "edges"
    return "events" if {"times", "marks"} <= arrays.named.keys() else None


def _call(function: Callable[..., Any], what: str, options: dict[str, Any]) -> Any:
    """The function with these options; InputError for one that it does not have."""
    takes = inspect.signature(function).parameters
    for name, value in options.items():
        if name not in takes and name not in OPTIONAL_EVERYWHERE:
            hint = "; the channels to forecast are named in the task" if name == "target" else ""
            raise InputError(name, found=repr(value), expected=f"None for {what}", remedy=f"leave it out{hint}")
    return function(**{name: value for name, value in options.items() if name in takes})


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
