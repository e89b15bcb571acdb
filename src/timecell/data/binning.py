"""From spike times to counts per time bin.

Bin k holds the spikes in [k dt, (k+1) dt), counted from time zero and not from the first spike, so samples stay
aligned with whatever they were recorded against. Every spike is counted once. Times in a
wrong unit would ask for more empty bins than any memory holds; they are refused.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int, UInt

from timecell.errors import DataError, InputError

LARGE = 2**28  # counts that anybody can hold
SPARSE = 1000  # counts for each spike; beyond both the unit of time is wrong, or dt far too small
ROUNDING = 1e-6  # of a bin: a time that close below a border (0.29 / 0.01 = 28.999999999999996) lies on it


def bin_spikes(
    times: Float[np.ndarray, "E"],
    units: Int[np.ndarray, "E"],
    offsets: Int[np.ndarray, "N+1"],
    dt: float,
    channels: int,
    source: str = "times",
) -> tuple[UInt[np.ndarray, "S C"], Int[np.ndarray, "N+1"]]:
    """Counts of all samples end to end, and where each starts; a sample ends with the bin of its last spike.

    Args:
        times: seconds, >= 0.
        units: channel of each spike, 0 <= unit < channels.
        offsets: sample i holds the spikes offsets[i]..offsets[i+1]-1.
        dt: width of a bin in seconds.
        channels: number of units C.
        source: what to call the times in a message.

    Raises:
        InputError: dt is not positive.
        DataError: the times reach so far that hardly a bin would hold a spike.

    Example:
        >>> counts, starts = bin_spikes(np.array([0.001, 0.002, 0.025]), np.array([0, 0, 1]), np.array([0, 3]), 0.01, 2)
        >>> counts.tolist(), starts.tolist()
        ([[2, 0], [0, 0], [0, 1]], [0, 3])
    """
    if not 0 < dt < np.inf:
        raise InputError("dt", found=dt, expected="a bin width in seconds above 0", remedy="try dt=0.010")
    ends = [float(times[start:stop].max(initial=0)) for start, stop in pairwise(offsets)]
    refuse_sparse(ends, dt, channels, len(times), source)
    bins = np.floor(times / dt + ROUNDING).astype(np.int64)
    samples = []
    for start, stop in pairwise(offsets):
        steps = int(bins[start:stop].max(initial=0)) + 1
        cell, count = np.unique(bins[start:stop] * channels + units[start:stop], return_counts=True)
        sample = np.zeros(steps * channels, dtype=np.min_scalar_type(int(count.max(initial=0))))
        sample[cell] = count
        samples.append(sample.reshape(steps, channels))
    return np.concatenate(samples), np.concatenate([[0], np.cumsum([len(s) for s in samples])])


def refuse_sparse(ends: list[float], dt: float, channels: int, events: int, source: str) -> None:
    """Raise DataError if samples of these seconds would have hardly a bin with an event, and more than memory holds."""
    counts = sum(end / dt + 1 for end in ends) * channels
    if counts > max(LARGE, SPARSE * events):
        raise DataError(
            source, found=f"times up to {max(ends):g} s: {counts:.0e} counts in bins of {dt:g} s for {events:,} events",
            expected=f"at most {SPARSE} counts for each",
            remedy="check the unit of time (tick), count time from the start of a sample, or choose a larger dt",
        )  # fmt: skip
