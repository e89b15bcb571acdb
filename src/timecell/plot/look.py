"""The look of all pictures: one palette, one way to dress axes, one way to read what is to be drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from timecell.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.colors import Colormap

# Okabe and Ito (2008): told apart by every kind of colour vision; without the black and the yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
INK, MUTED, LINE, WASH = "#1b1f24", "#6a737d", "#c9ced4", "#f3f5f7"
AMOUNT = ("#e6f0f7", "#56B4E9", "#0072B2", "#0a2c47")  # little to much
BALANCE = ("#7f2a00", "#D55E00", "#f7f7f7", "#0072B2", "#06304d")  # negative, nothing, positive
DEPTH = ("#E69F00", "#D55E00", "#8c3b6b", "#0a2c47")  # first layer to last


def on(ax: Axes | None, width: float = 5.2, height: float = 3.0) -> Axes:
    """These axes, or those of a new figure of so many inches.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    if ax is not None:
        return ax
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("matplotlib", "plot", "timecell.plot") from None
    return Figure(figsize=(width, height), dpi=150, layout="constrained").subplots()


def dress(ax: Axes, x: str = "", y: str = "") -> Axes:
    """Axis titles, and no more ink than needed."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(LINE)
    ax.tick_params(labelsize=8, labelcolor=INK, length=3)
    ax.tick_params(which="both", color=LINE)
    ax.set_xlabel(x, fontsize=9, color=MUTED)
    ax.set_ylabel(y, fontsize=9, color=MUTED)
    return ax


def legend(ax: Axes, columns: int = 4) -> None:
    """Above the axes, if anything has a name."""
    handles, names = ax.get_legend_handles_labels()
    if handles:
        ax.legend(
            handles, names, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, fontsize=8,
            labelcolor=INK, handlelength=1.4, columnspacing=1.4, borderaxespad=0.2,
        )  # fmt: skip


def whole_numbers(*axes: Axis) -> None:
    """Ticks at whole numbers only: steps, units, synapses."""
    from matplotlib.ticker import MaxNLocator

    for axis in axes:
        axis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def shades(colours: tuple[str, ...]) -> Colormap:
    """A map from numbers to colours."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("timecell", colours)


def clock(steps: int, dt: float | None) -> tuple[float, str]:
    """What one step is on the time axis, and the axis's title.

    Args:
        steps: length of the axis.
        dt: seconds in a step; None if unknown.

    Example:
        >>> clock(100, None), clock(100, 0.001), clock(100, 0.25)
        ((1.0, 'time (steps)'), (1.0, 'time (ms)'), (0.25, 'time (s)'))
    """
    if dt is None:
        return 1.0, "time (steps)"
    if not dt > 0:
        raise InputError("dt", found=dt, expected="seconds in a step, > 0", remedy="leave it out to count steps")
    return (1e3 * dt, "time (ms)") if steps * dt < 10 else (dt, "time (s)")


def numbers(place: str, values: Any, shapes: str, axes: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """A tensor, array or list as float64 with one of these numbers of axes.

    Raises:
        InputError: it has another shape, is empty or holds a number that is not finite.
    """
    try:
        array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            place, found=type(values).__name__, expected=f"numbers {shapes}", remedy="pass a tensor or an array"
        ) from None
    if array.ndim not in axes or not array.size:
        raise InputError(
            place, found=f"shape {list(array.shape)}", expected=f"{shapes}, not empty",
            remedy="pick the samples and units to draw, or add the missing axis",
        )  # fmt: skip
    if not np.isfinite(array).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise InputError(
            f"{place}{list(at)}", found=array[at], expected="finite numbers",
            remedy="timecell.lens.diagnose says where a net first puts out NaN",
        )  # fmt: skip
    return array
