"""What ``compare``, ``train`` and ``demo`` have in common: a file, how to read it, and what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from timecell.cli.command import Command, File, say
from timecell.errors import InputError, unknown_name

if TYPE_CHECKING:
    from timecell.data.containers import AnyData, Schema
    from timecell.system import System, Task

ANOMALIES = ("anomaly", "anomalous", "is_anomaly", "outlier", "is_outlier", "label")
"""Usual names of the column that marks them."""
USUAL = {"sequences": "classify", "series": "forecast", "events": "next-event", "edges": "link"}
"""Kind of data -> what is asked of them unless somebody says it; see `usual`."""

Name = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")]


@dataclass(frozen=True, kw_only=True)
class Reading(Command):
    """A data file and a task.

    Attributes:
        file: a file, or a folder with one folder for each class: CSV, Parquet, NPZ, NPY, HDF5, .ts, WAV, EDF, NWB, N-MNIST,
            AEDAT; or a data set that ships with timecell: spoken-digits, taxi.
        task: classify, short-term, forecast, impute, detect, decode, co-smooth, next-event or link; found from the file
            unless you say it.
        target: the column of labels (of classes, of marks of events, of anomalies); or the channels to forecast (all
            unless you name some), to decode, or the units to hold out.
        horizon: steps to forecast.
        history: steps that are looked back on; what is usual for the task unless you say it.
        id: column that says which sequence a row belongs to.
        time: column of time stamps.
        group: column of groups that are never split: subjects, sessions, speakers.
        ignore: columns to leave out.
        period: steps in a season of a series.
        dt: bin width in seconds, for spikes and events.
        tick: seconds in one unit of the times of spikes or events (1e-6: microseconds).
        size: height and width of an event camera in pixels.
        pool: pixels of an event camera to put together, in each direction.
        rate: samples per second to resample sounds and EDF channels to.
        filters: turn sounds into the spikes of an ear with so many filters.
        epoch: seconds around each annotation that make a trial, e.g. 0 4.
        classes: annotations that make a trial.
        item: time series of an NWB file, or "units" for its spikes.
        gaps: "forward" fills missing values of a .ts file with the last one before.
        resolution: of events, the width to which their times are rounded, in the units of these times.
    """

    file: File
    task: Name = None
    target: Names = ()
    horizon: int | None = None
    history: int | None = None
    id: Name = None
    time: Name = None
    group: Name = None
    ignore: Names = ()
    period: int | None = None
    dt: float = 0.010
    tick: float | None = None
    size: tuple[int, int] | None = None
    pool: int | None = None
    rate: float | None = None
    filters: int | None = None
    epoch: tuple[float, float] | None = None
    classes: Names = ()
    item: Name = None
    gaps: Literal["forward"] | None = None
    resolution: float | None = None

    @property
    def path(self) -> Path:
        """The file, or that of the shipped data set of this name."""
        from timecell.data import files

        return files().get(str(self.file), self.file)

    def options(self) -> dict[str, Any]:
        """How the file is read, as arguments of `timecell.data.load`."""
        roles = {"id": self.id, "time": self.time, "group": self.group}
        names = (
            "ignore",
            "period",
            "dt",
            "tick",
            "size",
            "pool",
            "rate",
            "filters",
            "epoch",
            "item",
            "gaps",
            "resolution",
        )
        kind = None if self.task is None else asked_for(self.task).kind
        return {"kind": kind, **roles, **{n: getattr(self, n) for n in names}, "classes": self.classes or None}

    def load(self) -> tuple[AnyData, Task]:
        """The data and the task.

        Raises:
            InputError: the options do not fit the task, or each other.
            DataError: the file cannot be read.
        """
        from timecell.data import describe, load

        chosen = None if self.task is None else asked_for(self.task)
        of_channels = chosen is not None and channels_field(chosen) is not None
        data = load(self.path, target=None if of_channels or not self.target else self.target[0], **self.options())
        if self.task == "detect":
            data = with_anomalies(data)
        say(f"{self.file}: {describe(data)}")
        return data, self.asked(chosen or asked_for(usual(data.schema)), data)

    def asked(self, task: Any, data: AnyData) -> Task:
        """The task with what was said of it.

        Raises:
            InputError: something was said that the task does not know.
        """
        known = {field.name for field in fields(task)}
        given: dict[str, Any] = {"horizon": self.horizon, "history": self.history}
        channels = channels_field(task)
        labels = self.target if channels is None else ()
        if channels is not None:
            given[channels] = self.target
        given = {name: value for name, value in given.items() if value}
        for name, value in [*given.items(), ("target", labels[1:])]:
            if value and name not in known:
                raise InputError(
                    name, found=value, expected=f"nothing, since the task is {task.name}",
                    remedy="leave it out, or name another task: --task forecast",
                )  # fmt: skip
        made = task(**given)
        return made.seasonal(data) if hasattr(made, "seasonal") else made


def with_anomalies(data: AnyData) -> AnyData:
    """A series with its column of anomalies, if it has one under a usual name and nobody has named it."""
    from timecell.data.containers import Series
    from timecell.data.labelled_series import LabelledSeries

    if not isinstance(data, Series) or isinstance(data, LabelledSeries):
        return data
    found = [name for name in data.schema.channels if name.lower() in ANOMALIES]
    return LabelledSeries.of(data, found[0]) if len(found) == 1 and len(data.schema.channels) > 1 else data


def usual(schema: Schema) -> str:
    """What is asked of such data unless somebody says it."""
    if schema.kind == "sequences" and not schema.classes:
        return "short-term"
    return "co-smooth" if schema.kind == "series" and schema.spikes else USUAL[schema.kind]


def asked_for(name: str) -> Any:
    """The class of the task of this name.

    Raises:
        InputError: there is no such task; the message has the closest name.
    """
    from timecell.tasks import every

    tasks = every()
    if name not in tasks:
        raise unknown_name("task", name, tasks)
    return tasks[name]


def channels_field(task: Any) -> str | None:
    """The attribute of a task that takes names of channels; None where a name after --target is a column of labels."""
    return next((field.name for field in fields(task) if field.name in ("targets", "held_out")), None)


def everything(root: Path) -> dict[str, System]:
    """Every system by slug: the plain networks and event models, and the published ones found by walking."""
    from timecell import catalog
    from timecell.controls import controls
    from timecell.event_models import event_models

    published = [catalog.load_system(card.slug, root) for card in catalog.cards(root)]
    return {system.card.slug: system for system in [*controls(), *event_models(), *published]}
