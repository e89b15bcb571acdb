"""The expressive leaky memory neuron: leaky branches, a small network that mixes them, many slow leaky memories.

With the time constants of branches tau_b and of memories tau_m in steps, one instant is

    b_t = exp(-1/tau_b) b_{t-1} + x_t                                     branches, x_t their summed synaptic input
    d_t = 1.7159 tanh(2/3 MLP([b_t, exp(-1/tau_m) m_{t-1}]))              what they propose; MLP = W2 relu(W1 . + c1) + c2
    m_t = exp(-1/tau_m) m_{t-1} + (1 - exp(-lam/tau_m)) d_t               memories; the output is m_t

A memory learns about lam times as fast as it forgets, but never more than its proposal: slow units do not explode.

Source: Spieler, Rahaman, Martius, Schoelkopf & Levina, The Expressive Leaky Memory Neuron (2023), its second version.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from timecell.circuit import Circuit
from timecell.parameters import fan_in, param
from timecell.state import State


def log_spaced(low: float, high: float, count: int) -> Tensor:
    """Time constants from `low` to `high`, equally far apart in logarithm.

    Example:
        >>> log_spaced(1.0, 100.0, 3).round().tolist()
        [1.0, 10.0, 100.0]
    """
    return torch.logspace(torch.tensor(low).log10().item(), torch.tensor(high).log10().item(), count)


class ELM(Circuit):
    """Expressive leaky memory.

    Args:
        branches: dendritic branches, the size of the input.
        hidden: hidden units of the mixing network.
        memories: memory units, the size of the output.
        tau_m: [memories] their time constants in steps, >= 1; log-spaced in 1..150 where nothing is said (`log_spaced`).
        tau_b: time constant of the branches in steps.
        lam: how much faster memories write than they forget.

    Shapes: x [B, T, branches] -> m [B, T, memories]; states b [B, branches], m [B, memories].

    Example:
        >>> y, state = ELM(branches=3, hidden=8, memories=4)(torch.rand(2, 10, 3))
        >>> tuple(y.shape), bool((y[:, -1] == state.m).all())
        ((2, 10, 4), True)
    """

    axes = ("branches", "hidden", "memories")
    shapes = {"x": ("branches",), "b": ("branches",), "m": ("memories",)}

    b: State
    m: State
    tau_b = param(5.0, unit="steps", range=(0, None), learn=False)
    tau_m = param(
        lambda shape: log_spaced(1.0, 150.0, *shape), unit="steps", range=(0, None), per=("memories",), learn=False
    )
    lam = param(5.0, range=(0, None), learn=False)
    from_branches = param(fan_in, per=("hidden", "branches"))
    from_memories = param(fan_in, per=("hidden", "memories"))
    hidden_bias = param(0.0, per=("hidden",))
    to_memories = param(fan_in, per=("memories", "hidden"))
    memory_bias = param(0.0, per=("memories",))

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant of one sample."""
        b = torch.exp(-1 / p.tau_b) * s.b + x
        kept = torch.exp(-1 / p.tau_m) * s.m
        hidden = torch.relu(p.from_branches @ b + p.from_memories @ kept + p.hidden_bias)
        proposed = 1.7159 * torch.tanh(2 / 3 * (p.to_memories @ hidden + p.memory_bias))
        m = kept + (1 - torch.exp(-p.lam / p.tau_m)) * proposed
        return m, s._replace(b=b, m=m)
