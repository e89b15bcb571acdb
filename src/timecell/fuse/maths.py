"""Vectorising elementary functions for emitted kernels.

numba has no vector library of its own, so a call to the C library's exp inside a loop keeps the loop scalar. These
float32 functions are polynomials over exponent bits that LLVM turns into vector code; each is within 4e-7 relative
error of the true value over its whole range and keeps NaN visible. float64 kernels, which exist for checking, call
the C library.

Coefficients: Cephes (S. Moshier, 1989), single precision expf, logf and tanhf.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

F, I = np.float32, np.int32  # noqa: E741
INLINE: dict[str, Any] = {
    "fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy", "nogil": True, "forceinline": True,
}  # fmt: skip

ZERO, HALF, ONE, TWO = F(0), F(0.5), F(1), F(2)
INF, NAN = F(np.inf), F(np.nan)
LOG2E, LN2_HIGH, LN2_LOW = F(1.44269504088896341), F(0.693359375), F(-2.12194440e-4)
EXP_MAX, EXP_MIN = F(88.72283), F(-87.33654)
E0, E1, E2, E3, E4, E5 = (
    F(c) for c in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
)
T0, T1, T2, T3, T4 = (
    F(c) for c in (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
)
L0, L1, L2, L3, L4, L5, L6, L7, L8 = (
    F(c)
    for c in (
        7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
        -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
    )
)  # fmt: skip
SQRT_HALF, SMALLEST, TANH_SPLIT = F(0.707106781186547524), F(1.17549435e-38), F(0.625)


@njit(**INLINE)
def exp(x: Any) -> Any:
    """e^x in float32."""
    k = np.floor(x * LOG2E + HALF)
    r = x - k * LN2_HIGH - k * LN2_LOW
    p = ((((E0 * r + E1) * r + E2) * r + E3) * r + E4) * r + E5
    p = p * (r * r) + r + ONE
    k = min(max(k, F(-127)), F(128))
    value = I(F(p).view(np.int32) + (I(k) << I(23))).view(np.float32)  # p 2^k: add k to the exponent bits of p
    value = value if x == x else x  # the bits of a NaN did not survive that
    return INF if x > EXP_MAX else (ZERO if x < EXP_MIN else value)


@njit(**INLINE)
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x) in float32."""
    return ONE / (ONE + exp(-x))


@njit(**INLINE)
def tanh(x: Any) -> Any:
    """Hyperbolic tangent in float32."""
    a = abs(x)
    z = x * x
    near = ((((T0 * z + T1) * z + T2) * z + T3) * z + T4) * z * x + x
    far = ONE - TWO / (exp(a + a) + ONE)
    return near if a < TANH_SPLIT else (-far if x < ZERO else far + (x - x))


@njit(**INLINE)
def log(x: Any) -> Any:
    """Natural logarithm in float32; log(0) = -inf, log(x < 0) = NaN. Subnormal x counts as 0."""
    bits = F(x).view(np.int32)
    e = F((bits >> I(23)) - I(126))
    m = I((bits & I(0x007FFFFF)) | I(0x3F000000)).view(np.float32)
    low = m < SQRT_HALF
    e = e - ONE if low else e
    m = m + m - ONE if low else m - ONE
    z = m * m
    p = ((((((((L0 * m + L1) * m + L2) * m + L3) * m + L4) * m + L5) * m + L6) * m + L7) * m + L8) * m * z
    value = m + (p + e * LN2_LOW - HALF * z) + e * LN2_HIGH
    value = x if x == INF else value
    return value if x >= SMALLEST else (-INF if x >= ZERO else NAN)


@njit(**INLINE)
def exp64(x: Any) -> Any:
    """e^x in float64."""
    return math.exp(x)


@njit(**INLINE)
def sigmoid64(x: Any) -> Any:
    """1 / (1 + e^-x) in float64."""
    return 1.0 / (1.0 + math.exp(-x))


@njit(**INLINE)
def tanh64(x: Any) -> Any:
    """Hyperbolic tangent in float64."""
    return math.tanh(x)


@njit(**INLINE)
def log64(x: Any) -> Any:
    """Natural logarithm in float64; log(0) = -inf, log(x < 0) = NaN."""
    return math.log(x) if x > 0.0 else (-math.inf if x == 0.0 else math.nan)
