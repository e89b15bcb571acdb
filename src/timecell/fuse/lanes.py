"""Several samples at once: a number type for kernels that holds one value for each of `LANES` samples.

A row kernel walks one *group* of samples through time, and every value in it is a `Lanes`: the same quantity in
sixteen samples, held in vector registers. So an emitted line reads like the equation of one sample, small products
stay in registers, and nothing depends on a compiler's guess whether two arrays overlap. Arrays of lanes are
``[n, LANES]``; `load` and `store` move one row of them, `spread` gives a plain number to every lane.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, njit, types
from numba.core import cgutils
from numba.extending import models, overload, register_model

from timecell.fuse import maths
from timecell.fuse.row import LANES

intrinsic: Any = extending.intrinsic  # what it decorates is called with other arguments than it is written with

FAST = ("contract", "reassoc", "nsz", "arcp")  # as in every emitted float32 kernel: NaN stays visible


class Lanes(types.Type):
    """`LANES` real numbers of one precision."""

    def __init__(self, real: types.Float) -> None:
        self.real = real
        super().__init__(name=f"Lanes({real})")


class Flags(types.Type):
    """`LANES` truth values."""

    def __init__(self) -> None:
        super().__init__(name="Flags")


FLAGS = Flags()


def _vector(fe: Any) -> ir.VectorType:
    element = ir.IntType(1) if isinstance(fe, Flags) else {32: ir.FloatType(), 64: ir.DoubleType()}[fe.real.bitwidth]
    return ir.VectorType(element, LANES)


@register_model(Lanes)
@register_model(Flags)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _vector(fe_type))


def _wide(*kinds: Any) -> Any:
    """The lanes type among some operands, None if there is none."""
    return next((k for k in kinds if isinstance(k, Lanes)), None)


def _as_vector(context: Any, builder: Any, value: Any, kind: Any, wide: Any) -> Any:
    """An operand as a vector: lanes as they are, a number in every lane."""
    if isinstance(kind, (Lanes, Flags)):
        return value
    single = context.cast(builder, value, kind, wide.real)
    vector = _vector(wide)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), single, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), mask)


def _operation(arity: int, make: Callable[..., Any], truth: bool = False) -> Any:
    """An intrinsic on lanes (numbers among its operands are spread) from a function of the IR builder and vectors."""

    def typed(typingctx: Any, *kinds: Any) -> Any:
        wide = _wide(*kinds)
        if wide is None and not any(isinstance(k, Flags) for k in kinds):
            return None
        out = FLAGS if truth or wide is None else wide

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vectors = [_as_vector(context, builder, a, k, wide) for a, k in zip(args, signature.args)]
            return make(builder, *vectors)

        return out(*kinds), generate

    if arity == 1:
        return intrinsic(lambda typingctx, a: typed(typingctx, a))
    if arity == 2:
        return intrinsic(lambda typingctx, a, b: typed(typingctx, a, b))
    return intrinsic(lambda typingctx, a, b, c: typed(typingctx, a, b, c))


def _flags(v: Any) -> tuple[str, ...]:
    """Fast-math for float32; float64 kernels, which exist for checking, compute to the letter."""
    return FAST if isinstance(v.type.element, ir.FloatType) else ()


def _llvm(name: str) -> Callable[..., Any]:
    """One of LLVM's own vector functions."""

    def make(builder: Any, *vectors: Any) -> Any:
        kind = vectors[0].type
        suffix = "f32" if isinstance(kind.element, ir.FloatType) else "f64"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind] * len(vectors)), f"llvm.{name}.v{LANES}{suffix}"
        )
        return builder.call(function, vectors)

    return make


_neg = _operation(1, lambda b, x: b.fsub(ir.Constant(x.type, [-0.0] * LANES), x, flags=_flags(x)))
_not = _operation(1, lambda b, x: b.not_(x), truth=True)
_binary = {
    operator.add: _operation(2, lambda b, x, y: b.fadd(x, y, flags=_flags(x))),
    operator.sub: _operation(2, lambda b, x, y: b.fsub(x, y, flags=_flags(x))),
    operator.mul: _operation(2, lambda b, x, y: b.fmul(x, y, flags=_flags(x))),
    operator.truediv: _operation(2, lambda b, x, y: b.fdiv(x, y, flags=_flags(x))),
    operator.lt: _operation(2, lambda b, x, y: b.fcmp_ordered("<", x, y), truth=True),
    operator.le: _operation(2, lambda b, x, y: b.fcmp_ordered("<=", x, y), truth=True),
    operator.gt: _operation(2, lambda b, x, y: b.fcmp_ordered(">", x, y), truth=True),
    operator.ge: _operation(2, lambda b, x, y: b.fcmp_ordered(">=", x, y), truth=True),
    operator.eq: _operation(2, lambda b, x, y: b.fcmp_ordered("==", x, y), truth=True),
    operator.ne: _operation(2, lambda b, x, y: b.fcmp_unordered("!=", x, y), truth=True),
    operator.and_: _operation(2, lambda b, x, y: b.and_(x, y), truth=True),
    operator.or_: _operation(2, lambda b, x, y: b.or_(x, y), truth=True),
    operator.xor: _operation(2, lambda b, x, y: b.xor(x, y), truth=True),
}


