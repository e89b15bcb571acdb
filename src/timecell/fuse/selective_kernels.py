"""Kernels of `selective_ssm`: as those of `diagonal_ssm`, with factors, inputs and reading that change at every step.

`selective.py` loads this file through the kernel cache and never imports it. Time is walked in segments; within one, one
state of sixteen channels after the other goes through all of its steps, from one vector register; exponentials of
different steps do not wait for each other. The adjoint starts from the mark before a segment, runs it again into a scratch
of the first-level cache, and walks back over it.

Layout (LANES = 16 channels, the last axis; missing lanes are zero):
    x, dt, y and their blame        [B, T, group, lane]
    a, g_a                          [group, N, lane]            g_a has a row for each sample
    d, g_d                          [group, lane]
    b, c and their blame            [B, T, N]
    state, marks                    [B, group, N, lane], [B, segment, group, N, lane]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit, types
from numba.core import cgutils
from numba.extending import overload

from timecell.fuse.lanes import LANES, exp, exp64, load, spread, store

intrinsic: Any = extending.intrinsic  # what it decorates is called with other arguments than it is written with

LOOP: dict[str, Any] = {
    "fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy", "nogil": True, "cache": True,
}  # fmt: skip
INLINE: dict[str, Any] = {**LOOP, "forceinline": True, "cache": False}


@intrinsic
def total(typing_context: Any, lanes: Any) -> Any:
    """The sum over lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        suffix = "f32" if isinstance(kind.element, ir.FloatType) else "f64"
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(kind.element, [kind.element, kind]),
            f"llvm.vector.reduce.fadd.v{LANES}{suffix}",
        )
        return builder.call(function, [ir.Constant(kind.element, -0.0), args[0]], fastmath=("reassoc",))

    return lanes.real(lanes), generate


def exponential(x: Any, scratch: Any) -> Any:
    """e^x in sixteen lanes, in the precision of x."""
    raise NotImplementedError("it is made for each precision below")


@overload(exponential)
def _exponential(x: Any, scratch: Any) -> Any:
    def single(x: Any, scratch: Any) -> Any:
        return exp(x, scratch)

    def double(x: Any, scratch: Any) -> Any:
        return exp64(x, scratch)

    return single if x.real == types.float32 else double


@njit(**INLINE)
def take(x: Any, row: int, steps: int, buffer: Any) -> None:
    """Sixteen channels of a segment, from x [..., group, lane] to a scratch."""
    for j in range(steps):
        store(buffer, j, load(x, row + j * x.shape[2]))


@njit(**INLINE)
def columns(b: Any, i: int, start: int, steps: int, buffer: Any) -> None:
    """b (or c) of a segment, [N, step]."""
    for j in range(steps):
        for n in range(buffer.shape[0]):
            buffer[n, j] = b[i, start + j, n]


