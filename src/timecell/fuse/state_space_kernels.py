"""Kernels of `diagonal_ssm`: the state lives in vector registers and is never stored.

`state_space.py` loads this file through the kernel cache and never imports it. Time is walked in segments. Within one,
four states of sixteen channels at a time go through all of its steps before the next four: their values and factors are
twenty-four vector registers. The forward pass marks the state before each segment; the adjoint starts from the mark, runs
the segment again into a scratch of the first-level cache, and walks back over it.

Layout (LANES = 16 channels, the last axis; missing lanes and states are zero):
    x, y, g_y, g_x      [B, T, group, lane]
    p, g_p              [group, N, (Re a, Im a, Re c, Im c), lane]       g_p has a row for each sample
    d, g_d              [group, lane]
    state, marks        [B, group, N, (Re, Im), lane], [B, segment, group, N, (Re, Im), lane]

Names: a + i b is the factor of a state, c + i d how it is read, u + i v the state, r + i s its blame; a digit counts the
states that go together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from timecell.fuse.lanes import LANES, load, spread, store

LOOP: dict[str, Any] = {
    "fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy", "nogil": True, "cache": True,
}  # fmt: skip
INLINE: dict[str, Any] = {**LOOP, "forceinline": True, "cache": False}


@njit(**INLINE)
def take(x: Any, row: int, steps: int, buffer: Any) -> None:
    """Sixteen channels of a segment, from x [..., group, lane] to a scratch."""
    for j in range(steps):
        store(buffer, j, load(x, row + j * x.shape[2]))


@njit(**INLINE)
def give(buffer: Any, y: Any, row: int, steps: int, room: int) -> None:
    """Write sixteen channels of a segment; zeros after a sample's end."""
    for j in range(steps):
        store(y, row + j * y.shape[2], load(buffer, j))
    for j in range(steps, room):
        store(y, row + j * y.shape[2], 0.0)


@njit(**INLINE)
def instant(a: Any, b: Any, u: Any, v: Any, x: Any) -> Any:
    """(a + i b) (u + i v) + x."""
    return a * u - b * v + x, a * v + b * u


@njit(**INLINE)
def read(p: Any, at: int) -> Any:
    """Four rows: a and c of a state, or two states."""
    return load(p, at), load(p, at + 1), load(p, at + 2), load(p, at + 3)


@njit(**INLINE)
def write(p: Any, at: int, v0: Any, v1: Any, v2: Any, v3: Any) -> None:
    """The inverse of `read`."""
    store(p, at, v0)
    store(p, at + 1, v1)
    store(p, at + 2, v2)
    store(p, at + 3, v3)


