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

    def __init__(self, updates: int, speed: Speed) -> None:
        self.updates, self.speed = updates, speed

    def updated(self, update: int, loss: float) -> None:
        """Nothing."""

    def validated(self, row: Mapping[str, Any]) -> None:
        """The line."""
        update = row["update"]
        print(f"update {update}/{self.updates}: {summary(row)}, {self.speed.at(update)}", file=sys.stderr)


class Bar:
    """A bar with the last training loss, the last validation and the speed."""

    def __init__(self, bar: Any, task: Any, speed: Speed) -> None:
        self.bar, self.task, self.speed, self.valid = bar, task, speed, ""

    def updated(self, update: int, loss: float) -> None:
        """Move on."""
        words = f"loss {loss:.4g}{self.valid}, {self.speed.at(update)}"
        self.bar.update(self.task, completed=update, description=words)

    def validated(self, row: Mapping[str, Any]) -> None:
        """Show the score from here on."""
        if "metric" in row:
            self.valid = f", {row['metric']} {row['valid_score']:.4g}"


class Speed:
    """Updates per second of this session, which began after `first` updates."""

    def __init__(self, first: int) -> None:
        self.first, self.start = first, time.monotonic()

    def at(self, update: int) -> str:
        """In words."""
        return f"{(update - self.first) / max(time.monotonic() - self.start, 1e-9):.1f} updates/s"


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
        yield Lines(updates, Speed(first))
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            yield Bar(bar, bar.add_task("", total=updates, completed=first), Speed(first))


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
