"""Kernels of activity-driven products: which entries are active, and sums of the rows that they choose.

A tensor with few non-zero entries is held as one *bit* an entry, in the order of memory, 64 to a word, and the list of
its non-zero `values` in the same order; where every value is 1 (spikes) the list is empty. Two products need no more::

    gather    out[r] = bias + sum over active i of  x[r, i] rows[i]        y = x W^T + b,  rows = W^T  [I, O]
    scatter   out[i] += x[r, i] g[r]  for every active (r, i)              dW^T = x^T g                [I, O]

Both walk over x in order and turn the bits of one row into a short list of indices. Rows are contiguous, so that all
that costs is streaming them: four at a time in `gather`, one in `scatter` (sorting the entries by unit, to add several
at a time there, takes longer than it saves). `accumulate` does the same at one instant, straight from the numbers.

Kernels are serial; the last two arguments are a range of what can be shared out among threads (`pool.run_groups`).
All arrays are C-contiguous and of one number type; machine code is made for each type at its first use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit, types

WORD = 64  # entries to a word of bits
SOME = 8  # indices written at a time

intrinsic: Any = extending.intrinsic  # what it decorates is called with other arguments than it is written with
FAST = {"contract", "reassoc", "nsz", "arcp"}  # as in emitted kernels: NaN stays visible
KERNEL: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": FAST}
PART: dict[str, Any] = {"nogil": True, "forceinline": True, "error_model": "numpy", "fastmath": FAST}
FULL, ONE = np.uint64(2**64 - 1), np.uint64(1)


# --- bits --------------------------------------------------------------------------------------------------------


def _numbers(context: Any, builder: Any, signature: Any, args: Any) -> tuple[Any, Any]:
    """64 numbers of an array from a place on, as a vector: where they lie, and their type."""
    element = {32: ir.FloatType(), 64: ir.DoubleType()}[signature.args[0].dtype.bitwidth]
    vector = ir.VectorType(element, WORD)
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [args[1]]), vector.as_pointer()), vector


def _differ_from(constant: float) -> Callable[..., Any]:
    """The intrinsic ``(array, start) -> word``: which of 64 numbers differ from a constant (NaN does)."""

    def typed(typing_context: Any, array: Any, start: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place, vector = _numbers(context, builder, signature, args)
            numbers = builder.load(place)
            numbers.align = 4
            differ = builder.fcmp_unordered("!=", numbers, ir.Constant(vector, [constant] * WORD))
            return builder.bitcast(differ, ir.IntType(WORD))

        return types.uint64(array, types.intp), generate

    return typed


not_zero = intrinsic(_differ_from(0.0))
not_one = intrinsic(_differ_from(1.0))


@intrinsic
def write_bits(typing_context: Any, array: Any, start: Any, word: Any) -> Any:
    """Write a word's bits as 64 numbers, 0 or 1."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place, vector = _numbers(context, builder, signature, args)
        bits = builder.bitcast(args[2], ir.VectorType(ir.IntType(1), WORD))
        builder.store(builder.uitofp(bits, vector), place).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, types.uint64), generate


@intrinsic
def lowest(typing_context: Any, word: Any) -> Any:
    """The place of the lowest bit that is set."""
    zero_is_poison = ir.Constant(ir.IntType(1), 0)
    return types.int64(types.uint64), lambda context, builder, signature, args: builder.cttz(args[0], zero_is_poison)


@intrinsic
def count(typing_context: Any, word: Any) -> Any:
    """How many bits are set."""
    return types.int64(types.uint64), lambda context, builder, signature, args: builder.ctpop(args[0])


@njit(**KERNEL)
def pack(x: Any, bits: Any, other: Any, first: int, last: int) -> None:
    """Words `first` to `last` of the bits of x [n]; ``other[0]`` becomes 1 if a value is neither 0 nor 1."""
    unlike = np.uint64(0)
    for w in range(first, last):
        start = w * WORD
        if start + WORD <= x.shape[0]:
            word = not_zero(x, start)
            unlike |= word & not_one(x, start)
        else:
            word = np.uint64(0)
            for k in range(x.shape[0] - start):
                word |= np.uint64(x[start + k] != 0) << np.uint64(k)
                unlike |= np.uint64((x[start + k] != 0) & (x[start + k] != 1))
        bits[w] = word
    if unlike != 0:
        other[0] = 1


@njit(**PART)
def places(word: Any, start: int, index: Any, n: int) -> int:
    """Append the places of a word's bits, counted from `start`, to an index of n entries; its new length.

    Several are written at a time, wanted or not: the processor cannot guess how many there are, and need not.
    """
    end = n + count(word)
    while word != 0:
        for k in range(SOME):
            index[n + k] = start + lowest(word)
            word &= word - ONE
        n += SOME
    return end


