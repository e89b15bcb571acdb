"""Short vectors inside kernels: so many neighbours of an array, from any element on, as one value.

LLVM vectorises a loop only where it can prove that what is written is not read again; a window that slides by one step
over an array that is being added to is such a case. Here the vector is said, not guessed:

    sums = load(row, at, 8)                        # row[at : at + 8]
    store(row, at, muladd(a, window, sums))        # row[at : at + 8] = a * window + sums

The width is a literal number. It may be wider than a register: 128 numbers are eight registers of AVX-512, sixteen of
AVX2, and a loop that keeps such a value as its sum keeps those registers busy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.extending import models, register_model

Made = tuple[Any, Callable[..., Any]]  # an intrinsic's signature and what writes its code

FAST = ("contract", "reassoc", "nsz", "arcp")  # NaN stays visible


class Vector(types.Type):
    """`width` numbers of one precision."""

    def __init__(self, real: types.Float, width: int) -> None:
        self.real, self.width = real, width
        super().__init__(name=f"Vector({real}, {width})")

    @property
    def ir(self) -> ir.VectorType:
        """LLVM's type for it."""
        return ir.VectorType({32: ir.FloatType(), 64: ir.DoubleType()}[self.real.bitwidth], self.width)


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, kind.ir)


def _intrinsic(function: Callable[..., Made]) -> Any:
    return extending.intrinsic(prefer_literal=True)(function)


def _place(context: Any, builder: Any, signature: Any, args: Any, vector: Vector) -> Any:
    """The address of ``array[at]``, where array and at are the first two arguments."""
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [args[1]]), vector.ir.as_pointer())


@_intrinsic
def load(typing: Any, array: Any, at: Any, width: Any) -> Made:
    """``array[at : at + width]`` of a flat array."""
    vector = Vector(array.dtype, width.literal_value)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_place(context, builder, signature, args, vector))
        value.align = vector.real.bitwidth // 8
        return value

    return vector(array, types.intp, width), generate


@_intrinsic
def store(typing: Any, array: Any, at: Any, vector: Any) -> Made:
    """``array[at : at + width] = vector``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature, args, vector)
        builder.store(args[2], place).align = vector.real.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@_intrinsic
def zeros(typing: Any, array: Any, width: Any) -> Made:
    """A vector of zeros in the precision of an array."""
    vector = Vector(array.dtype, width.literal_value)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(vector.ir, [0.0] * vector.width)

    return vector(array, width), generate


@_intrinsic
def muladd(typing: Any, a: Any, x: Any, y: Any) -> Made:
    """``a * x + y``; a is a vector, or one number for all."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        factor = args[0]
        if not isinstance(a, Vector):
            single, nothing = context.cast(builder, factor, a, x.real), ir.Constant(x.ir, ir.Undefined)
            everywhere = ir.Constant(ir.VectorType(ir.IntType(32), x.width), [0] * x.width)
            factor = builder.insert_element(nothing, single, ir.Constant(ir.IntType(32), 0))
            factor = builder.shuffle_vector(factor, nothing, everywhere)
        return builder.fadd(builder.fmul(factor, args[1], flags=FAST), args[2], flags=FAST)

    return y(a, x, y), generate


@_intrinsic
def total(typing: Any, x: Any) -> Made:
    """The sum of a vector."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = x.ir.element
        kind = ir.FunctionType(number, [number, x.ir])
        name = f"llvm.vector.reduce.fadd.v{x.width}f{x.real.bitwidth}"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        return builder.call(function, [ir.Constant(number, -0.0), args[0]], fastmath=FAST)

    return x.real(x), generate
