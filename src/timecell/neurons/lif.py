"""Leaky integrate-and-fire units, plain and adaptive.

Membrane v, input x, threshold theta, time constant tau in steps (discretisation 1 - 1/tau, forward Euler):

    input="raw":     u_t = (1 - 1/tau) v_{t-1} + x_t
    input="scaled":  u_t = v_{t-1} + (x_t - v_{t-1}) / tau
    spike:           s_t = H(u_t - theta)
    reset="soft":    v_t = u_t - theta s_t
    reset="hard":    v_t = u_t (1 - s_t)
    reset="none":    v_t = u_t

Sources: Gerstner & Kistler, Spiking Neuron Models (2002), for the unit; Fang et al. (2021) for the learnt time
constant; Bellec et al. (2018) for the adaptive threshold.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from timecell.cell import Neuron
from timecell.neurons.surrogate import ATan, spike
from timecell.parameters import option, param
from timecell.state import State


def integrate(x: Tensor, v: Tensor, tau: Tensor, how: str) -> Tensor:
    """One Euler step of a leaky membrane; `how` is "raw" or "scaled"."""
    return v + (x - v) / tau if how == "scaled" else (1 - 1 / tau) * v + x


def reset_membrane(u: Tensor, s: Tensor, threshold: Tensor, how: str, detach: bool) -> Tensor:
    """The membrane after a spike; `how` is "soft", "hard" or "none"; `detach` keeps blame out of the reset."""
    s = s.detach() if detach else s
    if how == "soft":
        return u - threshold * s
    return u * (1 - s) if how == "hard" else u


class LIF(Neuron):
    """Leaky integrate-and-fire.

    Args:
        size: units.
        tau: membrane time constant in steps, >= 1; ``learn=("tau",)`` makes it trainable (PLIF).
        threshold: theta > 0.
        reset: "soft", "hard" or "none".
        input: "raw" or "scaled"; scaled input lets a constant x settle at v = x.
        detach: keep blame out of the reset.
        surrogate: pretended slope of the spike.

    Shapes: x [B, T, ..., N] -> spikes [B, T, ..., N] in {0, 1}; state v [B, ..., N].

    Example:
        >>> import torch
        >>> spikes, state = LIF(1, tau=2.0)(torch.full((1, 4, 1), 0.8))
        >>> spikes[0, :, 0].tolist()
        [0.0, 1.0, 0.0, 1.0]
    """

    v: State
    tau = param(20.0, unit="steps", range=(1, None), learn=False)
    threshold = param(1.0, range=(0, None), learn=False)
    reset = option("soft", choices=("soft", "hard", "none"))
    input = option("raw", choices=("raw", "scaled"))
    detach = option(False, choices=(False, True))
    surrogate = option(ATan())

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        u = integrate(x, s.v, p.tau, p.input)
        z = spike(u - p.threshold, p.surrogate)
        return z, s._replace(v=reset_membrane(u, z, p.threshold, p.reset, p.detach))


class AdaptiveLIF(Neuron):
    """LIF whose threshold rises by `beta` (1 - 1/tau_a) a spike and decays with tau_a: a slow memory of its own firing.

        b_t = (1 - 1/tau_a) b_{t-1} + z_{t-1} / tau_a ;  theta_t = threshold + beta b_t

    with z_{t-1} the spike of the step before, kept in the state.

    Args:
        size: units.
        tau: membrane time constant in steps.
        tau_a: adaptation time constant in steps.
        beta: strength of the adaptation.
        threshold: baseline theta.
        reset, input, detach, surrogate: as for `LIF`.

    Shapes: x [B, T, ..., N] -> spikes [B, T, ..., N]; states v, b, z [B, ..., N].

    Example:
        >>> import torch
        >>> x = torch.full((1, 60, 1), 0.5)
        >>> plain, _ = LIF(1, tau=5.0)(x)
        >>> tired, _ = AdaptiveLIF(1, tau=5.0, beta=5.0)(x)
        >>> bool(tired.sum() < plain.sum())
        True
    """

    v: State
    b: State
    z: State
    tau = param(20.0, unit="steps", range=(1, None), learn=False)
    tau_a = param(100.0, unit="steps", range=(1, None), learn=False)
    beta = param(1.8, range=(0, None), learn=False)
    threshold = param(1.0, range=(0, None), learn=False)
    reset = option("soft", choices=("soft", "hard", "none"))
    input = option("raw", choices=("raw", "scaled"))
    detach = option(False, choices=(False, True))
    surrogate = option(ATan())

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        b = (1 - 1 / p.tau_a) * s.b + s.z / p.tau_a
        threshold = p.threshold + p.beta * b
        u = integrate(x, s.v, p.tau, p.input)
        z = spike(u - threshold, p.surrogate)
        return z, s._replace(v=reset_membrane(u, z, threshold, p.reset, p.detach), b=b, z=z)
