"""What a neuron declares: parameters with units and ranges, and choices that shape its equations.

    tau = tc.param(20.0, unit="steps", range=(1, None))
    reset = tc.option("soft", choices=("soft", "hard", "none"))

A learnt parameter is stored without bounds under ``<name>_raw`` and read through its constraint; a fixed one is stored
as it is under ``<name>_value``. So the optimiser never leaves the range, and nothing is clipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from timecell.errors import InputError

Default: TypeAlias = float | Callable[[tuple[int, ...]], Tensor]


def fan_in(shape: tuple[int, ...]) -> Tensor:
    """Uniform in +-1/sqrt(n), n the last axis: the usual first weights of a product ``W @ x``.

    Example:
        >>> bool((fan_in((3, 4)).abs() <= 0.5).all())
        True
    """
    return (2 * torch.rand(shape) - 1) / shape[-1] ** 0.5


class Param:
    """A declared parameter of a neuron; see `param`. On an instance it reads as the constrained value."""

    name: str

    def __init__(
        self, default: Default, unit: str, range: tuple[float | None, float | None], per: str | tuple[str, ...],
        learn: bool,
    ) -> None:  # fmt: skip
        self.default, self.unit, self.range, self.per, self.learn = default, unit, range, per, learn

    @property
    def role(self) -> str:
        """What training takes it for: the numbers of a connection are weights, those of a unit are its own."""
        return "weight" if isinstance(self.per, tuple) and len(self.per) > 1 else "neuron"

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, cell: nn.Module | None, owner: type | None = None) -> Any:
        return self if cell is None else self.value(cell)

    def value(self, cell: nn.Module) -> Tensor:
        """The value in the declared range; the constraint is ordinary autograd, outside the loop."""
        raw = cell._parameters.get(f"{self.name}_raw")
        return cell._buffers[f"{self.name}_value"] if raw is None else self.constrain(raw)  # type: ignore[return-value]

    def constrain(self, raw: Tensor) -> Tensor:
        """Any number to a number in the range: softplus above a bound, sigmoid between two."""
        low, high = self.range
        if low is not None and high is not None:
            return low + (high - low) * torch.sigmoid(raw)
        if low is not None:
            return low + nn.functional.softplus(raw)
        return raw if high is None else high - nn.functional.softplus(raw)

    def unconstrain(self, value: Tensor) -> Tensor:
        """The inverse of `constrain`."""
        low, high = self.range
        if low is not None and high is not None:
            return torch.logit((value - low) / (high - low))
        bound = high if low is None else low
        if bound is not None:
            gap = (value - bound).abs()
            return gap + torch.log(-torch.expm1(-gap))
        return value

    def check(self, owner: str, value: Tensor, strict: bool) -> None:
        """Refuse values outside the range; a learnt value may not lie on its border."""
        low, high = self.range
        inside = torch.isfinite(value) | (not strict)
        if low is not None:
            inside &= value > low if strict else value >= low
        if high is not None:
            inside &= value < high if strict else value <= high
        if not bool(inside.all()):
            left, right = ("(", ")") if strict else ("[", "]")
            bounds = f"{left}{'-inf' if low is None else low}, {'inf' if high is None else high}{right}"
            raise InputError(
                f"{owner}({self.name})", found=value.flatten()[~inside.flatten()][0].item(), expected=f"a value in {bounds} {self.unit}",
                remedy="choose a value in the range",
            )  # fmt: skip


def param(
    default: Default,
    *,
    unit: str = "1",
    range: tuple[float | None, float | None] = (None, None),
    per: Literal["layer", "unit"] | tuple[str, ...] = "layer",
    learn: bool = True,
) -> Any:
    """Declare a parameter of a `Neuron` or a `Circuit`.

    Args:
        default: value where the constructor is given none; in a `Circuit` also a function from a shape to first
            values, as `fan_in`.
        unit: what one unit of it is ("steps", "rad/step", "1").
        range: (lowest, highest), None for no bound; a learnt value is kept strictly inside.
        per: one value for the layer, or one for each unit; in a `Circuit` also the names of its axes, one or more.
        learn: whether training changes it; the constructor's ``learn=`` overrides.
    """
    return Param(default, unit, range, per, learn)


class Option:
    """A declared choice of a neuron; see `option`."""

    def __init__(self, default: Any, choices: tuple[Any, ...] | None) -> None:
        self.default, self.choices = default, choices


def option(default: Any, *, choices: tuple[Any, ...] | None = None) -> Any:
    """Declare a choice that shapes the equations (which reset, which surrogate). In `dynamics` it is ``p.<name>``.

    It is a plain, hashable Python value, fixed at construction; an ``if`` on it is resolved when the step is traced.
    """
    return Option(default, choices)
