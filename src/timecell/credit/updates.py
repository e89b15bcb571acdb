"""What becomes of blame: from the two factors of a synapse's blame to the gradient of its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Factors(NamedTuple):
    """Blame of a synapse's weights before it is summed: weight [o, i] is blamed for delta[o] pre[i].

    Attributes:
        delta: [..., out] what the outputs are blamed for.
        pre: [..., in] what came in (or a trace of it); or [..., out, in] where each synapse has a trace of its own.
    """

    delta: Tensor
    pre: Tensor


class Update(Protocol):
    """Makes a gradient of factors. A frozen dataclass, or any function of this form."""

    def __call__(self, factors: Factors, synapse: nn.Module) -> Float[Tensor, "out in"]:
        """The gradient of the synapse's weight, as a matrix.

        Args:
            factors: of one slice of time: the leading axes are samples, steps and, in convolutions, positions.
            synapse: whose weight it is: what an update knows about a synapse it can look up by it.
        """


@dataclass(frozen=True)
class Gradient:
    """The sum over samples and steps: gradient descent.

    Example:
        >>> Gradient()(Factors(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0, 0.0], [1.0, 3.0]])), nn.Linear(2, 1))
        tensor([[3., 6.]])
    """

    def __call__(self, factors: Factors, synapse: nn.Module) -> Float[Tensor, "out in"]:
        """Sum of products."""
        delta, pre = factors
        own = pre.ndim > delta.ndim
        return torch.einsum("...o,...oi->oi" if own else "...o,...i->oi", delta, pre)


@dataclass(frozen=True)
class OrthogonalProjection:
    """Weights learn nothing along given directions of their input: pre - pre H^T H (HLOP: Xiao et al., 2024).

    So what a synapse answers to inputs within the subspace stays as it is; biases and norms are not protected.

    Attributes:
        subspace: synapse -> H [k, in] with orthonormal rows; None where nothing is protected.
        update: what is made of the projected factors.

    Example:
        >>> protect_first = OrthogonalProjection(lambda synapse: torch.tensor([[1.0, 0.0]]))
        >>> protect_first(Factors(torch.ones(1, 1), torch.ones(1, 2)), nn.Linear(2, 1))
        tensor([[0., 1.]])
    """

    subspace: Callable[[nn.Module], Tensor | None]
    update: Update = Gradient()

    def __call__(self, factors: Factors, synapse: nn.Module) -> Float[Tensor, "out in"]:
        """The update of the part of pre that is orthogonal to the subspace."""
        rows = self.subspace(synapse)
        pre = factors.pre if rows is None else factors.pre - factors.pre @ rows.T @ rows
        return self.update(factors._replace(pre=pre), synapse)
