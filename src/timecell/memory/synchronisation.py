"""Synchronisation: how pairs of neurons have moved together so far, as a representation.

    alpha_t = exp(-r) alpha_{t-1} + z_i z_j,   beta_t = exp(-r) beta_{t-1} + 1,   S_t = alpha_t / sqrt(beta_t)

for each pair (i, j), with a rate r of forgetting of its own: r = 0 takes all of the past alike (S = sum / sqrt(t)), a large
one only the present (S = z_i z_j). What is read off a net this way is not where its neurons are but how they went.

Source: Darlow, Regan, Risi, Seely & Jones, "Continuous thought machines" (2025), arXiv:2505.05522.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from timecell.cell import Cell, Neuron, check_channels, check_sequence
from timecell.errors import InputError
from timecell.parameters import param
from timecell.state import State, StateTree

FASTEST = 15.0
"""Rate of forgetting beyond which nothing of the past is left."""


class DecayingMean(Neuron):
    """S_t = alpha_t / sqrt(beta_t) of inputs that are products; see the module. Rates below 0 count as 0.

    Args:
        size: products.
        rate: of forgetting, one for each.

    Shapes: x [B, T, size] -> S [B, T, size]; states alpha, beta [B, size].

    Example:
        >>> y, state = DecayingMean(1, rate=0.0)(torch.ones(1, 4, 1))
        >>> [round(s, 3) for s in y[0, :, 0].tolist()]  # sqrt(t)
        [1.0, 1.414, 1.732, 2.0]
    """

    alpha: State
    beta: State
    rate = param(0.0, unit="1/step", per="unit")

    @classmethod
    def example(cls) -> DecayingMean:
        """For the checks."""
        return cls(4, rate=0.3)  # at 0 the derivative has two sides

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        kept = torch.exp(-torch.clamp(p.rate, 0.0, FASTEST))
        alpha, beta = kept * s.alpha + x, kept * s.beta + 1
        return alpha / torch.sqrt(beta), s._replace(alpha=alpha, beta=beta)


class Synchronisation(Cell):
    """The synchronisation of chosen pairs of neurons.

    Args:
        size: D neurons.
        left, right: [P] the two neurons of each pair.
        rate: of forgetting at first; every pair learns its own.

    Shapes: z [B, T, D] -> S [B, T, P]; state: alpha and beta [B, P].

    Example:
        >>> left, right = dense_pairs(torch.tensor([0, 2]), torch.tensor([1, 2]))
        >>> y, state = Synchronisation(3, left, right)(torch.rand(2, 5, 3))
        >>> tuple(y.shape)
        (2, 5, 3)
    """

    left: Tensor
    right: Tensor

    def __init__(self, size: int, left: Int[Tensor, "P"], right: Int[Tensor, "P"], rate: float = 0.0) -> None:
        super().__init__()
        for name, chosen in (("left", left), ("right", right)):
            if chosen.shape != left.shape or chosen.ndim != 1 or not bool(((chosen >= 0) & (chosen < size)).all()):
                raise InputError(
                    f"Synchronisation({name})", found=f"{list(chosen.shape)} numbers, {chosen.tolist()[:4]} ...",
                    expected=f"two lists of one length, of neurons 0 to {size - 1}", remedy="choose among the neurons",
                )  # fmt: skip
        self.size = size
        self.register_buffer("left", left)
        self.register_buffer("right", right)
        self.mean = DecayingMean(len(left), rate=rate)

    @classmethod
    def example(cls) -> Synchronisation:
        """For the checks."""
        return cls(4, torch.tensor([0, 1, 2]), torch.tensor([1, 1, 3]), rate=0.3)  # at 0 the derivative has two sides

    def forward(
        self, z: Float[Tensor, "B T D"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T P"], StateTree]:
        """Whole sequences."""
        check_sequence("Synchronisation(z)", z, lengths)
        check_channels("Synchronisation(z)", z, self.size)
        products = z.index_select(-1, self.left) * z.index_select(-1, self.right)
        return self.mean(products, state, lengths=lengths)


def dense_pairs(left: Int[Tensor, "n"], right: Int[Tensor, "n"]) -> tuple[Int[Tensor, "P"], Int[Tensor, "P"]]:
    """The upper triangle of two lists of neurons, n (n + 1) / 2 pairs.

    Example:
        >>> [p.tolist() for p in dense_pairs(torch.tensor([3, 4]), torch.tensor([5, 6]))]
        [[3, 3, 4], [5, 6, 6]]
    """
    i, j = torch.triu_indices(len(left), len(right))
    return left[i], right[j]
