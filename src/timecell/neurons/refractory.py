"""The refractory period: for some steps after a spike a unit keeps its membrane where it is and stays silent.

The steps that are left, `wait`, are part of the state and counted down, one a step. Whatever is not the membrane
(synaptic currents, conductances) goes on meanwhile. A period of R steps keeps two spikes at least R + 1 steps apart, so
no unit fires at more than 1 / (R + 1); a part of a step counts as a whole one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from timecell.cell import Neuron
from timecell.neurons.lif import LIF
from timecell.parameters import param
from timecell.state import State


class _Refractory(Neuron):
    """What a unit with a refractory period declares beside its own dynamics."""

    wait: State
    refractory = param(2.0, unit="steps", range=(0, None), learn=False)


def pause(z: Tensor, s: Any, after: Any, p: Any) -> tuple[Tensor, Any]:
    """Silence and a held membrane while there are steps to wait; a spike starts the waiting anew.

    Args:
        z: the spike, and `after`: the state, as they would be without a refractory period.
        s: the state before this step.
        p: the unit's parameters.
    """
    waiting = s.wait > 0
    z = torch.where(waiting, torch.zeros_like(z), z)
    wait = torch.where(waiting, s.wait - 1, p.refractory * z)
    return z, after._replace(v=torch.where(waiting, s.v, after.v), wait=wait)


class RefractoryLIF(_Refractory, LIF):
    """`LIF` with a refractory period.

    Args:
        size: units.
        refractory: steps after a spike during which the unit ignores its input and cannot fire.
        tau, threshold, reset, input, decay, reset_delay, detach, surrogate: as for `LIF`.

    Shapes: x [B, T, ..., N] -> spikes [B, T, ..., N] in {0, 1}; states v, wait [B, ..., N].

    Example:
        >>> import torch
        >>> spikes, _ = RefractoryLIF(1, refractory=2)(torch.full((1, 7, 1), 5.0))
        >>> spikes[0, :, 0].tolist()
        [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    """

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        z, after = LIF.dynamics(x, s, p)
        return pause(z, s, after, p)
