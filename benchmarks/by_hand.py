"""Fused loops as a careful author writes them, for the neurons of figures/neurons.py: what our emitted ones are held against.

Each pair is written for one neuron, with its constants inside. The forward loop keeps the membrane before its reset, and
beside it only what the adjoint cannot rebuild; the adjoint walks back with the blame on the states in small arrays that stay
in the cache. All arrays are float32 [B, T, N], the learnt parameter is [N], and `slope` is the arctan surrogate's.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numba
import numpy as np

Array: TypeAlias = np.ndarray

one, half_pi_alpha = np.float32(1), np.float32(math.pi)  # alpha = 2: slope 1 / (1 + (pi u)^2)
loop = numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})


@numba.njit(inline="always")
def slope(u: Any) -> Any:
    """The pretended derivative of the spike at the distance u from its threshold."""
    z = half_pi_alpha * u
    return one / (one + z * z)


# --- leaky: u = k v + x;  z = H(u - 1);  v' = u (1 - z) -------------------------------------------------------------


@loop
def leaky(x: Array, k: Array, z: Array, u: Array) -> None:  # noqa: D103
    B, T, N = x.shape
    v = np.empty(N, np.float32)
    for b in range(B):
        v[:] = 0
        for t in range(T):
            for n in range(N):
                h = k[n] * v[n] + x[b, t, n]
                s = one if h >= one else np.float32(0)
                u[b, t, n] = h
                z[b, t, n] = s
                v[n] = h * (one - s)


@loop
def leaky_adjoint(g: Array, k: Array, u: Array, gx: Array, gk: Array) -> None:  # noqa: D103
    B, T, N = g.shape
    gv = np.empty(N, np.float32)
    for b in range(B):
        gv[:] = 0
        for t in range(T - 1, -1, -1):
            for n in range(N):
                h = u[b, t, n]
                s = one if h >= one else np.float32(0)
                d = gv[n] * (one - s) + (g[b, t, n] - gv[n] * h) * slope(h - one)
                gx[b, t, n] = d
                gv[n] = k[n] * d
            if t:
                for n in range(N):
                    before = u[b, t - 1, n]
                    gk[n] += gx[b, t, n] * (np.float32(0) if before >= one else before)


# --- adaptive: theta = 1 + 0.5 b;  u = k v + x;  z = H(u - theta);  v' = u - theta z;  b' = 0.95 b + 0.05 z ----------

rise, rho = np.float32(0.5), np.float32(0.95)


@loop
def adaptive(x: Array, k: Array, z: Array, u: Array, level: Array) -> None:  # noqa: D103
    B, T, N = x.shape
    v, b_ = np.empty(N, np.float32), np.empty(N, np.float32)
    for b in range(B):
        v[:] = 0
        b_[:] = 0
        for t in range(T):
            for n in range(N):
                theta = one + rise * b_[n]
                h = k[n] * v[n] + x[b, t, n]
                s = one if h >= theta else np.float32(0)
                u[b, t, n] = h
                level[b, t, n] = b_[n]
                z[b, t, n] = s
                v[n] = h - theta * s
                b_[n] = rho * b_[n] + (one - rho) * s


@loop
def adaptive_adjoint(g: Array, k: Array, u: Array, level: Array, gx: Array, gk: Array) -> None:  # noqa: D103
    B, T, N = g.shape
    gv, gb = np.empty(N, np.float32), np.empty(N, np.float32)
    for b in range(B):
        gv[:] = 0
        gb[:] = 0
        for t in range(T - 1, -1, -1):
            for n in range(N):
                h, theta = u[b, t, n], one + rise * level[b, t, n]
                s = one if h >= theta else np.float32(0)
                e = (g[b, t, n] + (one - rho) * gb[n] - theta * gv[n]) * slope(h - theta)
                d = gv[n] + e
                gx[b, t, n] = d
                gb[n] = rho * gb[n] - rise * (e + gv[n] * s)
                gv[n] = k[n] * d
            if t:
                for n in range(N):
                    before, theta = u[b, t - 1, n], one + rise * level[b, t - 1, n]
                    gk[n] += gx[b, t, n] * (before - theta if before >= theta else before)


# --- quadratic with a synaptic current:  i' = 0.8 i + x;  q = v + 0.2 (v (v - 0.5) - w + i');  z = H(q - 1)
#     v' = q + z (-0.2 - q);  w' = w + 0.05 (k v - w) + 0.1 z  --------------------------------------------------------

syn, h_, a_ = np.float32(0.8), np.float32(0.2), np.float32(0.05)
floor, jump, bend = np.float32(-0.2), np.float32(0.1), np.float32(0.5)


@loop
def quadratic(x: Array, k: Array, z: Array, u: Array) -> None:  # noqa: D103
    B, T, N = x.shape
    i, v, w = np.empty(N, np.float32), np.empty(N, np.float32), np.empty(N, np.float32)
    for b in range(B):
        i[:] = 0
        v[:] = 0
        w[:] = 0
        for t in range(T):
            for n in range(N):
                i[n] = syn * i[n] + x[b, t, n]
                q = v[n] + h_ * (v[n] * (v[n] - bend) - w[n] + i[n])
                s = one if q >= one else np.float32(0)
                u[b, t, n] = q
                z[b, t, n] = s
                w[n] = w[n] + a_ * (k[n] * v[n] - w[n]) + jump * s
                v[n] = q + s * (floor - q)


@loop
def quadratic_adjoint(g: Array, k: Array, u: Array, gx: Array, gk: Array) -> None:  # noqa: D103
    B, T, N = g.shape
    gi, gv, gw = np.empty(N, np.float32), np.empty(N, np.float32), np.empty(N, np.float32)
    silent = np.zeros(N, np.float32)
    for b in range(B):
        gi[:] = 0
        gv[:] = 0
        gw[:] = 0
        for t in range(T - 1, -1, -1):
            last = u[b, t - 1] if t else silent
            for n in range(N):
                q, v = u[b, t, n], floor if last[n] >= one else last[n]
                s = one if q >= one else np.float32(0)
                d = gv[n] * (one - s) + (g[b, t, n] + jump * gw[n] + (floor - q) * gv[n]) * slope(q - one)
                i = gi[n] + h_ * d
                gx[b, t, n] = i
                gk[n] += a_ * gw[n] * v
                gi[n] = syn * i
                gv[n] = d * (one + h_ * (v + v - bend)) + a_ * k[n] * gw[n]
                gw[n] = (one - a_) * gw[n] - h_ * d


# --- two currents and adaptation:  f' = 0.8 f + x;  l' = 0.95 l + 0.2 x;  u = k v + f' + l' - w;  z = H(u - 1)
#     v' = u - z;  w' = 0.98 w + 0.02 v' + 0.1 z  --------------------------------------------------------------------

fast, slow, part = np.float32(0.8), np.float32(0.95), np.float32(0.2)
keep, pull = np.float32(0.98), np.float32(0.02)


@loop
def two_currents(x: Array, k: Array, z: Array, u: Array) -> None:  # noqa: D103
    B, T, N = x.shape
    f, l, v, w = np.empty(N, np.float32), np.empty(N, np.float32), np.empty(N, np.float32), np.empty(N, np.float32)  # noqa: E741
    for b in range(B):
        f[:] = 0
        l[:] = 0
        v[:] = 0
        w[:] = 0
        for t in range(T):
            for n in range(N):
                f[n] = fast * f[n] + x[b, t, n]
                l[n] = slow * l[n] + part * x[b, t, n]
                h = k[n] * v[n] + f[n] + l[n] - w[n]
                s = one if h >= one else np.float32(0)
                u[b, t, n] = h
                z[b, t, n] = s
                v[n] = h - s
                w[n] = keep * w[n] + pull * v[n] + jump * s


@loop
def two_currents_adjoint(g: Array, k: Array, u: Array, gx: Array, gk: Array) -> None:  # noqa: D103
    B, T, N = g.shape
    gf, gl, gv, gw = np.empty(N, np.float32), np.empty(N, np.float32), np.empty(N, np.float32), np.empty(N, np.float32)
    silent = np.zeros(N, np.float32)
    for b in range(B):
        gf[:] = 0
        gl[:] = 0
        gv[:] = 0
        gw[:] = 0
        for t in range(T - 1, -1, -1):
            last = u[b, t - 1] if t else silent
            for n in range(N):
                h, v = u[b, t, n], last[n] - one if last[n] >= one else last[n]
                e = gv[n] + pull * gw[n]
                d = e + (g[b, t, n] + jump * gw[n] - e) * slope(h - one)
                f, l = gf[n] + d, gl[n] + d  # noqa: E741
                gx[b, t, n] = f + part * l
                gk[n] += d * v
                gf[n] = fast * f
                gl[n] = slow * l
                gv[n] = k[n] * d
                gw[n] = keep * gw[n] - d
