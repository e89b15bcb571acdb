"""What a net has learnt: delays, weights, time constants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from timecell.errors import InputError
from timecell.plot.look import (
    AMOUNT,
    BALANCE,
    COLOURS,
    LINE,
    MUTED,
    clock,
    dress,
    legend,
    numbers,
    on,
    shades,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS = 30


def delays(layer: nn.Module, *, ax: Axes | None = None) -> Axes:
    """The delay of every synapse; the histogram beside it is the scale of the colours.

    Args:
        layer: a `timecell.Delayed`, or another with delays [O, I] in steps.
        ax: where to draw; None makes a figure. The histogram is ``ax.child_axes[0]``.

    Raises:
        InputError: the layer has no delays.

    Example:
        >>> from timecell import Delayed
        >>> ax = delays(Delayed(20, 10, max_delay=25))
        >>> ax.get_xlabel(), ax.child_axes[0].get_ylabel()
        ('input', 'delay (steps)')
    """
    delay = getattr(layer, "delay", None)
    if not isinstance(delay, Tensor):
        raise InputError(
            "layer",
            found=type(layer).__name__,
            expected="a layer with delays",
            remedy="pass the Delayed itself: net[0]",
        )
    matrix = numbers("layer.delay", delay, "[O, I]", (2,))
    longest = max(float(getattr(layer, "max_delay", 0)), matrix.max(), 1.0)
    return _matrix(on(ax, 5.6, 3.2), matrix, 0.0, longest, AMOUNT, "delay (steps)")


def weights(layer: nn.Module | Float[Tensor, "O I"], *, ax: Axes | None = None) -> Axes:
    """The weight of every synapse, blue above zero and orange below; the histogram is the scale of the colours.

    Args:
        layer: one with weights [O, I], or such a matrix.
        ax: where to draw; None makes a figure. The histogram is ``ax.child_axes[0]``.

    Raises:
        InputError: the layer has no weights of this shape.

    Example:
        >>> weights(nn.Linear(20, 10)).get_ylabel()
        'output'
    """
    found = getattr(layer, "weight", None) if isinstance(layer, nn.Module) else layer
    if found is None:
        raise InputError(
            "layer", found=type(layer).__name__, expected="a layer with weights", remedy="pass the layer itself: net[0]"
        )
    matrix = numbers("layer.weight", found, "[O, I]", (2,))
    largest = float(np.abs(matrix).max()) or 1.0
    return _matrix(on(ax, 5.6, 3.2), matrix, -largest, largest, BALANCE, "weight")


def _matrix(ax: Axes, matrix: np.ndarray, low: float, high: float, colours: tuple[str, ...], title: str) -> Axes:
    """An image of a matrix with outputs upwards; the scale of its colours is a histogram lying on its side."""
    colour = shades(colours)
    ax.imshow(
        matrix, origin="lower", aspect="auto", cmap=colour, vmin=low, vmax=high, interpolation="nearest",
        interpolation_stage="data",
    )  # fmt: skip
    dress(ax, "input", "output")
    whole_numbers(ax.xaxis, ax.yaxis)
    side = ax.inset_axes((1.05, 0, 0.2, 1))
    counts, edges = np.histogram(matrix, bins=BARS, range=(low, high))
    middles = (edges[1:] + edges[:-1]) / 2
    side.barh(middles, counts, height=np.diff(edges), color=colour((middles - low) / (high - low)))
    dress(side, "synapses", title)
    side.yaxis.tick_right()
    side.yaxis.set_label_position("right")
    side.spines[["left", "bottom"]].set_visible(False)
    side.set_xticks([])
    side.set_ylim(low, high)
    side.axvline(0, color=LINE, linewidth=0.8)
    return ax


def time_constants(net: nn.Module, *, dt: float | None = None, ax: Axes | None = None) -> Axes:
    """Every parameter in steps of every neuron: a stroke for each unit, a dot at the median.

    Args:
        net: with neurons inside; blue ones are learnt, grey ones fixed.
        dt: seconds in a step, for an axis in ms or s.
        ax: where to draw; None makes a figure.

    Raises:
        InputError: no neuron has such a parameter.

    Example:
        >>> from timecell import LIF, Sequential
        >>> ax = time_constants(Sequential(nn.Linear(3, 4), LIF(4, tau=20.0)))
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['1 LIF  tau']
    """
    found = [
        (f"{path} {type(module).__name__}  {name}".strip(), declared.value(module), f"{name}_raw" in module._parameters)
        for path, module in net.named_modules()
        for name, declared in (getattr(module, "params", None) or {}).items()
        if declared.unit == "steps"
    ]
    if not found:
        raise InputError(
            "net", found=f"{type(net).__name__} without a parameter in steps", expected="neurons with time constants",
            remedy='declare it as tau = tc.param(20.0, unit="steps")',
        )  # fmt: skip
    values = [numbers(name, value.reshape(-1), "[N]", (1,)) for name, value, _ in found]
    longest = max(v.max() for v in values)
    scale, title = clock(int(np.ceil(longest)), dt)
    ax = on(ax, height=1.0 + 0.32 * len(found))
    for row, (constants, (_, _, learnt)) in enumerate(zip(values, found)):
        colour = COLOURS[0] if learnt else MUTED
        x, y = constants * scale, np.full(len(constants), row)
        alpha = float(np.clip(20 / len(x), 0.06, 0.7))
        ax.plot(x, y, linestyle="none", marker="|", markersize=11, markeredgewidth=1, color=colour, alpha=alpha)
        ax.plot(np.median(x), row, marker="o", markersize=5, color=colour, markeredgecolor="white")
    if min(v.min() for v in values) > 0:
        ax.set_xscale("log")
    _plain_numbers(ax)
    ax.set_yticks(range(len(found)), [name for name, *_ in found])
    ax.set_ylim(len(found) - 0.4, -0.6)
    for name, colour in {"learnt": COLOURS[0], "fixed": MUTED}.items():
        if (name == "learnt") in {learnt for *_, learnt in found}:
            ax.plot([], [], marker="o", markersize=5, linestyle="none", color=colour, label=name)
    legend(ax)
    dress(ax, title.replace("time", "time constant"))
    ax.tick_params(axis="y", length=0)
    return ax


def _plain_numbers(ax: Axes) -> None:
    """20 and 200 in place of powers of ten; room around values that are all alike."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    if ax.get_xscale() == "log":
        low, high = ax.get_xlim()
        if high / low < 4:
            middle = (low * high) ** 0.5
            ax.set_xlim(middle / 2, middle * 2)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_minor_locator(LogLocator(subs="all"))
        ax.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
