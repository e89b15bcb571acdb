"""The smallest neuron with a memory, for the examples that the checks run on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from timecell.cell import Neuron
from timecell.state import State


class _Leak(Neuron):
    v: State

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        v = torch.tanh(0.5 * s.v + x)
        return v, s._replace(v=v)
