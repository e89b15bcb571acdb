"""From spike times to counts per time bin.

Bin k holds the spikes in [k dt, (k+1) dt), counted from time zero and not from the first spike, so samples stay
aligned with whatever they were recorded against. Every spike is counted once.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int, UInt

from timecell.errors import InputError

ROUNDING = 1e-6  # of a bin: a time that close below a border (0.29 / 0.01 = 28.999999999999996) lies on it


def bin_spikes(
    times: Float[np.ndarray, "E"],
    units: Int[np.ndarray, "E"],
    offsets: Int[np.ndarray, "N+1"],
    dt: float,
    channels: int,
) -> tuple[UInt[np.ndarray, "S C"], Int[np.ndarray, "N+1"]]:
    """Counts of all samples end to end, and where each starts; a sample ends with the bin of its last spike.

    Args:
        times: seconds, >= 0.
        units: channel of each spike, 0 <= unit < channels.
        offsets: sample i holds the spikes offsets[i]..offsets[i+1]-1.
        dt: width of a bin in seconds.
        channels: number of units C.

    Raises:
        InputError: dt is not positive.

    Example:
        >>> counts, starts = bin_spikes(np.array([0.001, 0.002, 0.025]), np.array([0, 0, 1]), np.array([0, 3]), 0.01, 2)
        >>> counts.tolist(), starts.tolist()
        ([[2, 0], [0, 0], [0, 1]], [0, 3])
    """
    if not dt > 0:
        raise InputError("dt", found=dt, expected="a bin width in seconds above 0", remedy="try dt=0.010")
    bins = np.floor(times / dt + ROUNDING).astype(np.int64)
    samples = []
    for start, stop in pairwise(offsets):
        steps = int(bins[start:stop].max(initial=0)) + 1
        cell = bins[start:stop] * channels + units[start:stop]
        count = np.bincount(cell, minlength=steps * channels)
        samples.append(count.astype(np.min_scalar_type(int(count.max()))).reshape(steps, channels))
    return np.concatenate(samples), np.concatenate([[0], np.cumsum([len(s) for s in samples])])
