"""Kernels of `linear_scan`: one walk through time over rows of units, forward and adjoint.

`scan.py` loads this file through the kernel cache and never imports it. Arrays are contiguous [row, time, unit]; `a` has
one row or all, one step or all. A block of units is a few rows of the first-level cache; the previous state is the row
that was just written. The adjoint walks backwards in time, and backwards through the units of a row too: so memory is
one descending stream, which hardware prefetchers follow (with ascending rows it takes half as long again). The same
source serves real and complex numbers: numba compiles it at the first call with each type, never for a shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

BLOCK = 1024  # units in a block
LOOP: dict[str, Any] = {
    "fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy", "nogil": True, "cache": True,
}  # fmt: skip
INLINE: dict[str, Any] = {**LOOP, "forceinline": True, "cache": False}


@njit(**INLINE)
def instant(a: Any, u: Any, past: Any, h: Any) -> None:
    """h = a past + u."""
    for m in range(u.shape[0]):
        h[m] = a[m] * past[m] + u[m]


@njit(**INLINE)
def instant_adjoint(a: Any, past: Any, g: Any, blame: Any, g_u: Any, g_a: Any) -> None:
    """From the blame of h in g (of the output) and blame (of what comes later) to that of u, a and the past."""
    for m in range(g.shape[0] - 1, -1, -1):
        r = g[m] + blame[m]
        g_u[m] = r
        g_a[m] = r * np.conj(past[m])
        blame[m] = r * np.conj(a[m])


@njit(**INLINE)
def instant_adjoint_shared(a: Any, past: Any, g: Any, blame: Any, g_u: Any, g_a: Any) -> None:
    """The same where `a` is the same at every step: its blame adds up."""
    for m in range(g.shape[0] - 1, -1, -1):
        r = g[m] + blame[m]
        g_u[m] = r
        g_a[m] += r * np.conj(past[m])
        blame[m] = r * np.conj(a[m])


@njit(**LOOP)
def forward(
    a: Any, u: Any, h0: Any, h: Any, last: Any, lengths: Any, row0: int, row1: int, first: int, final: int
) -> None:
    """h [B, T, N] and the last state [B, N]."""
    for b in range(row0, row1):
        b_a = b if a.shape[0] > 1 else 0
        for unit0 in range(first, final, BLOCK):
            unit1 = min(unit0 + BLOCK, final)
            past = h0[b, unit0:unit1]
            for t in range(lengths[b]):
                t_a = t if a.shape[1] > 1 else 0
                now = h[b, t, unit0:unit1]
                instant(a[b_a, t_a, unit0:unit1], u[b, t, unit0:unit1], past, now)
                past = now
            last[b, unit0:unit1] = past
            for t in range(lengths[b], h.shape[1]):
                h[b, t, unit0:unit1] = 0


@njit(**LOOP)
def adjoint(
    a: Any, h: Any, h0: Any, g: Any, g_a: Any, g_u: Any, blame: Any, lengths: Any, carry: bool,
    row0: int, row1: int, first: int, final: int,
) -> None:  # fmt: skip
    """Blame of a [B, 1 or T, N], of u [B, T, N], and, in place of the last state's, of the first [B, N]."""
    for b in range(row0, row1):
        b_a = b if a.shape[0] > 1 else 0
        for unit0 in range(first, final, BLOCK):
            unit1 = min(unit0 + BLOCK, final)
            behind = blame[b, unit0:unit1]
            for t in range(lengths[b], g.shape[1]):
                g_u[b, t, unit0:unit1] = 0
                if a.shape[1] > 1:
                    g_a[b, t, unit0:unit1] = 0
            for t in range(lengths[b] - 1, -1, -1):
                past = h[b, t - 1, unit0:unit1] if t > 0 else h0[b, unit0:unit1]
                if a.shape[1] > 1:
                    instant_adjoint(
                        a[b_a, t, unit0:unit1], past, g[b, t, unit0:unit1], behind, g_u[b, t, unit0:unit1],
                        g_a[b, t, unit0:unit1],
                    )  # fmt: skip
                else:
                    instant_adjoint_shared(
                        a[b_a, 0, unit0:unit1], past, g[b, t, unit0:unit1], behind, g_u[b, t, unit0:unit1],
                        g_a[b, 0, unit0:unit1],
                    )  # fmt: skip
                if not carry:  # blame does not cross time
                    behind[:] = 0