@njit(**PART)
def active(bits: Any, start: int, stop: int, index: Any) -> int:
    """Write the places of the bits in [start, stop), counted from `start`; how many there are."""
    n = 0
    first, last = start // WORD, (stop - 1) // WORD
    for w in range(first, last + 1):
        word = bits[w]
        if w == first:
            word &= FULL << np.uint64(start - first * WORD)
        if w == last:
            word &= FULL >> np.uint64((last + 1) * WORD - stop)
        n = places(word, w * WORD - start, index, n)
    return n


@njit(**KERNEL)
def collect(x: Any, bits: Any, values: Any) -> None:
    """The values of x [n] that are not zero, in order."""
    index = np.empty(WORD + SOME, np.intp)
    m = 0
    for w in range(bits.shape[0]):
        n = places(bits[w], w * WORD, index, 0)
        for j in range(n):
            values[m + j] = x[index[j]]
        m += n


@njit(**KERNEL)
def unpack(bits: Any, values: Any, out: Any) -> int:
    """x [n] from its bits and values: the inverse of `pack` and `collect`. Returns how many values it took."""
    index = np.empty(WORD + SOME, np.intp)
    m = 0
    for start in range(0, out.shape[0], WORD):
        word = bits[start // WORD]
        if start + WORD <= out.shape[0]:
            write_bits(out, start, word)
        else:
            for k in range(out.shape[0] - start):
                out[start + k] = (word >> np.uint64(k)) & ONE
        if values.shape[0] > 0:
            n = places(word, start, index, 0)
            for j in range(n):
                out[index[j]] = values[m + j]
            m += n
    return m


# --- products ----------------------------------------------------------------------------------------------------


@njit(**PART)
def follow(values: Any, m: int, n: int, value: Any) -> int:
    """Copy the n values behind the first m; m + n. Where all are 1 there are none, and `value` stays as it is."""
    if values.shape[0] == 0:
        return 0
    for j in range(n):  # a loop compiles in a third of the time that numba takes for two slices
        value[j] = values[m + j]
    return m + n


@njit(**PART)
def add_rows(rows: Any, index: Any, value: Any, n: int, out: Any) -> None:
    """out += sum over j < n of  value[j] rows[index[j]]."""
    j = 0
    while j + 4 <= n:
        a, b, c, d = rows[index[j]], rows[index[j + 1]], rows[index[j + 2]], rows[index[j + 3]]
        va, vb, vc, vd = value[j], value[j + 1], value[j + 2], value[j + 3]
        for o in range(out.shape[0]):
            out[o] += (va * a[o] + vb * b[o]) + (vc * c[o] + vd * d[o])
        j += 4
    while j < n:
        a, va = rows[index[j]], value[j]
        for o in range(out.shape[0]):
            out[o] += va * a[o]
        j += 1


@njit(**KERNEL)
def gather(bits: Any, values: Any, rows: Any, bias: Any, out: Any, first: int, last: int) -> None:
    """Rows `first` to `last` of  x rows + bias:  rows [I, O], bias [O], out [R, O]."""
    inputs = rows.shape[0]
    index, value = np.empty(inputs + SOME, np.intp), np.ones(inputs, rows.dtype)
    m = 0
    if values.shape[0] > 0 and first > 0:  # the values of the rows before
        for r in range(first):
            m += active(bits, r * inputs, (r + 1) * inputs, index)
    for r in range(first, last):
        n = active(bits, r * inputs, (r + 1) * inputs, index)
        m = follow(values, m, n, value)
        y = out[r]
        for o in range(y.shape[0]):
            y[o] = bias[o]
        add_rows(rows, index, value, n, y)


@njit(**KERNEL)
def scatter(bits: Any, values: Any, g: Any, out: Any, first: int, last: int) -> None:
    """Columns `first` to `last` of  x^T g  are added to out [I, O];  g [R, O]."""
    inputs = out.shape[0]
    index, value = np.empty(inputs + SOME, np.intp), np.ones(inputs, out.dtype)
    m = 0
    for r in range(g.shape[0]):
        n = active(bits, r * inputs, (r + 1) * inputs, index)
        m = follow(values, m, n, value)
        blame = g[r, first:last]
        for j in range(n):
            row, v = out[index[j], first:last], value[j]
            for o in range(last - first):
                row[o] += v * blame[o]


@njit(**KERNEL)
def accumulate(x: Any, rows: Any, out: Any, first: int, last: int) -> None:
    """out[b] += x[b] rows  for samples `first` to `last`:  x [B, I], rows [I, O], out [B, O]."""
    inputs = rows.shape[0]
    index, value = np.empty(inputs + SOME, np.intp), np.empty(inputs, rows.dtype)
    for b in range(first, last):
        row = x[b]
        n, start = 0, 0
        while start + WORD <= inputs:
            n = places(not_zero(row, start), start, index, n)
            start += WORD
        for i in range(start, inputs):
            index[n] = i
            n += row[i] != 0
        for j in range(n):
            value[j] = row[index[j]]
        add_rows(rows, index, value, n, out[b])