def _register_binary(symbol: Any, inner: Any) -> None:
    @overload(symbol, strict=False)
    def _(a: Any, b: Any) -> Any:
        if any(isinstance(k, (Lanes, Flags)) for k in (a, b)):
            return lambda a, b: inner(a, b)
        return None


for _symbol, _inner in _binary.items():
    _register_binary(_symbol, _inner)


@overload(operator.neg, strict=False)
def _negate(a: Any) -> Any:
    return (lambda a: _neg(a)) if isinstance(a, Lanes) else None


# --- functions by the names that `emit` uses ------------------------------------------------------------------------


@intrinsic
def where(typingctx: Any, condition: Any, yes: Any, no: Any) -> Any:
    """In each lane one of two values."""
    wide = _wide(yes, no) or Lanes(yes)
    out = FLAGS if isinstance(yes, Flags) else wide

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        yes, no = (_as_vector(context, builder, a, k, wide) for a, k in zip(args[1:], signature.args[1:]))
        return builder.select(args[0], yes, no)

    return out(condition, yes, no), generate


negate = _not
root = _operation(1, _llvm("sqrt"))
absolute = _operation(1, _llvm("fabs"))
floor = _operation(1, _llvm("floor"))
ceil = _operation(1, _llvm("ceil"))
trunc = _operation(1, _llvm("trunc"))
rint = _operation(1, _llvm("rint"))


@intrinsic
def load(typingctx: Any, array: Any, row: Any) -> Any:
    """Row `row` of an array ``[..., LANES]`` seen as one long list of rows."""
    out = Lanes(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature, args)
        value = builder.load(place)
        value.align = 4
        return value

    return out(array, types.intp), generate


