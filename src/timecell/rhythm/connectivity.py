"""Functional connectivity: which channels of a recording go together, window after window.

Two measures. *Correlation* is Pearson's, between -1 and 1; it is linear, and says of two silent channels whatever their
noise says. *Affinity* is local and not negative: two channels have some if both are active in this window and their
traces have the same course (Dyballa et al. 2024, arXiv:2402.14102; kernel after Zelnik-Manor & Perona 2004):

    A_ij = exp(-d_ij^2 / (s_i s_j)) min(x_i, x_j)

d_ij^2 is the mean squared difference between the two traces plus that between their steps, s_i the distance from i to its
k-th nearest channel (so that each channel has neighbours, whatever its scale), x_i the mean of the trace.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from timecell.errors import InputError, unknown_name

Measure = Literal["correlation", "affinity"]
QUIET, LOUD = 20.0, 99.5  # percentiles of a trace that become 0 and 1 for the affinity


def functional_connectivity(
    x: Float[np.ndarray, "T N"], window: int, stride: int, measure: Measure = "correlation", *, neighbours: int = 5
) -> Float[np.ndarray, "W N N"]:
    """Connectivity in each window of `window` steps, one every `stride` steps.

    A channel that has a gap in a window is NaN there, with all others; for the affinity a channel with any gap is NaN
    throughout. A channel that does not change in a window has no correlation (NaN) but an affinity.

    Args:
        x: T steps of N channels; NaN = missing.
        window: steps of a window, at least 2.
        stride: steps from one window to the next.
        measure: "correlation", or "affinity" of traces scaled by `unit_scaled`.
        neighbours: k of the affinity's scale; at most the number of other channels is used.

    Returns:
        [W, N, N] symmetric, with the diagonal NaN: nobody is his own partner.

    Raises:
        InputError: x has not two axes or holds an infinite value, is shorter than a window, or an argument is out of range.

    Example:
        >>> t = np.arange(200)
        >>> x = np.stack([np.sin(t / 5), np.sin(t / 5 + 0.1), np.sin(t / 3)], axis=1)
        >>> functional_connectivity(x, window=100, stride=100)[0].round(1)[0].tolist()
        [nan, 1.0, 0.0]
    """
    if measure not in get_args(Measure):
        raise unknown_name("measure", measure, get_args(Measure))
    if x.ndim != 2 or np.isinf(x).any():
        raise InputError("x", found=f"shape {x.shape}" if x.ndim != 2 else "an infinite value", expected="[T, N] numbers",
                         remedy="pass steps by channels, NaN where one is missing")  # fmt: skip
    for name, value, low in (("window", window, 2), ("stride", stride, 1), ("neighbours", neighbours, 1)):
        if value < low:
            raise InputError(name, found=value, expected=f"at least {low}", remedy="pass a larger number")
    if len(x) < window:
        raise InputError("x", found=f"{len(x)} steps", expected=f"at least a window of {window}", remedy="shorten it")
    if measure == "correlation":
        found = _correlation(windowed(x, window, stride))
    else:
        whole = ~np.isnan(x).any(axis=0)
        found = np.full((1 + (len(x) - window) // stride, x.shape[1], x.shape[1]), np.nan)
        found[:, *np.ix_(whole, whole)] = _affinity(windowed(unit_scaled(x[:, whole]), window, stride), neighbours)
    found[:, np.arange(x.shape[1]), np.arange(x.shape[1])] = np.nan
    return found


def windowed(x: Float[np.ndarray, "T N"], window: int, stride: int) -> Float[np.ndarray, "W N window"]:
    """The windows of a recording; a view, so nothing is copied.

    Example:
        >>> windowed(np.arange(5.0)[:, None], window=3, stride=2)[:, 0].tolist()
        [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]
    """
    return np.lib.stride_tricks.sliding_window_view(x, window, axis=0)[::stride]


def unit_scaled(x: Float[np.ndarray, "T N"]) -> Float[np.ndarray, "T N"]:
    """Each channel from 0 (quiet: its 20th percentile and below) to 1 (its loudest); one that never changes is 0.

    Example:
        >>> unit_scaled(np.array([[0.0], [0.0], [1.0], [2.0]]))[:, 0].round(2).tolist()
        [0.0, 0.0, 0.5, 1.0]
    """
    low, high = np.percentile(x, (QUIET, LOUD), axis=0)
    span = np.where(high > low, high - low, np.inf)
    return np.clip((x - low) / span, 0.0, 1.0)


def _correlation(x: Float[np.ndarray, "W N w"]) -> Float[np.ndarray, "W N N"]:
    x = x - x.mean(axis=2, keepdims=True)
    size = np.linalg.norm(x, axis=2, keepdims=True)
    unit = x / np.where(size > 0, size, np.nan)
    return unit @ unit.transpose(0, 2, 1)


def _affinity(x: Float[np.ndarray, "W N w"], neighbours: int) -> Float[np.ndarray, "W N N"]:
    W, N, _ = x.shape
    if N < 2:
        return np.zeros((W, N, N))
    distance = _mean_square(x) + _mean_square(np.diff(x, axis=2))
    distance[:, np.arange(N), np.arange(N)] = np.inf  # nobody is his own neighbour
    k = min(neighbours, N - 1) - 1
    scale = np.sqrt(np.partition(distance, k, axis=2)[:, :, k])
    near = np.exp(-distance / np.maximum(scale[:, :, None] * scale[:, None], 1e-12))
    level = x.mean(axis=2)
    return near * np.minimum(level[:, :, None], level[:, None])


def _mean_square(x: Float[np.ndarray, "W N w"]) -> Float[np.ndarray, "W N N"]:
    """Mean squared difference of each two channels."""
    power = (x**2).mean(axis=2)
    product = x @ x.transpose(0, 2, 1) / x.shape[2]
    return np.maximum(power[:, :, None] + power[:, None] - 2 * product, 0.0)
