"""Integrate-and-fire units: perfect, leaky, adaptive; and the conventions that the whole family shares.

Membrane v, input x, threshold theta, time constant tau in steps, k = the share of the membrane that is left after one
step. A unit integrates, fires where it reaches the threshold, and is reset:

    decay="euler":   k = 1 - 1/tau                      decay="exp":      k = exp(-1/tau)
    input="raw":     u_t = k v_{t-1} + x_t              input="scaled":   u_t = k v_{t-1} + (1 - k) x_t
    spike:           s_t = H(u_t - theta)
    reset="soft":    v_t = u_t - theta s_t
    reset="hard":    v_t = u_t (1 - s_t)
    reset="none":    v_t = u_t

With ``reset_delay=True`` a spike resets the membrane one step later, after that step's input has come in: soft reset
takes theta from the next u, hard reset empties the next u, input and all. Potentials are measured from rest: a resting
potential v_r that is also the reset potential is a threshold of theta - v_r.

Sources: Gerstner & Kistler, Spiking Neuron Models (2002), for the unit; Fang et al. (2021) for the learnt time
constant; Bellec et al. (2018) for the adaptive threshold.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from timecell.cell import Neuron
from timecell.neurons.surrogate import ATan, spike
from timecell.parameters import option, param
from timecell.state import State

DECAYS = ("euler", "exp")
INPUTS = ("raw", "scaled")


def leak(tau: Tensor, decay: str) -> Tensor:
    """The share that a decaying quantity loses in one step, 1 - k; `decay` is "euler" or "exp"."""
    return 1 / tau if decay == "euler" else -torch.expm1(-1 / tau)


def integrate(x: Tensor, v: Tensor, tau: Tensor, input: str, decay: str) -> Tensor:
    """One step of a leaky membrane; `input` is "raw" or "scaled", `decay` as for `leak`."""
    lost = leak(tau, decay)
    return (1 - lost) * v + x if input == "raw" else v + lost * (x - v)


def reset_membrane(u: Tensor, s: Tensor, threshold: Tensor, how: str, detach: bool) -> Tensor:
    """The membrane after a spike; `how` is "soft", "hard" or "none"; `detach` keeps blame out of the reset."""
    s = s.detach() if detach else s
    if how == "soft":
        return u - threshold * s
    return u * (1 - s) if how == "hard" else u


def fire(u: Tensor, v: Tensor, threshold: Tensor, before: Tensor, p: Any) -> tuple[Tensor, Tensor]:
    """The spike of an integrated membrane, and the membrane after it.

    Args:
        u: membrane with this step's input.
        v: membrane that the last step left; with a delayed reset it tells whether the unit fired then.
        threshold: theta now.
        before: theta at the last step.
        p: the unit's options.
    """
    if p.reset_delay:
        u = reset_membrane(u, spike(v - before, p.surrogate), before, p.reset, p.detach)
        return spike(u - threshold, p.surrogate), u
    s = spike(u - threshold, p.surrogate)
    return s, reset_membrane(u, s, threshold, p.reset, p.detach)


class _Firing(Neuron):
    """What every unit of the family declares."""

    v: State
    threshold = param(1.0, range=(0, None), learn=False)
    reset = option("soft", choices=("soft", "hard", "none"))
    reset_delay = option(False, choices=(False, True))
    detach = option(False, choices=(False, True))
    surrogate = option(ATan())


class IF(_Firing):
    """Perfect integrate-and-fire: a membrane without a leak. With soft reset it fires at the rate x / threshold.

    Args:
        size: units.
        threshold: theta > 0.
        reset: "soft", "hard" or "none".
        reset_delay: a spike resets the membrane one step later.
        detach: keep blame out of the reset.
        surrogate: pretended slope of the spike.

    Shapes: x [B, T, ..., N] -> spikes [B, T, ..., N] in {0, 1}; state v [B, ..., N].

    Example:
        >>> import torch
        >>> spikes, state = IF(1)(torch.full((1, 6, 1), 0.5))
        >>> spikes[0, :, 0].tolist()
        [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    """

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        z, v = fire(s.v + x, s.v, p.threshold, p.threshold, p)
        return z, s._replace(v=v)


class LIF(_Firing):
    """Leaky integrate-and-fire.

    Args:
        size: units.
        tau: membrane time constant in steps, >= 1; ``learn=("tau",)`` makes it trainable (PLIF).
        threshold: theta > 0.
        reset: "soft", "hard" or "none".
        input: "raw" or "scaled"; scaled input lets a constant x settle at v = x.
        decay: how tau gives the share that is left after a step: "euler", 1 - 1/tau, or "exp", exp(-1/tau).
        reset_delay: a spike resets the membrane one step later.
        detach: keep blame out of the reset.
        surrogate: pretended slope of the spike.

    Shapes: x [B, T, ..., N] -> spikes [B, T, ..., N] in {0, 1}; state v [B, ..., N].

    Example:
        >>> import torch
        >>> spikes, state = LIF(1, tau=2.0)(torch.full((1, 4, 1), 0.8))
        >>> spikes[0, :, 0].tolist()
        [0.0, 1.0, 0.0, 1.0]
    """

    tau = param(20.0, unit="steps", range=(1, None), learn=False)
    input = option("raw", choices=INPUTS)
    decay = option("euler", choices=DECAYS)

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        u = integrate(x, s.v, p.tau, p.input, p.decay)
        z, v = fire(u, s.v, p.threshold, p.threshold, p)
        return z, s._replace(v=v)


class AdaptiveLIF(LIF):
    """LIF whose threshold rises by `beta` (1 - k_a) a spike and decays with tau_a: a slow memory of its own firing.

        b_t = k_a b_{t-1} + (1 - k_a) z_{t-1} ;  theta_t = threshold + beta b_t

    with k_a the share that tau_a leaves and z_{t-1} the spike of the step before, kept in the state.

    Args:
        size: units.
        tau: membrane time constant in steps.
        tau_a: adaptation time constant in steps.
        beta: strength of the adaptation.
        threshold: baseline theta.
        reset, input, decay, reset_delay, detach, surrogate: as for `LIF`.

    Shapes: x [B, T, ..., N] -> spikes [B, T, ..., N]; states v, b, z [B, ..., N].

    Example:
        >>> import torch
        >>> x = torch.full((1, 60, 1), 0.5)
        >>> plain, _ = LIF(1, tau=5.0)(x)
        >>> tired, _ = AdaptiveLIF(1, tau=5.0, beta=5.0)(x)
        >>> bool(tired.sum() < plain.sum())
        True
    """

    b: State
    z: State
    tau_a = param(100.0, unit="steps", range=(1, None), learn=False)
    beta = param(1.8, range=(0, None), learn=False)

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        lost = leak(p.tau_a, p.decay)
        b = (1 - lost) * s.b + lost * s.z
        threshold, before = (p.threshold + p.beta * level for level in (b, s.b))
        u = integrate(x, s.v, p.tau, p.input, p.decay)
        z, v = fire(u, s.v, threshold, before, p)
        return z, s._replace(v=v, b=b, z=z)
