"""What ``compare``, ``train`` and ``demo`` have in common: a file, how to read it, and what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from timecell.cli.command import Command, File, say
from timecell.errors import InputError

if TYPE_CHECKING:
    from timecell.data import Sequences, Series
    from timecell.system import System, Task

Name = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")]


@dataclass(frozen=True, kw_only=True)
class Reading(Command):
    """A data file and a task.

    Attributes:
        file: a file, or a folder with one folder for each class: CSV, Parquet, NPZ, NPY, HDF5, .ts, WAV, EDF, NWB, N-MNIST,
            AEDAT; or a data set that ships with timecell: spoken-digits, taxi.
        task: classify or forecast; found from the file unless you say it.
        target: the column of labels; or the channels to forecast (all unless you name some).
        horizon: steps to forecast.
        history: steps to forecast from; two seasons, or twice the horizon, unless you say it.
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
    """

    file: File
    task: Literal["classify", "forecast"] | None = None
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

    @property
    def path(self) -> Path:
        """The file, or that of the shipped data set of this name."""
        from timecell.data import files

        return files().get(str(self.file), self.file)

    def options(self) -> dict[str, Any]:
        """How the file is read, as arguments of `timecell.data.load`."""
        kind = {"classify": "sequences", "forecast": "series", None: None}[self.task]
        roles = {"id": self.id, "time": self.time, "group": self.group}
        names = ("ignore", "period", "dt", "tick", "size", "pool", "rate", "filters", "epoch", "item", "gaps")
        return {"kind": kind, **roles, **{n: getattr(self, n) for n in names}, "classes": self.classes or None}

    def load(self) -> tuple[Sequences | Series, Task]:
        """The data and the task.

        Raises:
            InputError: the options do not fit the task, or each other.
            DataError: the file cannot be read.
        """
        from timecell.data import Series, describe, load
        from timecell.tasks import Classify, Forecast

        label = self.target[0] if self.target and self.task != "forecast" else None
        data = load(self.path, target=label, **self.options())
        say(f"{self.file}: {describe(data)}")
        if isinstance(data, Series):
            task = Forecast(history=self.history, targets=self.target)
            task = task if self.horizon is None else replace(task, horizon=self.horizon)
            return data, task.seasonal(data)
        for name, given in {"horizon": self.horizon, "history": self.history, "target": self.target[1:]}.items():
            if given:
                raise InputError(
                    name, found=given, expected="nothing, since the file holds labelled sequences",
                    remedy="leave it out, or say --task forecast",
                )  # fmt: skip
        return data, Classify()


def everything(root: Path) -> dict[str, System]:
    """Every network system by slug: the plain ones, and the published ones found by walking."""
    from timecell import catalog
    from timecell.controls import controls

    published = [catalog.load_system(card.slug, root) for card in catalog.cards(root)]
    return {system.card.slug: system for system in [*controls(), *published]}
