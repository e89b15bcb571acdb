"""What reading and writing NIR graphs share."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.cell import Cell, check_sequence
from timecell.combine import silence
from timecell.errors import InputError, MissingExtra
from timecell.state import StateTree


class Scale(Cell):
    """x times a factor for each unit.

    Args:
        scale: factors, of the shape of the units.

    Shapes: x [B, T, ...] -> y of the same shape; no state.

    Example:
        >>> y, _ = Scale(torch.tensor([1.0, 10.0]))(torch.ones(1, 1, 2))
        >>> y.tolist()
        [[[1.0, 10.0]]]
    """

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.as_tensor(scale, dtype=torch.get_default_dtype()).clone())

    @classmethod
    def example(cls) -> Scale:
        """For the checks."""
        return cls(torch.tensor([1.0, 2.0, 3.0, 4.0]))

    def forward(
        self, x: Float[Tensor, "B T ..."], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T ..."], StateTree]:
        """Every instant on its own."""
        check_sequence("Scale(x)", x, lengths)
        return silence(x * self.scale.to(x.dtype), lengths), None


def package() -> Any:
    """The package nir."""
    try:
        import nir
    except ImportError:
        raise MissingExtra("nir", "nir", "NIR graphs") from None
    return nir


def refused(place: str, found: str, expected: str, remedy: str) -> InputError:
    """The error for what one side says and the other cannot."""
    return InputError(place, found=found, expected=expected, remedy=remedy)
