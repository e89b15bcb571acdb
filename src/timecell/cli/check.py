"""``timecell check``: does a cell of yours keep the contract?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.markup import escape
from rich.table import Table

from timecell.cli.command import Answer, Command, lines
from timecell.errors import InputError, unknown_name


@dataclass(frozen=True, kw_only=True)
class Check(Command):
    """Run the checks that every cell of timecell passes on a cell of yours.

        timecell check mine.py:Resonator

    Attributes:
        target: the file and the class in it, with a colon between.
    """

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.py:CLASS")]

    def run(self) -> Answer:
        """One line a check, failed ones with their reason."""
        from timecell.testing import check

        results = check(found(self.target))
        failed = [r.name for r in results if not r.passed]
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for r in results:
            mark = "[red]failed[/]" if not r.passed else "[yellow]exempt[/]" if r.reason else "[green]passed[/]"
            table.add_row(mark, r.name, escape(f"{r.promise}\n{r.reason}".strip()))
        summary = f"{len(results) - len(failed)} of {len(results)} checks passed."
        document = {"target": self.target, "passed": not failed, "results": [asdict(r) for r in results]}
        return Answer(document, lines(table, "", summary), ok=not failed)


def found(target: str) -> type:
    """The class that "file.py:Class" names.

    Raises:
        InputError: the text has another form, or the file has no such class, or it is no Cell.
        DataError: the file cannot be imported.
    """
    from timecell.catalog import import_file
    from timecell.cell import Cell

    path, colon, name = target.rpartition(":")
    if not (colon and path and name):
        raise InputError(
            "target",
            found=repr(target),
            expected="FILE.py:CLASS",
            remedy="for example: timecell check mine.py:Resonator",
        )
    module = import_file(Path(path))
    classes = {k: v for k, v in vars(module).items() if isinstance(v, type) and issubclass(v, Cell)}
    own = [k for k, v in classes.items() if v.__module__ == module.__name__]
    if name not in vars(module):
        raise unknown_name(f"class in {path}", name, own)
    if name not in classes:
        raise InputError(
            target, found=f"{type(getattr(module, name)).__name__}", expected="a subclass of timecell.Cell or Neuron",
            remedy="check which class you mean: " + (", ".join(own) or "the file has no cell"),
        )  # fmt: skip
    return classes[name]
