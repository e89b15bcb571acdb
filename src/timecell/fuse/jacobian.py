"""The Jacobian of one instant of independent units: what outputs and next states owe to inputs, states and parameters.

Unit n depends on unit n alone, so the Jacobian of a step with K states is a small matrix for each unit,

    [ dy/dx    dy/ds    dy/dp  ]        1 + K rows
    [ ds'/dx   ds'/ds   ds'/dp ]

and one pull of ones through the step's adjoint gives one row of it for all units at once. Surrogate slopes and detached
resets are in it as they are in training. Eligibility traces (e-prop) are made of this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from timecell.errors import InputError
from timecell.fuse.loop import why_plain
from timecell.fuse.trace import Step


class Jacobian(NamedTuple):
    """One instant and its derivatives. K states and P parameters in the order in which they are declared.

    Attributes:
        y: [B, ..., N] the output.
        state: K tensors [B, ..., N], the next state.
        dy_dx: [B, ..., N]
        dy_ds: [B, ..., N, K]
        dy_dp: [B, ..., N, P]
        ds_dx: [B, ..., N, K] of the next state, by the input
        ds_ds: [B, ..., N, K, K] of the next state (rows), by the state (columns)
        ds_dp: [B, ..., N, K, P]
    """

    y: Tensor
    state: tuple[Tensor, ...]
    dy_dx: Tensor
    dy_ds: Tensor
    dy_dp: Tensor
    ds_dx: Tensor
    ds_ds: Tensor
    ds_dp: Tensor


class Units(Protocol):
    """A cell that is one step of independent units; its parameters are attributes by name."""

    @property
    def instant(self) -> Step:
        """The step."""


def jacobian(cell: Units) -> Callable[[Tensor, Sequence[Tensor]], Jacobian]:
    """The function (x [B, ..., N], states, each [B, ..., N]) -> `Jacobian` of a cell's step.

    Args:
        cell: a neuron. Its parameters are read at each call.

    Raises:
        InputError: the units are not independent, so that their Jacobian is one large matrix.

    Example:
        >>> from timecell import LeakyIntegrator
        >>> now = jacobian(LeakyIntegrator(1, tau=4.0))(torch.ones(1, 1), [torch.full((1, 1), 2.0)])
        >>> now.y.item(), now.dy_dx.item(), now.dy_ds.item(), now.ds_ds.item()
        (2.5, 1.0, 0.75, 0.75)
    """
    step = cell.instant
    reason = "units that mix within a sample" if step.shapes is not None else why_plain(step, torch.float32)
    if reason is not None:
        raise InputError(
            f"jacobian({step.name})", found=reason, expected="independent units, every operation pointwise",
            remedy="write the mixing as a synapse of its own; or take torch.func.jacrev of the whole step",
        )  # fmt: skip
    k = len(step.states)

    def at(x: Float[Tensor, "B ... N"], state: Sequence[Float[Tensor, "B ... N"]]) -> Jacobian:
        values = [_value(cell, name).detach().to(x).expand_as(x) for name in step.params]
        outputs, pull = torch.func.vjp(step.function, x.detach(), *(s.detach() for s in state), *values)  # type: ignore[misc]
        rows = [pull(tuple(torch.full_like(o, float(i == row)) for i, o in enumerate(outputs))) for row in range(1 + k)]
        dx = [row[0] for row in rows]
        ds = [_stack(row[1 : 1 + k], x) for row in rows]
        dp = [_stack(row[1 + k :], x) for row in rows]
        return Jacobian(
            outputs[0], tuple(outputs[1:]), dx[0], ds[0], dp[0],
            _stack(dx[1:], x), _rows(ds[1:], ds[0]), _rows(dp[1:], dp[0]),
        )  # fmt: skip

    return at


def _value(cell: Any, name: str) -> Tensor:
    return getattr(cell, name)


def _stack(parts: Sequence[Tensor], x: Tensor) -> Tensor:
    """Along a new last axis; there may be none."""
    return torch.stack(list(parts), -1) if parts else x.new_zeros(*x.shape, 0)


def _rows(parts: Sequence[Tensor], like: Tensor) -> Tensor:
    """Along a new axis before the last one; there may be none."""
    return torch.stack(list(parts), -2) if parts else like.new_zeros(*like.shape[:-1], 0, like.shape[-1])
