"""``timecell train | predict``: one model for your data, kept in a folder, and its answers for new data."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from rich.table import Table

from timecell import catalog
from timecell.cli.answering import answered
from timecell.cli.command import Answer, Command, File, Folder, lines, say
from timecell.cli.reading import Reading, everything
from timecell.errors import DataError, InputError, TimecellError, unknown_name

if TYPE_CHECKING:
    from timecell.data import Schema
    from timecell.data.containers import AnyData
    from timecell.system import Fitted

ASKED = "asked.json"  # beside the model: how its file was read, and what was asked of it
ModelFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
OutFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv")]
SHOWN = 10  # rows of an answer in the terminal


@dataclass(frozen=True, kw_only=True)
class Train(Reading):
    """Train one model on a file of yours and keep it in a folder.

        timecell train my.csv --task classify --target label --system delay-learning --out model
        timecell train my.csv --task classify --target label --system delay-learning --out model --resume

    The test part of the data is scored once, at the end. `timecell predict` uses the folder.

    Attributes:
        system: slug of a published system, a plain network or a baseline; `timecell compare` ranks them.
        out: folder for the model, its checkpoints and its test score.
        resume: go on from the last checkpoint in the folder.
        updates: optimiser updates.
        seconds: at most so many.
        seed: of the split and of every random draw.
        device: cpu, cuda or auto.
        devices: how many of them; each computes its part of every batch, in a process of its own.
        root: a folder with systems of your own, in place of timecell's published ones.
    """

    system: str
    out: Path
    resume: bool = False
    updates: int = 400
    seconds: float | None = None
    seed: int = 0
    device: str = "auto"
    devices: int = 1
    root: Folder = None

    def run(self) -> Answer:
        """The test score, and where the model is."""
        from timecell.config import class_name, to_dict
        from timecell.files import write_whole
        from timecell.system import Run

        data, task = self.load()
        systems = everything(self.root or catalog.SYSTEMS) | {b.card.slug: b for b in task.baselines()}
        if self.system not in systems:
            raise unknown_name("system", self.system, systems)
        splits = task.split(data, seed=self.seed)
        if reason := systems[self.system].accepts(splits.train.schema, task):
            raise InputError(
                "system", found=self.system, expected="one for these data", remedy=f"choose another: {reason}"
            )
        run = Run(
            seed=self.seed, updates=self.updates, seconds=self.seconds, folder=self.out / "checkpoints",
            resume=self.resume, device=self.device, devices=self.devices, progress=True,
        )  # fmt: skip
        fitted = systems[self.system].fit(splits.train, splits.valid, task, run)
        scores = task.score(fitted.predict(splits.test), splits.test)
        test = {"samples": len(splits.test), "metric": scores.primary, "metrics": dict(scores.metrics)}
        fitted.save(self.out)
        read = self.options() | {"kind": data.schema.kind}
        model = class_name(type(fitted))
        asked = {
            "model": model,
            "read": read,
            "task": to_dict(task),
            "schema": to_dict(splits.train.schema),
            "test": test,
        }
        write_whole(self.out / ASKED, json.dumps(asked, indent=1).encode())
        told = ", ".join(f"{name} {value:.4g}" for name, value in scores.metrics.items())
        return Answer(
            {"system": self.system, "folder": str(self.out), "test": test},
            lines(f"Test, {len(splits.test):,} samples: {told}", f"Model: {self.out}"),
        )


@dataclass(frozen=True, kw_only=True)
class Predict(Command):
    """Answer for new data with a model that `timecell train` made.

        timecell predict model new.csv
        timecell predict model new.csv --out answers.csv

    Labels in the file are not needed; where it has some, the classes are scored by them. A forecast is of what comes
    after the end of the file.

    Attributes:
        folder: of the model.
        file: new data, in the form of the file that it was trained on.
        out: where all answers are written; the first ten are shown.
        root: the folder of systems that was named in training.
    """

    folder: ModelFolder
    file: File
    out: OutFile = None
    root: Folder = None

    def run(self) -> Answer:
        """One row a sequence, or one row a step."""
        from timecell.config import from_dict
        from timecell.data import Sequences, describe
        from timecell.files import write_whole
        from timecell.tasks.truth import with_classes

        asked = read_asked(self.folder)
        schema, task = from_dict(asked["schema"]), from_dict(asked["task"])
        fitted = load_fitted(self.folder, asked.get("model"), self.root or catalog.SYSTEMS)
        data = read_new(self.file, asked["read"], schema.label)
        say(f"{self.file}: {describe(data)}")
        known = with_channels(data, schema, self.file)
        told = []
        if isinstance(known, Sequences):
            known = with_classes(known, schema.classes)
        head, rows = answered(fitted, known, task, schema, self.file)
        if isinstance(known, Sequences) and known.target is not None:
            told.append(f"By the labels in the file: accuracy {task.score(fitted.predict(known), known).value:.4g}")
        if self.out is not None:
            write_whole(self.out, csv_text(head, rows).encode())
        table = Table(*head, box=None, padding=(0, 2, 0, 0))
        for row in rows[:SHOWN]:
            table.add_row(*map(short, row))
        if len(rows) > SHOWN:
            told.insert(0, f"... {len(rows) - SHOWN:,} more")
        if self.out is not None:
            told.append(f"Written to {self.out}")
        return Answer([dict(zip(head, row)) for row in rows], lines(table, *told))


# --- reading ----------------------------------------------------------------------------------------------------------


def read_asked(folder: Path) -> dict[str, Any]:
    """What ``timecell train`` wrote beside the model.

    Raises:
        DataError: the folder has no such file, or it is damaged.
    """
    try:
        asked: dict[str, Any] = json.loads((folder / ASKED).read_bytes())
        return asked
    except (OSError, ValueError) as e:
        raise DataError(
            str(folder / ASKED), found=getattr(e, "strerror", None) or e, expected="the folder of `timecell train --out`",
            remedy="name that folder, or train again",
        ) from None  # fmt: skip


def load_fitted(folder: Path, model: str | None, root: Path) -> Fitted:
    """The model in a folder, by the name of its class: a baseline, or what one of the systems under `root` fitted."""
    from timecell.config import find_class
    from timecell.tasks import FittedArrays

    usual = "timecell.network_system.FittedNetwork"  # of folders from before there were others
    kind = find_class(model or usual, {}, lambda found: hasattr(found, "load"), "fitted model")
    if issubclass(kind, FittedArrays):
        return kind.load(folder)  # type: ignore[return-value]
    fitted: Fitted = kind.load(folder, [type(system) for system in everything(root).values()])
    return fitted


def read_new(file: Path, options: Mapping[str, Any], label: str | None) -> AnyData:
    """A new file, read as the one for training was, with or without the column of labels."""
    from timecell.data import load

    try:
        data: AnyData = load(file, target=label, **options)
        return data
    except TimecellError as e:
        if label is None or not e.place.endswith(", target"):
            raise
        return load(file, **options)


def with_channels(data: Any, schema: Schema, file: Path) -> Any:
    """The data with the channels (of events: the marks) of the training data in their order; edges as they are.

    Raises:
        DataError: the file lacks a channel, has a mark that training did not know, or is of the other kind.
    """
    from timecell.data.event_sequences import EventSequences

    found = data.schema
    if found.kind == schema.kind == "edges":
        return data
    flags = {f"{name} seen" for name in schema.channels}  # of the task impute, beside each channel
    wanted = [name for name in schema.channels if name not in flags]
    if isinstance(data, EventSequences) and schema.kind == found.kind:
        strange = [mark for mark in found.classes or () if mark not in (schema.classes or ())]
        number = np.array([(schema.classes or ()).index(m) for m in found.classes or () if m not in strange], int)
        missing = strange
    else:
        missing = [name for name in wanted if name not in found.channels]
    if missing or found.kind != schema.kind:
        raise DataError(
            str(file), found=f"{found.kind} with the channels {', '.join(found.channels)}",
            expected=f"{schema.kind} with {', '.join(wanted)}, as in training", remedy="name the columns so",
        )  # fmt: skip
    if isinstance(data, EventSequences):
        named = replace(found, channels=schema.channels, classes=schema.classes)
        return replace(data, marks=number[data.marks], schema=named)
    order = [found.channels.index(name) for name in wanted]
    return replace(data, values=data.values[:, order], schema=replace(found, channels=tuple(wanted)))


# --- answers ----------------------------------------------------------------------------------------------------------


def short(value: Any) -> str:
    """For a table in the terminal."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def csv_text(head: list[str], rows: list[list[Any]]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text).writerows([head, *rows])
    return text.getvalue()
