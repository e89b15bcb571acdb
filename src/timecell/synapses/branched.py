"""Excitatory weights onto the branches of a dendrite.

    y[j] = sum over i in the window of branch j of  relu(w[j, i]) x[i]

Each branch reads a window of neighbouring inputs; windows are equally far apart, may overlap, and go round from the
last input to the first. Weights do not change sign, so an input that inhibits comes with its sign: x in {-1, 0, 1}.

Source: Spieler, Rahaman, Martius, Schoelkopf & Levina, The Expressive Leaky Memory Neuron (2023): 45 windows of 100 of
the 1,278 synapses of a cortical neuron.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.errors import InputError


class BranchSynapses(nn.Module):
    """What each branch receives at an instant.

    Args:
        inputs: I.
        branches: J.
        window: inputs that a branch reads; None = twice its equal share, so that each input reaches two branches.
        weight: first value of all weights.

    Shapes: x [..., I] -> [..., J].

    Example:
        >>> BranchSynapses(6, 3, window=3, weight=1.0).windows.tolist()
        [[0, 1, 2], [2, 3, 4], [4, 5, 0]]
        >>> BranchSynapses(6, 3, window=3, weight=1.0)(torch.tensor([1.0, 0, -1, 0, 0, 0])).tolist()
        [0.0, -1.0, 1.0]
    """

    windows: Int[Tensor, "J window"]

    def __init__(self, inputs: int, branches: int, window: int | None = None, weight: float = 0.5) -> None:
        super().__init__()
        if min(inputs, branches) < 1:
            raise InputError(
                "BranchSynapses(inputs, branches)", found=(inputs, branches), expected="two positive widths",
                remedy="mend the argument",
            )  # fmt: skip
        window = min(inputs, -(-2 * inputs // branches)) if window is None else window
        if not -(-inputs // branches) <= window <= inputs:
            raise InputError(
                "BranchSynapses(window)", found=window, remedy="choose another, or leave it out",
                expected=f"{-(-inputs // branches)}, so that {branches} windows reach every input, to {inputs}",
            )  # fmt: skip
        self.inputs, self.branches, self.window = inputs, branches, window
        starts = torch.arange(branches) * inputs // branches
        self.register_buffer("windows", (starts[:, None] + torch.arange(window)) % inputs, persistent=False)
        self.weight = nn.Parameter(torch.full((branches, window), float(weight)))

    def forward(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... J"]:
        """One instant."""
        routed = self.weight.new_zeros(self.branches, self.inputs).scatter(1, self.windows, torch.relu(self.weight))
        return nn.functional.linear(x, routed)

    def extra_repr(self) -> str:
        """Widths."""
        return f"{self.inputs}, {self.branches}, window={self.window}"
