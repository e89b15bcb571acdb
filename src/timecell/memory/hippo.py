"""HiPPO: the matrices of a linear state that is its own input's past, written in Legendre polynomials.

    dx/dt = A x + B u      with      u(t - s) ~ sum_n x_n(t) sqrt(2 n + 1) P_n(2 v - 1)

Which past the polynomials see is said by v, a lag s mapped to (0, 1], with 1 for now:

* **LegS**: v = exp(-s). All of the past, the finer the nearer.

      A_nk = -sqrt((2n+1)(2k+1)) for n > k,   -(n+1) for n = k,   0 for n < k;     B_n = sqrt(2n+1)

* **LegT**: v = 1 - s. The last unit of time, evenly, and nothing before it.

      A_nk = -sqrt((2n+1)(2k+1)) for n >= k,   and (-1)^(n-k) times that for n < k;     B_n = sqrt(2n+1)

Time is in units of the equation: a sampled signal advances it by a step dt (`timecell.memory.linear_ssm`).

Both matrices belong to one family that can be trained without leaving it, of 5 N - 2 numbers instead of N^2:

    A = P (D + T^{-1}) Q          P, D, Q diagonal, T tridiagonal          (quasiseparable of order 3)

Products with such a matrix and with its resolvent cost O(N); at the few dozen states that are usual here dense products
are as fast, so the family serves to keep A what it is while it learns.

Sources: Gu, Dao, Ermon, Rudra & Ré, "HiPPO: Recurrent memory with optimal polynomial projections" (2020),
arXiv:2008.07669; Gu et al., arXiv:2110.13985 (section 4 for the family).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from timecell.errors import InputError, unknown_name

Matrices = tuple[Float[Tensor, "N N"], Float[Tensor, "N"]]


def legs(states: int) -> Matrices:
    """(A, B) of LegS, float64.

    Example:
        >>> a, b = legs(2)
        >>> a.round(decimals=3).tolist(), b.round(decimals=3).tolist()
        ([[-1.0, -0.0], [-1.732, -2.0]], [1.0, 1.732])
    """
    n = torch.arange(states, dtype=torch.float64)
    root = (2 * n + 1).sqrt()
    return -torch.tril(torch.outer(root, root), -1) - torch.diag(n + 1), root


def legt(states: int) -> Matrices:
    """(A, B) of LegT for a window of one unit of time, float64.

    Example:
        >>> legt(2)[0].round(decimals=3).tolist()
        [[-1.0, 1.732], [-1.732, -3.0]]
    """
    n = torch.arange(states, dtype=torch.float64)
    root = (2 * n + 1).sqrt()
    sign = torch.where(n[:, None] < n, (-1.0) ** (n[:, None] - n), 1.0)
    return -sign * torch.outer(root, root), root


def gaussian(states: int) -> Matrices:
    """A random (A, B) for comparisons: A has the spectral abscissa of LegS, -1, and B the norm of LegS's.

    Example:
        >>> round(torch.linalg.eigvals(gaussian(8)[0]).real.max().item(), 6)
        -1.0
    """
    a = torch.randn(states, states, dtype=torch.float64) / states**0.5
    shift = torch.linalg.eigvals(a).real.max() + 1
    b = torch.randn(states, dtype=torch.float64)
    return a - shift * torch.eye(states, dtype=torch.float64), b * (states / b.norm())


MEMORIES: dict[str, Callable[[int], Matrices]] = {"legs": legs, "legt": legt, "gaussian": gaussian}


def matrices(memory: str, states: int) -> Matrices:
    """(A, B) by name.

    Raises:
        InputError: there is no such name, or no state.
    """
    if memory not in MEMORIES:
        raise unknown_name("memory", memory, MEMORIES)
    if states < 1:
        raise InputError("states", found=states, expected="at least 1", remedy="64 are usual")
    return MEMORIES[memory](states)


def legendre(states: int, v: Float[np.ndarray, "S"]) -> Float[np.ndarray, "S N"]:
    """sqrt(2 n + 1) P_n(2 v - 1), n < N: orthonormal on [0, 1], and what reads the past out of a state.

    Args:
        states: N.
        v: places of the past in [0, 1]: ``exp(-s)`` for the lag s in LegS, ``1 - s`` in LegT.

    Example:
        >>> legendre(3, np.array([1.0])).round(3).tolist()
        [[1.0, 1.732, 2.236]]
    """
    return np.polynomial.legendre.legvander(2 * np.asarray(v) - 1, states - 1) * np.sqrt(2 * np.arange(states) + 1)


class Fixed(nn.Module):
    """(A, B) that are not trained.

    Args:
        memory: "legs", "legt" or "gaussian".
        states: N.
    """

    a: Tensor
    b: Tensor

    def __init__(self, memory: str, states: int) -> None:
        super().__init__()
        a, b = matrices(memory, states)
        self.register_buffer("a", a.to(torch.get_default_dtype()))
        self.register_buffer("b", b.to(torch.get_default_dtype()))

    def forward(self) -> Matrices:
        """(A, B)."""
        return self.a, self.b


class Quasiseparable(nn.Module):
    """(A, B) with A = P (D + T^{-1}) Q trained inside its family.

    Args:
        memory: where it starts: "legs" or "legt".
        states: N.

    Raises:
        InputError: the matrix that it should start from does not belong to the family.

    Example:
        >>> a, _ = Quasiseparable("legs", 4)()
        >>> torch.allclose(a, legs(4)[0].float(), atol=1e-5)
        True
    """

    roles: ClassVar[dict[str, str]] = dict.fromkeys(("left", "diagonal", "right", "below", "middle", "above"), "neuron")
    left: Tensor
    diagonal: Tensor
    right: Tensor
    below: Tensor
    middle: Tensor
    above: Tensor
    b: Tensor

    def __init__(self, memory: str, states: int) -> None:
        super().__init__()
        a, b = matrices(memory, states)
        left, right = -b, b
        core = a / torch.outer(left, right)
        diagonal = core.diagonal() - 1  # such that T^{-1} has ones there
        t = torch.linalg.inv(core - torch.diag(diagonal))
        if not torch.allclose(t, torch.triu(torch.tril(t, 1), -1), atol=1e-6):
            raise InputError(
                "Quasiseparable(memory)", found=repr(memory), expected="legs or legt, which lie in the family",
                remedy="leave A fixed",
            )  # fmt: skip
        start = {"left": left, "diagonal": diagonal, "right": right,
                 "below": t.diagonal(-1), "middle": t.diagonal(), "above": t.diagonal(1)}  # fmt: skip
        for name, value in start.items():
            self.register_parameter(name, nn.Parameter(value.to(torch.get_default_dtype()).clone()))
        self.register_buffer("b", b.to(torch.get_default_dtype()))

    def forward(self) -> Matrices:
        """(A, B); the inverse is taken in float64."""
        t = torch.diag(self.middle) + torch.diag(self.below, -1) + torch.diag(self.above, 1)
        inverse = torch.linalg.inv(t.double()).to(t.dtype)
        return self.left[:, None] * (torch.diag(self.diagonal) + inverse) * self.right, self.b
