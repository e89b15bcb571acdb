"""``timecell diagnose``: what is wrong with a trained network, on data of yours?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.text import Text

from timecell import catalog
from timecell.cli.asked import ModelFolder, as_trained, load_fitted, read_asked, read_new
from timecell.cli.command import Answer, Command, File, Folder, lines, say
from timecell.errors import DataError, InputError

if TYPE_CHECKING:
    from timecell.data import Sequences, Series
    from timecell.data.containers import Data
    from timecell.network_system import FittedNetwork


@dataclass(frozen=True, kw_only=True)
class Diagnose(Command):
    """Look into a network that timecell train made: silent units, fading gradients, exploding states.

        timecell diagnose model my.csv
        timecell diagnose model my.csv --samples 256 --json

    The network runs on some of the samples, evenly spread over the file. Gradients are of the loss it was trained
    with, so the file needs what was asked for in training: labels, or steps to forecast.

    Attributes:
        folder: of the model.
        file: data in the form of the file that it was trained on.
        samples: at most so many sequences or windows.
        root: the folder of systems that was named in training.
    """

    folder: ModelFolder
    file: File
    samples: int = 64
    root: Folder = None

    def run(self) -> Answer:
        """The layers' vital signs, and every finding with its remedy; exit status 1 if there are any."""
        from timecell.data import describe
        from timecell.lens import diagnose

        if self.samples < 1:
            raise InputError("samples", found=self.samples, expected="at least 1", remedy="64 are enough for most nets")
        asked = read_asked(self.folder)
        fitted = network(self.folder, self.root or catalog.SYSTEMS)
        data = read_new(self.file, asked.read, fitted.schema.label)
        say(f"{self.file}: {describe(data)}")
        known = seen_by(fitted, as_trained(data, fitted.schema, self.file))
        count = min(self.samples, len(known))
        batch = known.batch(np.linspace(0, len(known) - 1, count).round().astype(np.int64))
        loss = None if batch.target is None else fitted.task.loss
        diagnosis = diagnose(fitted.network, batch, loss)
        document = {"folder": str(self.folder), "samples": count, **diagnosis.to_dict()}
        about = f"{count:,} samples" + ("" if loss else "; without labels, so nothing is said about gradients")
        return Answer(document, lines(about, "", Text(str(diagnosis))), ok=not diagnosis.findings)


def network(folder: Path, root: Path) -> FittedNetwork:
    """The network in a folder.

    Raises:
        InputError: the model there is no network.
        DataError: the folder is damaged.
    """
    from timecell.network_system import FittedNetwork

    fitted = load_fitted(folder, read_asked(folder).model, root)
    if isinstance(fitted, FittedNetwork):
        return fitted
    raise InputError(
        "folder", found=f"{type(fitted).__name__} in {folder}", expected="a network",
        remedy="baselines have no layers to look into; train one of the networks that `timecell compare` ranks",
    )  # fmt: skip


def seen_by(fitted: FittedNetwork, data: Sequences | Series) -> Data:
    """The data as the network sees them: scaled sequences of its classes, or every window of a scaled series.

    Raises:
        InputError: there are other classes than in training, or the task is neither to classify nor to forecast.
        DataError: a series is too short for one window.
    """
    from timecell.data import Sequences, Series, Windows
    from timecell.tasks.truth import with_classes

    task: Any = fitted.task
    if isinstance(data, Sequences):
        counted = replace(data, schema=replace(data.schema, spikes=fitted.schema.spikes))
        return fitted.scale.data(with_classes(counted, fitted.schema.classes or ()))
    if not isinstance(data, Series) or task.name != "forecast":
        raise InputError(
            "folder", found=f"a net for the task {task.name}", expected="one that classifies or forecasts",
            remedy="pass its network and a batch of its data to timecell.lens.diagnose in Python",
        )  # fmt: skip
    history = fitted.schema.lengths[0]
    windows = len(data) - history - task.horizon + 1
    if windows < 1:
        raise DataError(
            "series", found=f"{len(data)} steps", expected=f"at least {history + task.horizon}, for one window",
            remedy="bring a longer file",
        )  # fmt: skip
    targets = tuple(range(len(task.targets))) or None  # `Forecast.split` puts the channels to forecast in front
    return fitted.scale.data(Windows(data, history, task.horizon, np.arange(windows), targets))
