"""Units whose input arrives through a synapse with dynamics of its own: a current, or two conductances.

    current:        i_t = k_syn i_{t-1} + x_t          the membrane integrates i instead of x
    conductances:   g_t = k_g g_{t-1} + arrivals       the membrane is drawn towards each one's reversal potential

Sources: Gerstner & Kistler, Spiking Neuron Models (2002); Diehl & Cook (2015) for the conductance-based unit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from timecell.neurons.lif import LIF, fire, integrate
from timecell.neurons.refractory import _Refractory, pause
from timecell.neurons.surrogate import ATan, spike
from timecell.parameters import option, param
from timecell.state import State


class SynapticLIF(LIF):
    """LIF driven by a synaptic current: second order, also called current-based or CUBA LIF.

        i_t = k_syn i_{t-1} + x_t ;  u_t = k v_{t-1} + i_t  (raw), or k v_{t-1} + (1 - k) i_t  (scaled)

    Below threshold the membrane's answer to one input is the difference of two exponentials.

    Args:
        size: units.
        tau_syn: time constant of the current in steps, >= 1.
        tau: time constant of the membrane in steps, >= 1.
        threshold, reset, input, decay, reset_delay, detach, surrogate: as for `LIF`; `decay` goes for both constants.

    Shapes: x [B, T, ..., N] -> spikes [B, T, ..., N] in {0, 1}; states v, i [B, ..., N].

    Example:
        >>> import torch
        >>> x = torch.tensor([[[1.0], [0.0], [0.0]]])
        >>> spikes, state = SynapticLIF(1, tau_syn=2.0, tau=2.0, threshold=9.0)(x)
        >>> state.v.item(), state.i.item()
        (0.75, 0.25)
    """

    i: State
    tau_syn = param(5.0, unit="steps", range=(1, None), learn=False)

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        i = integrate(x, s.i, p.tau_syn, "raw", p.decay)
        u = integrate(i, s.v, p.tau, p.input, p.decay)
        z, v = fire(u, s.v, p.threshold, p.threshold, p)
        return z, s._replace(v=v, i=i)


class RefractorySynapticLIF(_Refractory, SynapticLIF):
    """`SynapticLIF` with a refractory period, during which its current goes on.

    Args:
        size: units.
        refractory: steps after a spike during which the membrane is held and the unit cannot fire.
        tau_syn, tau, threshold, reset, input, decay, reset_delay, detach, surrogate: as for `SynapticLIF`.

    Shapes: x [B, T, ..., N] -> spikes [B, T, ..., N] in {0, 1}; states v, i, wait [B, ..., N].

    Example:
        >>> import torch
        >>> spikes, _ = RefractorySynapticLIF(1, refractory=3)(torch.full((1, 8, 1), 5.0))
        >>> spikes[0, :, 0].tolist()
        [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    """

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        z, after = SynapticLIF.dynamics(x, s, p)
        return pause(z, s, after, p)


class ConductanceLIF(_Refractory):
    """LIF with an excitatory and an inhibitory conductance (conductance-based or COBA LIF), and a refractory period.

        g_e <- k_e g_e + max(x, 0) ;  g_i <- k_i g_i + max(-x, 0)
        tau dv/dt = -v + g_e (e_exc - v) + g_i (e_inh - v)

    A unit has one input: what is positive in it drives g_e, what is negative g_i; connect inhibitory units with negative
    weights. Conductances are in units of the leak, potentials are measured from rest. The membrane takes the exact
    solution for conductances that stand still within a step (exponential Euler), which is stable for any of them; the
    conductances decay by exp(-1/tau_exc) and exp(-1/tau_inh).

    Args:
        size: units.
        tau: membrane time constant in steps.
        tau_exc, tau_inh: time constants of the conductances in steps.
        e_exc, e_inh: reversal potentials; the default unit of potential is the distance from rest to threshold.
        threshold: theta > 0.
        v_reset: potential after a spike.
        refractory: steps after a spike during which the membrane is held and the unit cannot fire.
        detach: keep blame out of the reset.
        surrogate: pretended slope of the spike.

    Shapes: x [B, T, ..., N] -> spikes [B, T, ..., N] in {0, 1}; states v, g_e, g_i, wait [B, ..., N].

    Example:
        >>> import torch
        >>> x = torch.full((1, 200, 1), 0.1)
        >>> excited, _ = ConductanceLIF(1)(x)
        >>> inhibited, _ = ConductanceLIF(1)(-x)
        >>> int(excited.sum()) > 0, int(inhibited.sum())
        (True, 0)
    """

    v: State
    g_e: State
    g_i: State
    tau = param(20.0, unit="steps", range=(0, None), learn=False)
    tau_exc = param(5.0, unit="steps", range=(0, None), learn=False)
    tau_inh = param(10.0, unit="steps", range=(0, None), learn=False)
    e_exc = param(5.0, learn=False)
    e_inh = param(-1.0, learn=False)
    threshold = param(1.0, range=(0, None), learn=False)
    v_reset = param(0.0, learn=False)
    detach = option(False, choices=(False, True))
    surrogate = option(ATan())

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        g_e = integrate(torch.relu(x), s.g_e, p.tau_exc, "raw", "exp")
        g_i = integrate(torch.relu(-x), s.g_i, p.tau_inh, "raw", "exp")
        total = 1 + g_e + g_i
        settles_at = (g_e * p.e_exc + g_i * p.e_inh) / total
        u = settles_at + (s.v - settles_at) * torch.exp(-total / p.tau)
        z = spike(u - p.threshold, p.surrogate)
        v = u + (z.detach() if p.detach else z) * (p.v_reset - u)
        return pause(z, s, s._replace(v=v, g_e=g_e, g_i=g_i), p)