@njit(**LOOP)
def forward(
    x: Any, p: Any, d: Any, y: Any, state: Any, marks: Any, lengths: Any, segment: int,
    row0: int, row1: int, first: int, final: int,
) -> None:  # fmt: skip
    """y, the last state in place of the first, and the marks if there is room for them."""
    n_states = p.shape[1]
    inside, out = np.zeros((segment, LANES), x.dtype), np.zeros((segment, LANES), x.dtype)
    for b in range(row0, row1):
        for group in range(first, final):
            for start in range(0, x.shape[1], segment):
                steps = max(0, min(segment, lengths[b] - start))
                row = (b * x.shape[1] + start) * x.shape[2] + group
                take(x, row, steps, inside)
                direct = load(d, group)
                for j in range(steps):
                    store(out, j, direct * load(inside, j))
                for n in range(0, n_states, 4):
                    at = (group * n_states + n) * 4
                    h = ((b * p.shape[0] + group) * n_states + n) * 2
                    a0, b0, c0, d0 = read(p, at)
                    a1, b1, c1, d1 = read(p, at + 4)
                    a2, b2, c2, d2 = read(p, at + 8)
                    a3, b3, c3, d3 = read(p, at + 12)
                    u0, v0, u1, v1 = read(state, h)
                    u2, v2, u3, v3 = read(state, h + 4)
                    if marks.shape[1] > 0:
                        mark = (((b * marks.shape[1] + start // segment) * p.shape[0] + group) * n_states + n) * 2
                        write(marks, mark, u0, v0, u1, v1)
                        write(marks, mark + 4, u2, v2, u3, v3)
                    for j in range(steps):
                        x_j = load(inside, j)
                        u0, v0 = instant(a0, b0, u0, v0, x_j)
                        u1, v1 = instant(a1, b1, u1, v1, x_j)
                        u2, v2 = instant(a2, b2, u2, v2, x_j)
                        u3, v3 = instant(a3, b3, u3, v3, x_j)
                        re = (c0 * u0 + c1 * u1) + (c2 * u2 + c3 * u3)
                        im = (d0 * v0 + d1 * v1) + (d2 * v2 + d3 * v3)
                        store(out, j, load(out, j) + (re - im))
                    write(state, h, u0, v0, u1, v1)
                    write(state, h + 4, u2, v2, u3, v3)
                give(out, y, row, steps, min(segment, x.shape[1] - start))


@njit(**INLINE)
def again(p: Any, at: int, marks: Any, mark: int, inside: Any, steps: int, past: Any) -> None:
    """The course of four states over a segment, past [segment + 1, 4 (Re, Im)]: row j is the state before step j."""
    a0, b0, _, _ = read(p, at)
    a1, b1, _, _ = read(p, at + 4)
    a2, b2, _, _ = read(p, at + 8)
    a3, b3, _, _ = read(p, at + 12)
    u0, v0, u1, v1 = read(marks, mark)
    u2, v2, u3, v3 = read(marks, mark + 4)
    for j in range(steps + 1):
        write(past, 8 * j, u0, v0, u1, v1)
        write(past, 8 * j + 4, u2, v2, u3, v3)
        x_j = load(inside, min(j, steps - 1))
        u0, v0 = instant(a0, b0, u0, v0, x_j)
        u1, v1 = instant(a1, b1, u1, v1, x_j)
        u2, v2 = instant(a2, b2, u2, v2, x_j)
        u3, v3 = instant(a3, b3, u3, v3, x_j)


@njit(**INLINE)
def back(
    p: Any, at: int, past: Any, column: int, blame: Any, h: int, g_p: Any, g_at: int, g_y: Any, g_x: Any, steps: int,
    carry: bool,
) -> None:  # fmt: skip
    """Two states over a segment, backwards: blame of the state, of a and c, and of x (all are added to)."""
    a0, b0, c0, d0 = read(p, at)
    a1, b1, c1, d1 = read(p, at + 4)
    r0, s0, r1, s1 = read(blame, h)  # what comes from later steps
    g_a0, g_b0, g_c0, g_d0 = read(g_p, g_at)
    g_a1, g_b1, g_c1, g_d1 = read(g_p, g_at + 4)
    nothing = spread(past, 0.0)
    row = 8 * steps + column
    u0, v0, u1, v1 = read(past, row)
    for j in range(steps - 1, -1, -1):
        row = 8 * j + column
        g = load(g_y, j)
        g_c0 = g_c0 + g * u0
        g_d0 = g_d0 - g * v0
        g_c1 = g_c1 + g * u1
        g_d1 = g_d1 - g * v1
        u0, v0, u1, v1 = read(past, row)
        r0 = r0 + g * c0
        s0 = s0 - g * d0
        r1 = r1 + g * c1
        s1 = s1 - g * d1
        store(g_x, j, load(g_x, j) + (r0 + r1))
        g_a0 = g_a0 + (r0 * u0 + s0 * v0)
        g_b0 = g_b0 + (s0 * u0 - r0 * v0)
        g_a1 = g_a1 + (r1 * u1 + s1 * v1)
        g_b1 = g_b1 + (s1 * u1 - r1 * v1)
        r0, s0 = a0 * r0 + b0 * s0, a0 * s0 - b0 * r0
        r1, s1 = a1 * r1 + b1 * s1, a1 * s1 - b1 * r1
        if not carry:  # blame does not cross time
            r0, s0, r1, s1 = nothing, nothing, nothing, nothing
    write(blame, h, r0, s0, r1, s1)
    write(g_p, g_at, g_a0, g_b0, g_c0, g_d0)
    write(g_p, g_at + 4, g_a1, g_b1, g_c1, g_d1)


@njit(**LOOP)
def adjoint(
    x: Any, p: Any, d: Any, marks: Any, g_y: Any, blame: Any, g_x: Any, g_p: Any, g_d: Any, lengths: Any, segment: int,
    carry: bool, row0: int, row1: int, first: int, final: int,
) -> None:  # fmt: skip
    """Blame of x, of p and d for each sample, and, in place of the last state's, of the first."""
    n_states = p.shape[1]
    inside, g = np.zeros((segment, LANES), x.dtype), np.zeros((segment, LANES), x.dtype)
    out = np.zeros((segment, LANES), x.dtype)
    past = np.zeros((segment + 1, 8, LANES), x.dtype)
    for b in range(row0, row1):
        for group in range(first, final):
            for number in range(marks.shape[1] - 1, -1, -1):
                start = number * segment
                steps = max(0, min(segment, lengths[b] - start))
                row = (b * x.shape[1] + start) * x.shape[2] + group
                take(x, row, steps, inside)
                take(g_y, row, steps, g)
                direct, g_direct = load(d, group), load(g_d, b * p.shape[0] + group)
                for j in range(steps):
                    store(out, j, direct * load(g, j))
                    g_direct = g_direct + load(inside, j) * load(g, j)
                store(g_d, b * p.shape[0] + group, g_direct)
                for n in range(0, n_states, 4):
                    at = (group * n_states + n) * 4
                    g_at = ((b * p.shape[0] + group) * n_states + n) * 4
                    h = ((b * p.shape[0] + group) * n_states + n) * 2
                    mark = (((b * marks.shape[1] + number) * p.shape[0] + group) * n_states + n) * 2
                    if steps > 0:
                        again(p, at, marks, mark, inside, steps, past)
                        back(p, at, past, 0, blame, h, g_p, g_at, g, out, steps, carry)
                        back(p, at + 8, past, 4, blame, h + 4, g_p, g_at + 8, g, out, steps, carry)
                give(out, g_x, row, steps, min(segment, x.shape[1] - start))