@intrinsic
def store(typingctx: Any, array: Any, row: Any, value: Any) -> Any:
    """Write a row; a plain number goes to every lane."""
    wide = Lanes(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _as_vector(context, builder, args[2], signature.args[2], wide)
        builder.store(vector, _place(context, builder, signature, args)).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@intrinsic
def spread(typingctx: Any, like: Any, number: Any) -> Any:
    """A number in every lane, in the precision of an array."""
    wide = Lanes(like.dtype)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _as_vector(context, builder, args[1], signature.args[1], wide)

    return wide(like, number), generate


@njit(forceinline=True, nogil=True)
def longest(lengths: Any, group: Any) -> Any:
    """Steps of a group's longest sample."""
    last = 0
    for lane in range(LANES):
        last = max(last, lengths[group * LANES + lane])
    return last


@intrinsic
def running(typingctx: Any, lengths: Any, group: Any, t: Any) -> Any:
    """Which samples of a group have a step t."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        vector = ir.VectorType(ir.IntType(64), LANES)
        start = builder.gep(data, [builder.mul(args[1], ir.Constant(args[1].type, LANES))])
        lengths = builder.load(builder.bitcast(start, vector.as_pointer()))
        lengths.align = 8
        first = builder.insert_element(ir.Constant(vector, ir.Undefined), args[2], ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        now = builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), mask)
        return builder.icmp_signed("<", now, lengths)

    return FLAGS(lengths, types.intp, types.intp), generate


@intrinsic
def from_bits(typing_context: Any, bits: Any) -> Any:
    """In each lane the float32 whose bits, as a whole number, have this value."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.fptosi(args[0], ir.VectorType(ir.IntType(32), LANES)), args[0].type)

    return bits(bits), generate


def _place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    start = builder.gep(data, [builder.mul(args[1], ir.Constant(args[1].type, LANES))])
    return builder.bitcast(start, _vector(Lanes(signature.args[0].dtype)).as_pointer())


SETTINGS: dict[str, Any] = {"forceinline": True, "nogil": True, "error_model": "numpy", "fastmath": set(FAST)}


def _each(function: Any) -> Any:
    """A scalar function on every lane, by way of a scratch row (where LLVM turns its loop into vector code)."""

    @njit(**SETTINGS)
    def apply(x: Any, scratch: Any) -> Any:
        store(scratch, 0, x)
        for lane in range(LANES):
            scratch[lane] = function(scratch[lane])
        return load(scratch, 0)

    return apply


def _each_pair(function: Any) -> Any:
    """The same for a function of two numbers."""

    @njit(**SETTINGS)
    def apply(x: Any, y: Any, scratch: Any) -> Any:
        store(scratch, 0, x)
        store(scratch, 1, y)
        for lane in range(LANES):
            scratch[lane] = function(scratch[lane], scratch[LANES + lane])
        return load(scratch, 0)

    return apply


@njit(**SETTINGS)
def maximum(x: Any, y: Any) -> Any:
    """The larger; NaN if either is."""
    return where((x >= y) | (x != x), x, y)


@njit(**SETTINGS)
def minimum(x: Any, y: Any) -> Any:
    """The smaller; NaN if either is."""
    return where((x <= y) | (x != x), x, y)


@njit(**SETTINGS)
def at_least(x: Any, low: Any) -> Any:
    """x, or `low` where x is below."""
    return where(x < low, low, x)


@njit(**SETTINGS)
def at_most(x: Any, high: Any) -> Any:
    """x, or `high` where x is above."""
    return where(x > high, high, x)


@njit(**SETTINGS)
def sign(x: Any) -> Any:
    """-1, 0 or 1; NaN of NaN."""
    return where(x > 0, x / x, where(x < 0, -(x / x), x))


@njit(**SETTINGS)
def square(x: Any) -> Any:
    """x * x."""
    return x * x


@njit(**SETTINGS)
def hypot(x: Any, y: Any) -> Any:
    """Length of (x, y)."""
    return root(x * x + y * y)


# In float32 the functions of `maths`, in registers; `scratch` is not used. (LLVM left their loops over lanes scalar.)


@njit(**SETTINGS)
def exp(x: Any, scratch: Any) -> Any:
    """e^x."""
    k = at_least(at_most(floor(x * maths.LOG2E + maths.HALF), maths.F(128)), maths.F(-125))
    r = x - k * maths.LN2_HIGH - k * maths.LN2_LOW
    p = ((((r * maths.E0 + maths.E1) * r + maths.E2) * r + maths.E3) * r + maths.E4) * r + maths.E5
    p = p * (r * r) + r + maths.ONE
    k = where(x == x, k, maths.ZERO)  # NaN has no bits; it is in p
    half = from_bits((k + maths.F(126)) * maths.F(1 << 23))  # 2^(k - 1), by its exponent
    return where(x > maths.EXP_MAX, maths.INF, where(x < maths.EXP_MIN, maths.ZERO, p * half * maths.TWO))


@njit(**SETTINGS)
def sigmoid(x: Any, scratch: Any) -> Any:
    """1 / (1 + e^-x)."""
    return maths.ONE / (exp(-x, scratch) + maths.ONE)


@njit(**SETTINGS)
def tanh(x: Any, scratch: Any) -> Any:
    """Hyperbolic tangent."""
    a, z = absolute(x), x * x
    p = (((z * maths.T0 + maths.T1) * z + maths.T2) * z + maths.T3) * z + maths.T4
    far = maths.ONE - maths.TWO / (exp(a + a, scratch) + maths.ONE)
    return where(a < maths.TANH_SPLIT, p * z * x + x, where(x < maths.ZERO, -far, far))


log = _each(maths.log)
exp64, log64, tanh64, sigmoid64 = (_each(f) for f in (maths.exp64, maths.log64, maths.tanh64, maths.sigmoid64))
sin, cos, sinh, cosh = (_each(f) for f in (math.sin, math.cos, math.sinh, math.cosh))
asin, acos, atan = (_each(f) for f in (math.asin, math.acos, math.atan))
erf, expm1, log1p = (_each(f) for f in (math.erf, math.expm1, math.log1p))
power, atan2 = _each_pair(math.pow), _each_pair(math.atan2)

__all__ = [
    "LANES", "absolute", "acos", "asin", "at_least", "at_most", "atan", "atan2", "ceil", "cos", "cosh", "erf", "exp",
    "expm1", "floor", "hypot", "load", "log", "log1p", "longest", "maximum", "minimum", "negate", "power", "rint", "root",
    "running", "sigmoid", "sign", "sin", "sinh", "spread", "square", "store", "tanh", "trunc", "where",
]  # fmt: skip
