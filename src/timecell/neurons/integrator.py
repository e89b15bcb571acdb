"""A leaky memory without a spike: the usual readout of a spiking net.

y_t = (1 - 1/tau) y_{t-1} + x_t                        input="raw"
y_t = y_{t-1} + (x_t - y_{t-1}) / tau                  input="scaled"
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from timecell.cell import Neuron
from timecell.neurons.lif import integrate
from timecell.parameters import option, param
from timecell.state import State


class LeakyIntegrator(Neuron):
    """Leaky integrator (the LIF membrane without threshold).

    Args:
        size: units.
        tau: time constant in steps, >= 1.
        input: "raw" or "scaled".

    Shapes: x [B, T, ..., N] -> y [B, T, ..., N]; state v [B, ..., N].

    Example:
        >>> import torch
        >>> y, state = LeakyIntegrator(1, tau=2.0)(torch.tensor([[[1.0], [0.0], [0.0]]]))
        >>> y[0, :, 0].tolist()
        [1.0, 0.5, 0.25]
    """

    v: State
    tau = param(20.0, unit="steps", range=(1, None), learn=False)
    input = option("raw", choices=("raw", "scaled"))

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        v = integrate(x, s.v, p.tau, p.input)
        return v, s._replace(v=v)
