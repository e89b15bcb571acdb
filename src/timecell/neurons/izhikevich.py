"""Izhikevich's quadratic unit with a recovery variable: many firing patterns from a few numbers.

    C dv/dt = k (v - v_r)(v - v_t) - u + bias + x
      du/dt = a (b (v - v_r) - u)
    v >= v_peak:   a spike;  v <- c,  u <- u + d

This is the general form (Izhikevich, 2007; mV, ms, pF, pA). The unit of 2003, v' = 0.04 v^2 + 5 v + 140 - u + I and
u' = a (b v - u), is the same with C = 1, k = 0.04, v_r = -65, v_t = -60, v_peak = 30, bias = 65 b - 16 and u counted
from -65 b: see `IZHIKEVICH_2003`. Presets are keyword arguments:

    Izhikevich(100, **IZHIKEVICH_2003["fast spiking"])

Integration: each of the `substeps` of a step takes v by the linearised flow to second order, implicitly where the flow
contracts, h f / (1 + h |f'| / 2), and explicitly where it expands, h f (1 + h f' / 2). So a strong inhibition never
throws v past the middle between v_r and v_t, whatever the step. u takes one forward Euler step from the v before, stable
for a dt < 2. A spike comes out at the end of its step: at dt = 1 ms the presets fire within 5 % of their rate at a fine step,
the resonator, which fires every 5 ms, within 16 %; a smaller dt brings them closer.

Sources: Izhikevich (2003), Simple model of spiking neurons, for the first set; Izhikevich (2007), Dynamical systems in
neuroscience, chapter 8, for the second (the book's fast-spiking unit has another recovery and is not of this form).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from timecell.cell import Neuron
from timecell.neurons.surrogate import ATan, spike
from timecell.parameters import option, param
from timecell.state import State, StateTree


def _2003(a: float, b: float, c: float, d: float) -> Mapping[str, float]:
    same = {"C": 1.0, "k": 0.04, "v_r": -65.0, "v_t": -60.0, "v_peak": 30.0, "bias": 65 * b - 16}
    return MappingProxyType({**same, "a": a, "b": b, "c": c, "d": d})


IZHIKEVICH_2003: Mapping[str, Mapping[str, float]] = MappingProxyType({
    "regular spiking": _2003(0.02, 0.2, -65.0, 8.0),
    "intrinsically bursting": _2003(0.02, 0.2, -55.0, 4.0),
    "chattering": _2003(0.02, 0.2, -50.0, 2.0),
    "fast spiking": _2003(0.1, 0.2, -65.0, 2.0),
    "low-threshold spiking": _2003(0.02, 0.25, -65.0, 2.0),
    "resonator": _2003(0.1, 0.26, -65.0, 2.0),
})  # fmt: skip


def _2007(
    C: float, k: float, v_r: float, v_t: float, v_peak: float, a: float, b: float, c: float, d: float
) -> Mapping[str, float]:
    return MappingProxyType({**locals(), "bias": 0.0})


IZHIKEVICH_2007: Mapping[str, Mapping[str, float]] = MappingProxyType({
    "regular spiking": _2007(100.0, 0.7, -60.0, -40.0, 35.0, 0.03, -2.0, -50.0, 100.0),
    "intrinsically bursting": _2007(150.0, 1.2, -75.0, -45.0, 50.0, 0.01, 5.0, -56.0, 130.0),
    "chattering": _2007(50.0, 1.5, -60.0, -40.0, 25.0, 0.03, 1.0, -40.0, 150.0),
})  # fmt: skip


class Izhikevich(Neuron):
    """Quadratic integrate-and-fire with recovery. The default is the regular-spiking unit of 2007.

    Args:
        size: units.
        C: capacitance.
        k: curvature of the current around rest.
        v_r, v_t: resting and instantaneous threshold potential.
        v_peak: where a spike is cut off and counted.
        a: rate of the recovery variable, 1/ms.
        b: its slope against v.
        c, d: potential after a spike, and what a spike adds to the recovery variable.
        bias: constant current.
        dt: length of a step in ms.
        substeps: integration steps in one step: 1, 2 or 4.
        detach: keep blame out of the reset.
        surrogate: pretended slope of the spike, at (v - v_peak) / (v_peak - v_r).

    Shapes: x [B, T, ..., N] (current) -> spikes [B, T, ..., N] in {0, 1}; states v, u [B, ..., N], which start at
    v_r and 0.

    Example:
        >>> import torch
        >>> current = torch.full((1, 1000, 1), 10.0)
        >>> regular, _ = Izhikevich(1, **IZHIKEVICH_2003["regular spiking"])(current)
        >>> fast, _ = Izhikevich(1, **IZHIKEVICH_2003["fast spiking"])(current)
        >>> int(fast.sum()) > 2 * int(regular.sum()) > 0
        True
    """

    v: State
    u: State
    C = param(100.0, unit="pF", range=(0, None), learn=False)
    k = param(0.7, unit="pA/mV^2", range=(0, None), learn=False)
    v_r = param(-60.0, unit="mV", learn=False)
    v_t = param(-40.0, unit="mV", learn=False)
    v_peak = param(35.0, unit="mV", learn=False)
    a = param(0.03, unit="1/ms", range=(0, None), learn=False)
    b = param(-2.0, unit="pA/mV", learn=False)
    c = param(-50.0, unit="mV", learn=False)
    d = param(100.0, unit="pA", learn=False)
    bias = param(0.0, unit="pA", learn=False)
    dt = param(1.0, unit="ms", range=(0, None), learn=False)
    substeps = option(2, choices=(1, 2, 4))
    detach = option(False, choices=(False, True))
    surrogate = option(ATan())

    def initial_state(self, batch: int, like: Tensor) -> StateTree:
        """At rest: v = v_r, u = 0."""
        zero = super().initial_state(batch, like)
        return zero._replace(v=zero.v + self.v_r.to(zero.v.dtype))

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        v, h = s.v, p.dt / (p.substeps * p.C)
        for _ in range(p.substeps):
            flow = p.k * (v - p.v_r) * (v - p.v_t) - s.u + p.bias + x
            slope = p.k * (2 * v - p.v_r - p.v_t)
            move = h * flow * (1 + h / 2 * torch.relu(slope)) / (1 + h / 2 * torch.relu(-slope))
            v = torch.where(v < p.v_peak, v + move, v)  # an upstroke ends at its peak
        u = s.u + p.dt * p.a * (p.b * (s.v - p.v_r) - s.u)
        z = spike((v - p.v_peak) / (p.v_peak - p.v_r), p.surrogate)
        fired = z.detach() if p.detach else z
        return z, s._replace(v=v + fired * (p.c - v), u=u + fired * p.d)
