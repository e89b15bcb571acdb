"""Kernels of sums over synapses that each look at a window of lags of their own.

    y[b, t, o] = sum over i, p of  taps[p, o, i] x[b, t - first[o, i] - p, i]

Two ways to compute it, each with the gradient of the taps. The work of neither depends on how long the longest lag is.

**Events.** Only active inputs cause work. They are sorted by input line. For a synapse (o, i) its window lies in a register,
and every event of line i adds it, scaled, to the row of sums of output o, from where the event arrives. The gradient of
the window is gathered from the same places. The row of one output lies in the first cache, whatever comes when.

**Windows.** Samples lie side by side, so that a shift by a lag is another place to begin: for one synapse and one tap the
work is ``y += tap x`` over neighbours, `TILE` of them in registers, while the inputs of a block lie in the second cache.
The gradient of the input is the same sum with time reversed, inputs and outputs exchanged.

`delays.py` loads this file through the kernel cache and never imports it. Kernels are serial; their last two arguments
say which blocks of outputs they take. numba compiles them at the first call with each precision, never for a shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from timecell.fuse.vectors import FAST, load, muladd, store, total, zeros

WINDOW = 8  # taps that are added at once
TILE = 128  # neighbours (samples and steps) whose sums are kept in registers
BLOCK = 16  # outputs that are transposed together
INPUTS = 16  # inputs whose windows are kept in the second cache
STRETCH = 16 * TILE  # neighbours over which one synapse's gradient is summed before the next one's turn
KERNEL: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": set(FAST)}
PART: dict[str, Any] = {**KERNEL, "cache": False, "forceinline": True}


# --- events ------------------------------------------------------------------------------------------------------


@njit(**KERNEL)
def find_events(x: Any, width: int, cursor: Any, starts: Any, offsets: Any, values: Any) -> None:
    """List what is not zero in x [B, S, I] by input line, then time, then sample.

    The events of line i at step s are ``starts[i, s] <= e < starts[i, s + 1]``; one has the value ``values[e]`` and the
    place ``offsets[e] = b width + s`` in a row of sums. `cursor` [S, I] is scratch, given as zeros.
    """
    batch, span, inputs = x.shape
    for b in range(batch):
        for s in range(span):
            for i in range(inputs):
                cursor[s, i] += x[b, s, i] != 0
    n = np.int32(0)
    for i in range(inputs):
        for s in range(span):
            starts[i, s] = n
            n += cursor[s, i]
            cursor[s, i] = starts[i, s]
        starts[i, span] = n
    for b in range(batch):
        for s in range(span):
            for i in range(inputs):
                if x[b, s, i] != 0:
                    e = cursor[s, i]
                    cursor[s, i] = e + 1
                    offsets[e] = b * width + s
                    values[e] = x[b, s, i]


@njit(**PART)
def in_time(starts: Any, lag: int, lags: int, history: int, span: int) -> tuple[int, int]:
    """The events of a line that arrive at a step with an output, when their window begins after `lag` steps."""
    return starts[min(max(history - lag - lags + 1, 0), span)], starts[max(span - lag, 0)]


@njit(**KERNEL)
def add_events(
    width: int,
    offsets: Any,
    values: Any,
    starts: Any,
    taps: Any,
    first: Any,
    history: int,
    y: Any,
    block0: int,
    block1: int,
) -> None:
    """The sum y [B, T, O]; the first `history` steps of the input have no output.

    A row of sums holds `width` numbers a sample: history + T steps, and room for the windows of an event at the last.
    """
    batch, steps, outputs = y.shape
    lags, _, inputs = taps.shape
    span = history + steps
    sums = np.empty((min(BLOCK, outputs), batch * width), y.dtype)
    scratch = np.empty(WINDOW, y.dtype)
    for o0 in range(block0 * BLOCK, min(block1 * BLOCK, outputs), BLOCK):
        here = min(BLOCK, outputs - o0)
        sums[:] = 0
        for o in range(o0, o0 + here):
            row = sums[o - o0]
            for i in range(inputs):
                lag = first[o, i]
                e0, e1 = in_time(starts[i], lag, lags, history, span)
                if e0 == e1:
                    continue
                for p in range(0, lags, WINDOW):
                    for q in range(WINDOW):
                        scratch[q] = taps[p + q, o, i] if p + q < lags else 0
                    window = load(scratch, 0, WINDOW)
                    for e in range(e0, e1):
                        at = np.intp(offsets[e]) + lag + p
                        store(row, at, muladd(values[e], window, load(row, at, WINDOW)))
        for b in range(batch):
            for t in range(steps):
                for o in range(here):
                    y[b, t, o0 + o] = sums[o, b * width + history + t]


@njit(**KERNEL)
def gather_events(
    width: int,
    offsets: Any,
    values: Any,
    starts: Any,
    first: Any,
    history: int,
    g_y: Any,
    g_taps: Any,
    block0: int,
    block1: int,
) -> None:
    """The gradient g_taps [P, O, I] of the taps from that of y, g_y [B, T, O]."""
    batch, steps, outputs = g_y.shape
    lags, _, inputs = g_taps.shape
    span = history + steps
    rows = np.zeros((min(BLOCK, outputs), batch * width), g_y.dtype)
    scratch = np.empty(WINDOW, g_y.dtype)
    for o0 in range(block0 * BLOCK, min(block1 * BLOCK, outputs), BLOCK):
        here = min(BLOCK, outputs - o0)
        for b in range(batch):
            for t in range(steps):
                for o in range(here):
                    rows[o, b * width + history + t] = g_y[b, t, o0 + o]
        for o in range(o0, o0 + here):
            row = rows[o - o0]
            for i in range(inputs):
                lag = first[o, i]
                e0, e1 = in_time(starts[i], lag, lags, history, span)
                if e0 == e1:
                    continue
                for p in range(0, lags, WINDOW):
                    even, odd = zeros(row, WINDOW), zeros(row, WINDOW)  # two sums: one need not wait for the other
                    for e in range(e0, e1 - 1, 2):
                        even = muladd(values[e], load(row, np.intp(offsets[e]) + lag + p, WINDOW), even)
                        odd = muladd(values[e + 1], load(row, np.intp(offsets[e + 1]) + lag + p, WINDOW), odd)
                    if (e1 - e0) % 2:
                        even = muladd(values[e1 - 1], load(row, np.intp(offsets[e1 - 1]) + lag + p, WINDOW), even)
                    store(scratch, 0, muladd(1, even, odd))
                    for q in range(min(WINDOW, lags - p)):
                        g_taps[p + q, o, i] = scratch[q]


# --- windows -----------------------------------------------------------------------------------------------------
# Arrays are packed (see `delays.Packing`): rows [group, unit], in a row step after step, in a step `lanes` samples.


@njit(**KERNEL)
def add_windows(
    x: Any, lead: int, lanes: int, taps: Any, first: Any, history: int, y: Any, block0: int, block1: int
) -> None:
    """The sum is added to packed y, whole tiles a row; rows of x begin `lead` steps before those of y."""
    groups, inputs, _ = x.shape
    lags, outputs, _ = taps.shape
    for g in range(groups):
        for j in range(0, y.shape[2], TILE):
            latest = history + (j + TILE - 1) // lanes  # a longer lag reaches back before the first input
            for i0 in range(0, inputs, INPUTS):
                for o in range(block0 * BLOCK, min(block1 * BLOCK, outputs)):
                    row = y[g, o]
                    sums = load(row, j, TILE)
                    for i in range(i0, min(i0 + INPUTS, inputs)):
                        lag, source = first[o, i], x[g, i]
                        if lag <= latest:
                            for p in range(lags):
                                at = j + (lead - lag - p) * lanes
                                sums = muladd(taps[p, o, i], load(source, at, TILE), sums)
                    store(row, j, sums)


@njit(**KERNEL)
def gather_windows(
    x: Any, lead: int, lanes: int, first: Any, history: int, g_y: Any, g_taps: Any, block0: int, block1: int
) -> None:
    """The gradient of the taps is added to g_taps [P, O, I]; packed x and g_y as x and y in `add_windows`."""
    groups, inputs, _ = x.shape
    lags, outputs, _ = g_taps.shape
    end = g_y.shape[2]
    for g in range(groups):
        for j0 in range(0, end, STRETCH):
            for i0 in range(0, inputs, INPUTS):
                for o in range(block0 * BLOCK, min(block1 * BLOCK, outputs)):
                    row = g_y[g, o]
                    for i in range(i0, min(i0 + INPUTS, inputs)):
                        lag, source = first[o, i], x[g, i]
                        begin = max(j0, (lag - history) * lanes // TILE * TILE)  # before it, only what was before x
                        for p in range(lags):
                            sums = zeros(row, TILE)
                            for j in range(begin, min(j0 + STRETCH, end), TILE):
                                at = j + (lead - lag - p) * lanes
                                sums = muladd(load(row, j, TILE), load(source, at, TILE), sums)
                            g_taps[p, o, i] += total(sums)
