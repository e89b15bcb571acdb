"""The ranking as a table in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from timecell.compare import Comparison
from timecell.report import words


def leaderboard(c: Comparison) -> Table:
    """A rich table, best first: system, metric, difference from the best, parameters, time.

    Baselines are dim; ≈ marks what is not distinguishable from the best.
    """
    title = f"{words.metric(c.metric)} on {c.data['test']} test samples, {words.direction(c)}"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", justify="right", style="dim")
    table.add_column("system", overflow="ellipsis", no_wrap=True)
    table.add_column(words.metric(c.metric), justify="right", no_wrap=True)
    table.add_column("behind the best [95 %]", justify="right", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("fit", justify="right", no_wrap=True)
    for rank, row in enumerate(c.rows, start=1):
        style = "bold green" if rank == 1 else "green" if words.is_tie(row) else "dim" if row.is_baseline else ""
        name = escape(row.slug) + (" [dim](baseline)[/]" if row.is_baseline else "")
        size = words.count(row.report.get("parameters"))
        table.add_row(
            str(rank), name, words.score(row.values), words.behind(row), size, words.duration(row.seconds), style=style
        )
    return table


def print_comparison(c: Comparison, console: Console | None = None) -> None:
    """The leaderboard, the verdict, and who could not take part."""
    console = console or Console(width=100)
    console.print(leaderboard(c))
    console.print(f"\n{words.verdict(c)}", markup=False, highlight=False)
    for reason, slugs in words.rejected(c).items():
        console.print(f"Not for these data: {', '.join(slugs)}: {reason}", style="dim", markup=False, highlight=False)
    for failed in c.failed:
        text = f"Failed: {failed.slug}, {failed.stage}: {failed.error}"
        console.print(text, style="red", markup=False, highlight=False)
