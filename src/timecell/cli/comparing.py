"""``timecell compare | demo``: which kind of model fits your data?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from timecell import catalog
from timecell.cli.command import Answer, Command, Folder
from timecell.cli.reading import Names, Reading, everything
from timecell.errors import InputError, unknown_name

if TYPE_CHECKING:
    from timecell.system import System


@dataclass(frozen=True, kw_only=True)
class Compare(Reading):
    """Fit many models and simple baselines to a file of yours, under one budget, and rank them.

        timecell compare my.csv --task classify --target label
        timecell compare load.csv --task forecast --horizon 24
        timecell compare taxi --only gru leaky-net --trials 1

    The test part is looked at once, at the end. A comparison that was stopped goes on when it is called again.

    Attributes:
        only: slugs of the models to compare, besides the baselines; all unless you name some.
        root: a folder with systems of your own, in place of timecell's published ones.
        seeds: refits of each model's best setting.
        trials: settings that each model may try on the validation part.
        updates: optimiser updates of one fit.
        seconds: at most so many for one fit.
        jobs: fits at a time, each on one core; 0 = one a core.
        out: folder for the report and the finished fits; runs/FILE-TASK unless you name one.
    """

    only: Names = ()
    root: Folder = None
    seeds: int = 3
    trials: int = 4
    updates: int = 400
    seconds: float | None = None
    jobs: int = 0
    out: Folder = None

    def run(self) -> Answer:
        """The ranking, and where the report is."""
        from timecell.compare import Settings, compare
        from timecell.report import print_comparison, write_html

        data, task = self.load()
        if task.name == "detect" and data.schema.label is None:
            raise InputError(
                "target", found="no column that marks anomalies", expected="one of 0 and 1, to score by",
                remedy="name it (--target NAME); without one, `timecell train` and `predict` give scores and alarms",
            )  # fmt: skip
        out = self.out or Path("runs") / f"{self.file.name.partition('.')[0]}-{task.name}"
        settings = Settings(
            seeds=self.seeds, trials=self.trials, updates=self.updates, jobs=self.jobs, seconds=self.seconds, out=out
        )
        comparison = compare(data, task, chosen(self.only, self.root or catalog.SYSTEMS), settings)
        report = out / "report.html"
        write_html(report, comparison, data, task, source=self.file.name)

        def show(console: Console) -> None:
            print_comparison(comparison, console)
            console.print(f"\nReport: {report.resolve()}", soft_wrap=True)

        return Answer(comparison.to_json() | {"report": str(report)}, show)


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """Compare models on spoken digits turned into spikes, within five minutes.

        timecell demo

    The data, 3,000 clips, ship with timecell.

    Attributes:
        out: folder for the report.
    """

    out: Path = Path("demo")

    def run(self) -> Answer:
        """`timecell compare spoken-digits` with a small budget and five models; without `only` it takes them all."""
        few = ("spiking-mlp", "adaptive-rsnn", "leaky-net", "gru", "delay-learning")
        return Compare(
            file=Path("spoken-digits"), only=few, seeds=3, trials=3, updates=300, seconds=60, out=self.out
        ).run()


def chosen(slugs: tuple[str, ...], root: Path) -> list[System]:
    """The systems with these slugs, or all of them.

    Raises:
        InputError: there is no such system.
    """
    systems = everything(root)
    for slug in slugs:
        if slug not in systems:
            raise unknown_name("only", slug, systems)
    return [system for slug, system in systems.items() if slug in (slugs or systems)]
