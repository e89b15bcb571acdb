"""Traces: what a synapse remembers of spikes that have passed.

tr_t = exp(-1/tau) tr_{t-1} + s_t                  one exponential a spike
tr_t = slow_t - fast_t                             with a rise: the difference of two such traces
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from timecell.cell import Neuron
from timecell.parameters import param
from timecell.state import State


class Trace(Neuron):
    """Exponential trace: each spike adds 1, which decays with tau.

    Args:
        size: units.
        tau: time constant in steps.

    Shapes: x [B, T, ..., N] -> trace [B, T, ..., N]; state tr [B, ..., N].

    Example:
        >>> import torch
        >>> y, _ = Trace(1, tau=1.0)(torch.tensor([[[1.0], [0.0], [1.0]]]))
        >>> [round(v, 3) for v in y[0, :, 0].tolist()]
        [1.0, 0.368, 1.135]
    """

    tr: State
    tau = param(20.0, unit="steps", range=(0, None), learn=False)

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        tr = torch.exp(-1 / p.tau) * s.tr + x
        return tr, s._replace(tr=tr)


class DoubleTrace(Neuron):
    """Double-exponential trace: each spike adds exp(-t/tau) - exp(-t/tau_rise), which is 0 at the spike itself.

    Args:
        size: units.
        tau: time constant of the decay in steps.
        tau_rise: time constant of the rise in steps, shorter than tau.

    Shapes: x [B, T, ..., N] -> trace [B, T, ..., N]; states slow, fast [B, ..., N].

    Example:
        >>> import torch
        >>> y, _ = DoubleTrace(1, tau=2.0, tau_rise=1.0)(torch.tensor([[[1.0], [0.0], [0.0]]]))
        >>> [round(v, 3) for v in y[0, :, 0].tolist()]
        [0.0, 0.239, 0.233]
    """

    slow: State
    fast: State
    tau = param(20.0, unit="steps", range=(0, None), learn=False)
    tau_rise = param(2.0, unit="steps", range=(0, None), learn=False)

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        slow, fast = torch.exp(-1 / p.tau) * s.slow, torch.exp(-1 / p.tau_rise) * s.fast
        return slow - fast, s._replace(slow=slow + x, fast=fast + x)  # what x adds to both cancels in the output