@njit(**LOOP)
def forward(
    x: Any, dt: Any, a: Any, b: Any, c: Any, d: Any, y: Any, state: Any, marks: Any, lengths: Any, segment: int,
    row0: int, row1: int, first: int, final: int,
) -> None:  # fmt: skip
    """y, the last state in place of the first, and the marks if there is room for them."""
    groups, n_states = a.shape[0], a.shape[1]
    inside, times = np.zeros((segment, LANES), x.dtype), np.zeros((segment, LANES), x.dtype)
    out, scratch = np.zeros((segment, LANES), x.dtype), np.zeros(LANES, x.dtype)
    of_b, of_c = np.zeros((n_states, segment), x.dtype), np.zeros((n_states, segment), x.dtype)
    for i in range(row0, row1):
        for start in range(0, x.shape[1], segment):
            steps = max(0, min(segment, lengths[i] - start))
            columns(b, i, start, steps, of_b)
            columns(c, i, start, steps, of_c)
            for group in range(groups):
                row = (i * x.shape[1] + start) * groups + group
                take(x, row, steps, inside)
                take(dt, row, steps, times)
                direct = load(d, group)
                for j in range(steps):
                    store(out, j, direct * load(inside, j))
                    store(inside, j, load(times, j) * load(inside, j))
                for n in range(n_states):
                    here = (i * groups + group) * n_states + n
                    a_n, b_n, c_n, h = load(a, group * n_states + n), of_b[n], of_c[n], load(state, here)
                    if marks.shape[1] > 0:
                        store(marks, ((i * marks.shape[1] + start // segment) * groups + group) * n_states + n, h)
                    for j in range(steps):
                        h = exponential(load(times, j) * a_n, scratch) * h + load(inside, j) * b_n[j]
                        store(out, j, load(out, j) + h * c_n[j])
                    store(state, here, h)
                for j in range(steps):
                    store(y, row + j * groups, load(out, j))
                for j in range(steps, min(segment, x.shape[1] - start)):
                    store(y, row + j * groups, 0.0)


@njit(**LOOP)
def adjoint(
    x: Any, dt: Any, a: Any, b: Any, c: Any, d: Any, marks: Any, g_y: Any, blame: Any, g_x: Any, g_dt: Any,
    g_a: Any, g_b: Any, g_c: Any, g_d: Any, lengths: Any, segment: int, carry: bool, row0: int, row1: int, first: int, final: int,
) -> None:  # fmt: skip
    """Blame of everything, and, in place of the last state's, of the first. All are given as zeros."""
    groups, n_states = a.shape[0], a.shape[1]
    inside, times = np.zeros((segment, LANES), x.dtype), np.zeros((segment, LANES), x.dtype)
    given, g = np.zeros((segment, LANES), x.dtype), np.zeros((segment, LANES), x.dtype)
    weighed, paced = np.zeros((segment, LANES), x.dtype), np.zeros((segment, LANES), x.dtype)
    past, decay = np.zeros((segment + 1, LANES), x.dtype), np.zeros((segment, LANES), x.dtype)
    of_b, of_c = np.zeros((n_states, segment), x.dtype), np.zeros((n_states, segment), x.dtype)
    to_b, to_c = np.zeros((n_states, segment, LANES), x.dtype), np.zeros((n_states, segment, LANES), x.dtype)
    scratch = np.zeros(LANES, x.dtype)
    nothing = spread(x, 0.0)
    for i in range(row0, row1):
        for number in range(marks.shape[1] - 1, -1, -1):
            start = number * segment
            steps = max(0, min(segment, lengths[i] - start))
            columns(b, i, start, steps, of_b)
            columns(c, i, start, steps, of_c)
            for group in range(groups):
                row = (i * x.shape[1] + start) * groups + group
                take(x, row, steps, inside)
                take(dt, row, steps, times)
                take(g_y, row, steps, g)
                direct, g_direct = load(d, group), load(g_d, i * groups + group)
                for j in range(steps):
                    store(given, j, load(times, j) * load(inside, j))
                    store(weighed, j, 0.0)
                    store(paced, j, 0.0)
                    g_direct = g_direct + load(g, j) * load(inside, j)
                store(g_d, i * groups + group, g_direct)
                for n in range(n_states):
                    here = (i * groups + group) * n_states + n
                    a_n, b_n, c_n = load(a, group * n_states + n), of_b[n], of_c[n]
                    h = load(marks, ((i * marks.shape[1] + number) * groups + group) * n_states + n)
                    for j in range(steps):  # once more forward
                        store(past, j, h)
                        e = exponential(load(times, j) * a_n, scratch)
                        store(decay, j, e)
                        h = e * h + load(given, j) * b_n[j]
                    r, g_a_n = load(blame, here), load(g_a, here)
                    for j in range(steps - 1, -1, -1):
                        at = n * segment + j
                        before, g_j = load(past, j), load(g, j)
                        r = r + g_j * c_n[j]
                        store(to_c, at, load(to_c, at) + g_j * h)
                        store(to_b, at, load(to_b, at) + r * load(given, j))
                        store(weighed, j, load(weighed, j) + r * b_n[j])
                        r = r * load(decay, j)
                        kept = r * before
                        store(paced, j, load(paced, j) + kept * a_n)
                        g_a_n = g_a_n + kept * load(times, j)
                        h = before
                        if not carry:  # blame does not cross time
                            r = nothing
                    store(blame, here, r)
                    store(g_a, here, g_a_n)
                for j in range(steps):
                    store(g_x, row + j * groups, load(times, j) * load(weighed, j) + direct * load(g, j))
                    store(g_dt, row + j * groups, load(inside, j) * load(weighed, j) + load(paced, j))
            for n in range(n_states):  # what the channels have in common
                for j in range(steps):
                    at = n * segment + j
                    g_b[i, start + j, n] = total(load(to_b, at))
                    g_c[i, start + j, n] = total(load(to_c, at))
                    store(to_b, at, 0.0)
                    store(to_c, at, 0.0)
