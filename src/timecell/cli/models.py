"""``timecell train | predict``: one model for your data, kept in a folder, and its answers for new data."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.table import Table

from timecell import catalog
from timecell.cli.answering import answered
from timecell.cli.asked import Asked, ModelFolder, as_trained, continued, load_fitted, read_asked, read_new
from timecell.cli.command import Answer, Command, File, Folder, lines, say
from timecell.cli.reading import Reading, everything
from timecell.errors import InputError, unknown_name

if TYPE_CHECKING:
    pass

BeforeFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
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
        from timecell.config import class_name
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
        base = getattr(splits.train, "base", ())
        Asked(read, task, splits.train.schema, test, class_name(type(fitted)), base).write(self.out)
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
        timecell predict model asked.csv --before known.csv

    What a row of the answer tells depends on the task:

        classify     of a sequence: the most probable class, and all probabilities
        forecast     of a step after the end of the file: every channel
        short-term   of a step after the end of a sequence: every channel
        decode       of a step: the targets
        co-smooth    of a bin: the mean count of each unit, or of each that was held out
        detect       of a step: how anomalous it is, and whether that is an alarm
        impute       of a step: every channel, with its gaps filled
        next-event   of a sequence: within which time the next event is as likely to come as not, and its mark
        link         of an edge: its score, and the share of its rivals that score lower
        structure    of a community: its members

    Labels in a file are not needed; where it has some, the classes are scored by them. An edge is scored by the edges
    strictly before it, in the file and in that of --before: candidates for one moment are rows with the same time. Of
    its score only the order counts, higher is likelier; its rivals are nodes, most of them in contact with its source or
    active shortly before, but not with it then.

    Attributes:
        folder: of the model.
        file: new data, in the form of the file that it was trained on.
        before: edges that came before those of the file: known, and not asked about.
        out: where all answers are written; the first ten are shown.
        root: the folder of systems that was named in training.
    """

    folder: ModelFolder
    file: File
    before: BeforeFile = None
    out: OutFile = None
    root: Folder = None

    def run(self) -> Answer:
        """One row a sequence, a step or an edge."""
        from timecell.data import Sequences, describe
        from timecell.files import write_whole
        from timecell.tasks.truth import with_classes

        asked = read_asked(self.folder)
        schema, task = asked.schema, asked.task
        fitted = load_fitted(self.folder, asked.model, self.root or catalog.SYSTEMS)
        data = read_new(self.file, asked.read, schema.label)
        say(f"{self.file}: {describe(data)}")
        known = as_trained(data, schema, self.file)
        if self.before is not None:
            known = continued(known, read_new(self.before, asked.read, schema.label))
        told = []
        if isinstance(known, Sequences):
            known = with_classes(known, schema.classes or ())
        head, rows = answered(fitted, known, asked, self.file)
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
