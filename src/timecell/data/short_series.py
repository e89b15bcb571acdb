"""`ShortSeries`: windows of many short series, each in a unit of its own, and the split that keeps their last steps.

Sales of a thousand shops, admissions of a hundred wards: each series is too short to be learnt from alone, and each has a
level of its own. So one model learns from the windows of all, and every series is measured in its own mean change from
one step to the next; an error of 1 is then that of the naive forecast one step ahead, in whatever unit the series came.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

from timecell.data.containers import Schema, Sequences, Series, Windows
from timecell.data.splits import Splits
from timecell.errors import InputError


@dataclass(frozen=True)
class ShortSeries(Windows):
    """Windows of series that lie end to end in `series`; none crosses from one into the next.

    Attributes:
        owner: [N] which series each window is of.
        level: [M, C] of each series: its mean before the steps that validate ...
        unit: [M, C] ... and its mean change from step to step there. A value x stands as (x - level) / unit.
    """

    owner: Int[np.ndarray, "N"] = field(default_factory=lambda: np.zeros(0, np.int64))
    level: Float[np.ndarray, "M C"] = field(default_factory=lambda: np.zeros((0, 0)))
    unit: Float[np.ndarray, "M C"] = field(default_factory=lambda: np.ones((0, 0)))

    @property
    def schema(self) -> Schema:
        """Of sequences as long as a window."""
        return replace(super().schema, kind="sequences")

    def select(self, index: Int[np.ndarray, "n"]) -> ShortSeries:
        """The windows with these numbers."""
        return replace(self, starts=self.starts[index], owner=self.owner[index])

    def restored(self, values: Float[np.ndarray, "N H K"]) -> Float[np.ndarray, "N H K"]:
        """Values of the target channels, one row a window, back in the unit in which each series came."""
        level, unit = (part[self.owner][:, None, self.target_channels] for part in (self.level, self.unit))
        return values * unit + level


def by_ends(data: Sequences, history: int, horizon: int, targets: tuple[int, ...] | None = None) -> Splits:
    """The last `horizon` steps of every series test, those before validate, and all before those train.

    Args:
        data: the series.
        history: input steps of a window.
        horizon: target steps of a window.
        targets: numbers of the channels to forecast; None = all.

    Raises:
        InputError: a series is too short, or none ever changes before the steps that validate.

    Example:
        >>> parts = by_ends(Sequences.of([np.arange(9.0)[:, None], 50 - np.arange(12.0)[:, None]]), history=3, horizon=2)
        >>> len(parts.train), len(parts.valid), len(parts.test)
        (5, 2, 2)
        >>> parts.test.restored(parts.test.batch(np.array([0, 1])).target.numpy())[:, :, 0].tolist()
        [[7.0, 8.0], [40.0, 39.0]]
    """
    needed, lengths = history + 3 * horizon, data.lengths
    if (lengths < needed).any():
        i = int(np.argmax(lengths < needed))
        raise InputError(
            f"data, sequence {i}", found=f"{lengths[i]} steps",
            expected=f"at least {needed}: {history} to look back on and {horizon} to train, validate and test",
            remedy="shorten history or horizon, or leave out the shortest series",
        )  # fmt: skip
    own, level, unit = in_own_units(data, before=2 * horizon)

    def part(left: int, each: int | None) -> ShortSeries:
        """Series without their last steps; of each its last windows, or all."""
        return _laid(data.schema, [x[: len(x) - left] for x in own], history, horizon, targets, level, unit, each)

    return Splits(part(2 * horizon, None), part(horizon, 1), part(0, 1))


def beyond(data: Sequences, history: int, horizon: int, targets: tuple[int, ...] | None = None) -> ShortSeries:
    """One window of each series, whose targets lie beyond its end and are not known.

    Args:
        data: series of at least `history` steps.
        history: input steps.
        horizon: steps ahead.
        targets: numbers of the channels to forecast; None = all.

    Example:
        >>> windows = beyond(Sequences.of([np.arange(5.0)[:, None], np.arange(9.0)[:, None]]), history=3, horizon=2)
        >>> windows.series.values[windows.starts[1] + np.arange(5), 0].tolist()
        [2.0, 3.0, 4.0, nan, nan]
    """
    own, level, unit = in_own_units(data, before=0)
    longer = [np.concatenate([x, np.full((horizon, x.shape[1]), np.nan)]) for x in own]
    return _laid(data.schema, longer, history, horizon, targets, level, unit, 1)


def in_own_units(
    data: Sequences, before: int
) -> tuple[list[Float[np.ndarray, "T C"]], Float[np.ndarray, "M C"], Float[np.ndarray, "M C"]]:
    """Each series less its level, in its own unit, with both; measured on all but its last `before` steps.

    A constant series has the usual unit of the others.

    Raises:
        InputError: none ever changes there.
    """
    samples = [data[i].astype(np.float64) for i in range(len(data))]
    level, unit = (np.stack(part) for part in zip(*[_own(x[: len(x) - before]) for x in samples]))
    if not np.nanmax(unit, initial=0.0) > 0:
        raise InputError(
            "data", found="series that never change before the steps that validate", expected="some that do",
            remedy="there is nothing to learn from these",
        )  # fmt: skip
    unit = np.where(unit > 0, unit, np.median(unit[unit > 0]))
    return [(x - a) / b for x, a, b in zip(samples, level, unit)], level, unit


def _laid(
    schema: Schema, own: list[np.ndarray], history: int, horizon: int, targets: tuple[int, ...] | None, level: np.ndarray,
    unit: np.ndarray, each: int | None,
) -> ShortSeries:  # fmt: skip
    """Series end to end, and of each its last windows, or all."""
    last = np.cumsum([len(x) for x in own]) - history - horizon
    counts = [len(x) - history - horizon + 1 if each is None else each for x in own]
    starts = [stop - n + 1 + np.arange(n) for stop, n in zip(last, counts)]
    series = Series(np.concatenate(own), replace(schema, kind="series", classes=None, label=None))
    owner = np.repeat(np.arange(len(own)), counts)
    return ShortSeries(series, history, horizon, np.concatenate(starts), targets, owner, level, unit)


def _own(x: Float[np.ndarray, "T C"]) -> tuple[Float[np.ndarray, "C"], Float[np.ndarray, "C"]]:
    """Mean, and mean change from step to step; of a channel without values 0 and NaN."""
    known = ~np.isnan(x)
    level = np.where(known, x, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    change = np.abs(np.diff(x, axis=0))
    seen = ~np.isnan(change)
    total = np.where(seen, change, 0).sum(axis=0)
    return level, np.where(seen.any(axis=0), total / np.maximum(seen.sum(axis=0), 1), np.nan)
