"""Leaky rate units: neurons that answer with a rate instead of spikes, each with a time constant of its own.

With k = 1 - 1/tau (decay="euler") or exp(-1/tau) (decay="exp") and a nonlinearity f, which stands at one of three places:

    at="state":    h_t = f(k h_{t-1} + (1 - k) x_t)          y_t = h_t
    at="input":    h_t = k h_{t-1} + (1 - k) f(x_t)          y_t = h_t          rates, driven by f of the input
    at="output":   h_t = k h_{t-1} + (1 - k) x_t             y_t = f(h_t)       potentials, seen through f (CTRNN)

Recurrence is `timecell.Recurrent`: with x_t = W y_{t-1} + U input_t these are the usual rate networks.

Sources: Wilson & Cowan (1972) for rates driven through f; Hopfield (1984) for potentials seen through f.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from timecell.cell import Neuron
from timecell.neurons.lif import DECAYS, integrate
from timecell.parameters import option, param
from timecell.state import State

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "sigmoid": torch.sigmoid,
    "softplus": torch.nn.functional.softplus,
    "identity": lambda x: x,
}


class LeakyRate(Neuron):
    """Leaky rate unit with a trainable time constant.

    Args:
        size: units.
        tau: time constant in steps, > 1, one a unit, trained.
        activation: f, a name of `ACTIVATIONS`.
        at: where f stands: "state", "input" or "output".
        decay: "euler" or "exp".

    Shapes: x [B, T, ..., N] -> y [B, T, ..., N]; state h [B, ..., N].

    Example:
        >>> import torch
        >>> y, _ = LeakyRate(1, tau=2.0, activation="identity")(torch.ones(1, 3, 1))
        >>> [round(v, 3) for v in y[0, :, 0].tolist()]
        [0.5, 0.75, 0.875]
    """

    h: State
    tau = param(5.0, unit="steps", range=(1, None), per="unit")
    activation = option("tanh", choices=tuple(ACTIVATIONS))
    at = option("state", choices=("state", "input", "output"))
    decay = option("euler", choices=DECAYS)

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        f = ACTIVATIONS[p.activation]
        h = integrate(f(x) if p.at == "input" else x, s.h, p.tau, "scaled", p.decay)
        h = f(h) if p.at == "state" else h
        return f(h) if p.at == "output" else h, s._replace(h=h)
