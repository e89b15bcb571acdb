"""How far training is: a bar on a terminal, else one line a validation; both on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol


class Display(Protocol):
    """What training tells while it runs."""

    def updated(self, update: int, loss: float) -> None:
        """An update is done; `loss` is its training loss."""

    def validated(self, row: Mapping[str, Any]) -> None:
        """A row of the history is written."""


class Silent:
    """Says nothing."""

    def updated(self, update: int, loss: float) -> None:
        """Nothing."""

    def validated(self, row: Mapping[str, Any]) -> None:
        """Nothing."""


class Lines:
    """One line a validation, for logs."""

    def __init__(self, updates: int, first: int) -> None:
        self.updates, self.first, self.start = updates, first, time.monotonic()

    def updated(self, update: int, loss: float) -> None:
        """Nothing: a log has a line a validation."""

    def validated(self, row: Mapping[str, Any]) -> None:
        """The line."""
        rate = (row["update"] - self.first) / max(time.monotonic() - self.start, 1e-9)
        print(f"update {row['update']}/{self.updates}: {summary(row)}, {rate:.1f} updates/s", file=sys.stderr)


class Bar:
    """A bar with the last training loss, the last validation and the speed."""

    def __init__(self, bar: Any, task: Any) -> None:
        self.bar, self.task = bar, task

    def updated(self, update: int, loss: float) -> None:
        """Move on."""
        self.bar.update(self.task, completed=update, loss=loss)

    def validated(self, row: Mapping[str, Any]) -> None:
        """Show the validation."""
        self.bar.update(self.task, valid=summary(row))


@contextmanager
def display(show: bool, updates: int, first: int) -> Iterator[Display]:
    """What fits the place: nothing, a bar on a terminal, lines elsewhere.

    Args:
        show: whether anything is shown.
        updates: how many there will be.
        first: how many are done already.
    """
    if not show:
        yield Silent()
    elif not sys.stderr.isatty():
        yield Lines(updates, first)
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.4g}  {task.fields[valid]}"),
            TextColumn("{task.speed:.1f} updates/s"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True)) as bar:
            yield Bar(bar, bar.add_task("", total=updates, completed=first, loss=float("nan"), valid=""))


def summary(row: Mapping[str, Any]) -> str:
    """A row of the history in words.

    Example:
        >>> summary({"update": 10, "train_loss": 0.5, "valid_loss": 0.75, "valid_score": 0.8, "metric": "accuracy"})
        'train loss 0.5, valid loss 0.75, accuracy 0.8'
    """
    named = {
        "train loss": row["train_loss"],
        "valid loss": row.get("valid_loss"),
        row.get("metric"): row.get("valid_score"),
    }
    return ", ".join(f"{name} {value:.4g}" for name, value in named.items() if value is not None)
