"""Kernels of a sparse recurrent net of leaky tanh units with fixed weights: the loop over time, and its adjoint.

Samples are walked one after the other: where units listen to few others, what is paid for is the way through the
connections, and sharing it between samples gained nothing. `reservoir.py` has the equations and the shapes; it loads
this file through the kernel cache and never imports it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from timecell.fuse.maths import INLINE, tanh, tanh64

KERNEL: dict[str, Any] = {**INLINE, "forceinline": False, "cache": True}


def squash(x: Any) -> Any:
    """Hyperbolic tangent in the precision of x; inside a kernel."""
    raise NotImplementedError


@overload(squash, jit_options=INLINE)  # type: ignore[arg-type]
def _squash(x):  # type: ignore[no-untyped-def]  # numba wants the very argument that the functions below have
    return (lambda x: tanh(x)) if x == types.float32 else (lambda x: tanh64(x))


@njit(**KERNEL)
def forward(
    source: Any, weight: Any, leak: Any, lengths: Any, drive: Any, first: Any, y: Any, last: Any, row0: int, row1: int
) -> None:
    """y [B, T, N] and the last states [B, N] of the samples row0..row1."""
    units, connections = weight.shape
    z = np.empty(units, weight.dtype)  # apart from y: a loop that reads and writes y is not vectorised
    for b in range(row0, row1):
        before = first[b]
        for t in range(lengths[b]):
            for i in range(units):
                total = drive[b, t, i]
                for k in range(connections):
                    total += weight[i, k] * before[source[i, k]]
                z[i] = total
            now = y[b, t]
            for i in range(units):
                now[i] = before[i] + leak * (squash(z[i]) - before[i])
            before = now
        last[b] = before
        y[b, lengths[b] :] = 0


@njit(**KERNEL)
def adjoint(
    carry: bool, source: Any, weight: Any, leak: Any, lengths: Any, y: Any, first: Any, g_y: Any, g_last: Any,
    g_drive: Any, g_first: Any, row0: int, row1: int,
) -> None:  # fmt: skip
    """Blame of the drive [B, T, N] and of the first states [B, N] of the samples row0..row1."""
    units, connections = weight.shape
    kept = 1 - leak
    z = np.empty(units, weight.dtype)  # blame of what stands inside the tanh
    blame = np.empty(units, weight.dtype)  # of the state after step t
    for b in range(row0, row1):
        blame[:] = g_last[b]
        g_drive[b, lengths[b] :] = 0
        for t in range(lengths[b] - 1, -1, -1):
            before = y[b, t - 1] if t > 0 else first[b]
            for i in range(units):
                squashed = (y[b, t, i] - kept * before[i]) / leak
                blame[i] += g_y[b, t, i]
                z[i] = leak * blame[i] * (1 - squashed * squashed)
                blame[i] = kept * blame[i] if carry else 0
                g_drive[b, t, i] = z[i]
            if carry:
                for i in range(units):
                    for k in range(connections):
                        blame[source[i, k]] += weight[i, k] * z[i]
        g_first[b] = blame
