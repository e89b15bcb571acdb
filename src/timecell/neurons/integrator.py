"""A leaky memory without a spike: the usual readout of a spiking net.

    y_t = k y_{t-1} + x_t                   input="raw"
    y_t = k y_{t-1} + (1 - k) x_t           input="scaled"

with k = 1 - 1/tau (decay="euler") or exp(-1/tau) (decay="exp").
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from timecell.cell import Neuron
from timecell.neurons.lif import DECAYS, INPUTS, integrate
from timecell.parameters import option, param
from timecell.state import State


class LeakyIntegrator(Neuron):
    """Leaky integrator (the LIF membrane without threshold).

    Args:
        size: units.
        tau: time constant in steps, >= 1.
        input: "raw" or "scaled"; scaled input lets a constant x settle at y = x.
        decay: how tau gives k: "euler" or "exp".

    Shapes: x [B, T, ..., N] -> y [B, T, ..., N]; state v [B, ..., N].

    Example:
        >>> import torch
        >>> y, state = LeakyIntegrator(1, tau=2.0)(torch.tensor([[[1.0], [0.0], [0.0]]]))
        >>> y[0, :, 0].tolist()
        [1.0, 0.5, 0.25]
    """

    v: State
    tau = param(20.0, unit="steps", range=(1, None), learn=False)
    input = option("raw", choices=INPUTS)
    decay = option("euler", choices=DECAYS)

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        v = integrate(x, s.v, p.tau, p.input, p.decay)
        return v, s._replace(v=v)
