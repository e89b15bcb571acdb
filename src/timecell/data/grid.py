"""From time stamps to a regular grid: which step each row is, where rows are missing, how long a season is.

A forecaster counts in steps, so stamps must lie on an even grid. Rows that are missing in it are found here and become
steps without a value; stamps that go back, repeat or lie between the steps are errors. Months are steps too, although
they differ in length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from timecell.errors import DataError

HOUR, DAY = 3600.0, 86400.0
TOLERANCE = 0.1  # of a step: how far a stamp may lie from its place


@dataclass(frozen=True)
class Grid:
    """Where rows lie on an even grid.

    Attributes:
        step: [R] step of each row, increasing.
        time: [T] seconds of each step.
        rate: steps per second; None for a single row.
        period: steps in the usual season of such data; None when there is none.
    """

    step: Int[np.ndarray, "R"]
    time: Float[np.ndarray, "T"]
    rate: float | None
    period: int | None

    def spread(self, values: Float[np.ndarray, "R C"]) -> Float[np.ndarray, "T C"]:
        """The rows at their steps, NaN between them."""
        out = np.full((len(self.time), values.shape[1]), np.nan)
        out[self.step] = values
        return out


def regular_grid(time: Float[np.ndarray, "R"], source: str, row: Callable[[int], str], *, dates: bool = False) -> Grid:
    """The grid that these time stamps lie on.

    Args:
        time: seconds of each row.
        source: file and column, for error messages.
        row: what to call a row in an error message.
        dates: the stamps are dates, so steps of a month, a quarter or a year are possible.

    Raises:
        DataError: a stamp repeats, goes back, lies between steps, or so far ahead that nearly every step is missing.

    Example:
        >>> grid = regular_grid(np.array([0.0, 3600.0, 10800.0]), "file", str)
        >>> grid.step.tolist(), grid.period
        ([0, 1, 3], 24)
    """
    if len(time) < 2:
        return Grid(np.arange(len(time)), time, None, None)
    increasing(time, source, row)
    months = _months(time) if dates else None
    step = _even(time, source, row) if months is None else (months - months[0]) // _stride(months)
    total = int(step[-1]) + 1
    if total > max(1000, 10 * len(time)):
        widest = int(np.argmax(np.diff(step)))
        raise DataError(
            f"{source}, {row(widest + 1)}", found=f"a gap of {int(np.diff(step)[widest]):,} steps before it",
            expected=f"stamps without such holes ({len(time):,} rows for {total:,} steps)",
            remedy="correct the time stamp, or cut the file at the gap",
        )  # fmt: skip
    rate = float(step[-1] / (time[-1] - time[0]))
    period = usual_period(1 / rate) if months is None else _seasons_of_year(_stride(months))
    return Grid(step, np.interp(np.arange(total), step, time), rate, period)


def increasing(time: Float[np.ndarray, "R"], source: str, row: Callable[[int], str]) -> None:
    """Raise DataError at the first time stamp that is not later than the one before it."""
    back = np.flatnonzero(np.diff(time) <= 0)
    if len(back):
        i = int(back[0])
        same = time[i] == time[i + 1]
        raise DataError(
            f"{source}, {row(i + 1)}",
            found=f"the same time stamp as in {row(i)}" if same else f"an earlier time stamp than in {row(i)}",
            expected="each row later than the one before",
            remedy="keep one row a time stamp (several series: one file each; a clock set back in autumn: write UTC)"
            if same
            else "sort the rows by time",
        )


def usual_period(seconds: float) -> int | None:
    """Steps in the season that data with this step usually have: a day below a day, a week of days, a year of weeks.

    Example:
        >>> [usual_period(s) for s in (1800.0, 3600.0, 86400.0, 604800.0, 1.0)]
        [48, 24, 7, 52, None]
    """
    if 60 <= seconds <= 12 * HOUR:
        steps = DAY / seconds
        return round(steps) if abs(steps - round(steps)) < 0.01 else None
    weekly = {1: 7, 7: 52}
    return weekly.get(round(seconds / DAY)) if abs(seconds / DAY - round(seconds / DAY)) < 0.01 else None


def _even(time: Float[np.ndarray, "R"], source: str, row: Callable[[int], str]) -> Int[np.ndarray, "R"]:
    """Steps of one length: the usual gap between neighbours, of which every other gap is a multiple."""
    gap = np.diff(time)
    base = float(np.median(gap[gap < 1.5 * gap.min()]))
    count = np.rint(gap / base)
    off = np.flatnonzero(np.abs(gap - count * base) > TOLERANCE * base)
    if len(off):
        i = int(off[0])
        raise DataError(
            f"{source}, {row(i + 1)}", found=f"{gap[i]:g} s after {row(i)}", expected=f"a multiple of {base:g} s",
            remedy="resample to an even grid, or leave the time column out with ignore= to count rows as steps",
        )  # fmt: skip
    return np.concatenate([[0], np.cumsum(count)]).astype(np.int64)


def _months(time: Float[np.ndarray, "R"]) -> Int[np.ndarray, "R"] | None:
    """The month of each stamp, counted from 1970, if all lie at the same point of a month or all on its last day."""
    stamp = (time * 1e6).round().astype("datetime64[us]")
    month = stamp.astype("datetime64[M]")
    from_start = stamp - month
    from_end = (month + 1).astype("datetime64[us]") - stamp
    distinct = np.diff(month.astype(int)).min() > 0
    aligned = (from_start == from_start[0]).all() or (from_end == from_end[0]).all()
    return month.astype(np.int64) if distinct and aligned else None


def _stride(months: Int[np.ndarray, "R"]) -> int:
    """Months in one step."""
    return int(np.gcd.reduce(np.diff(months)))


def _seasons_of_year(stride: int) -> int | None:
    return 12 // stride if stride < 12 and 12 % stride == 0 else None
