"""What units do in time: spikes and states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from timecell.errors import InputError
from timecell.plot.look import COLOURS, MUTED, WASH, clock, dress, legend, numbers, on, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SINGLE = 6  # units that get a line each; of more, the median and a band
BAND = (10, 90)  # percentiles


def raster(
    spikes: Float[Tensor, "T N"] | Float[Tensor, "B T N"], *, dt: float | None = None, ax: Axes | None = None
) -> Axes:
    """A mark for every spike: time to the right, units upwards, samples on top of each other.

    Args:
        spikes: counts; anything but zero is a mark.
        dt: seconds in a step, for an axis in ms or s.
        ax: where to draw; None makes a figure.

    Raises:
        InputError: the shape is another, or the values are no counts.

    Example:
        >>> import torch
        >>> ax = raster((torch.rand(100, 20) < 0.1).float())
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('time (steps)', 'unit')
    """
    counts = numbers("spikes", spikes, "[T, N] or [B, T, N]", (2, 3))
    if (counts < 0).any() or (counts != np.floor(counts)).any():
        raise InputError(
            "spikes", found=f"values from {counts.min():.3g} to {counts.max():.3g}", expected="counts of spikes",
            remedy="draw membranes and other states with timecell.plot.traces",
        )  # fmt: skip
    single = counts.ndim == 2
    samples, steps, units = (counts[None] if single else counts).shape
    ax = on(ax, height=min(2.4 + 0.004 * samples * units, 5.0))
    sample, step, unit = (counts[None] if single else counts).nonzero()
    gap = 0 if samples == 1 else max(1, units // 10)
    floor = np.arange(samples) * (units + gap)
    rows = samples * (units + gap) - gap
    scale, title = clock(steps, dt)
    width, height = ax.get_window_extent().width, ax.get_window_extent().height
    point = ax.figure.dpi / 72  # pixels
    ax.plot(
        step * scale, floor[sample] + unit, linestyle="none", marker="|", color=COLOURS[0], rasterized=True,
        markersize=float(np.clip(0.8 * height / point / rows, 0.7, 9)),
        markeredgewidth=float(np.clip(0.7 * width / point / steps, 0.35, 1.4)),
    )  # fmt: skip
    for start in floor[::2] if samples > 1 else ():
        ax.axhspan(start - 0.5, start + units - 0.5, color=WASH, zorder=0, linewidth=0)
    ax.set_xlim(-0.5 * scale, (steps - 0.5) * scale)
    ax.set_ylim(-0.5 - gap / 2, rows - 0.5 + gap / 2)
    dress(ax, title, "unit" if samples == 1 else f"sample, {units:,} units each")
    whole_numbers(ax.yaxis, *([ax.xaxis] if dt is None else []))
    if samples > 1:
        shown = np.unique(np.linspace(0, samples - 1, min(samples, 8)).round().astype(int))
        ax.set_yticks(floor[shown] + (units - 1) / 2, [str(i) for i in shown])
        ax.tick_params(axis="y", length=0)
    return ax


def traces(
    signals: Mapping[str, Tensor] | Float[Tensor, "T N"] | Float[Tensor, "B T N"],
    *,
    sample: int = 0,
    dt: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Courses of states: a line for each of up to six units; of more, their median and the band of 10 to 90 %.

    Args:
        signals: what `timecell.record` collected, or one signal; each [T, N] or [B, T, ...].
        sample: which sample of a batch.
        dt: seconds in a step, for an axis in ms or s.
        ax: where to draw; None makes a figure.

    Raises:
        InputError: a shape is another, there is no such sample, or there is nothing to draw.

    Example:
        >>> import torch
        >>> from timecell import LIF, record
        >>> neuron = LIF(3)
        >>> with record(neuron, "v") as r:
        ...     _ = neuron(torch.rand(2, 50, 3))
        >>> traces(r).get_ylabel()
        'v'
    """
    courses = {n: _one(n, s, sample) for n, s in (signals.items() if isinstance(signals, Mapping) else [("", signals)])}
    if not courses:
        raise InputError(
            "signals", found="no signal", expected="at least one",
            remedy="name states in timecell.record(net, ...), and run the net inside",
        )  # fmt: skip
    ax = on(ax)
    steps = max(len(course) for course in courses.values())
    scale, title = clock(steps, dt)
    alone, several = len(courses) == 1, any(course.shape[1] > SINGLE for course in courses.values())
    for number, (name, course) in enumerate(courses.items()):
        time, units = np.arange(len(course)) * scale, course.shape[1]
        colour = COLOURS[number % len(COLOURS)]
        if units > SINGLE:
            low, middle, high = np.percentile(course, (BAND[0], 50, BAND[1]), axis=1)
            ax.fill_between(time, low, high, color=colour, alpha=0.2, linewidth=0)
            ax.plot(time, middle, color=colour, linewidth=1.5, label="" if alone else name)
            continue
        for unit, line in enumerate(course.T):
            own = COLOURS[unit] if alone and units > 1 else colour
            label = (f"unit {unit}" if units > 1 else "") if alone else name if unit == 0 else ""
            ax.plot(time, line, color=own, linewidth=1.2, alpha=1 - 0.08 * (units - 1), label=label or None)
    if several:
        ax.text(
            1, 1.02, f"median and {BAND[0]}–{BAND[1]} % of units", transform=ax.transAxes, ha="right", va="bottom",
            fontsize=8, color=MUTED,
        )  # fmt: skip
    legend(ax, 3 if several else 6)
    ax.margins(x=0.01)
    return dress(ax, title, next(iter(courses)) if alone else "state")


def _one(name: str, signal: Any, sample: int) -> Float[np.ndarray, "T N"]:
    """One sample's course."""
    values = signal if not isinstance(signal, Tensor) or signal.ndim < 4 else signal.flatten(2)
    place = f"signals[{name!r}]" if name else "signals"
    course = numbers(place, values, "[T, N] or [B, T, N]", (1, 2, 3))
    if course.ndim < 3:
        return course.reshape(len(course), -1)
    if not -len(course) <= sample < len(course):
        raise InputError("sample", found=sample, expected=f"one of {len(course)} samples", remedy="count from 0")
    return course[sample]
