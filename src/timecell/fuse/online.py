"""One instant of a fused step, made ready once and called again and again: what streaming costs is the kernel.

A loop over a whole sequence finds its plan, lays out its arguments and makes its results at every call; for a single
instant of a few hundred units that takes a hundred times as long as the kernel does. Here it is done beforehand. The
kernel is the one that runs over sequences, so the numbers are the same to the last bit.

An instant happens in two moves: a call computes output and next state, `keep` puts the next state in the place of the
last one. So an instant that fails elsewhere in a net can be given up.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from timecell.fuse import cache, pool
from timecell.fuse.plan import array
from timecell.fuse.plans import plan, plan_key
from timecell.fuse.row import LANES
from timecell.fuse.row_plan import flat, group_lengths, pack, unpack
from timecell.fuse.trace import Step


def online(step: Step, states: Sequence[Tensor], params: Sequence[Tensor]) -> Online:
    """A step with its state and its parameters, on the CPU.

    Args:
        step: the instant; one that can be fused.
        states: before the first call, each [B, ...] in float32 or float64; the kernel computes in the same.
        params: in the type of the states, each broadcastable to the unit shape ``...``, or as `Step.shapes` says.

    Example:
        >>> def count(x, n):
        ...     return n + x, n + x
        >>> instant = online(Step("Count", count, ("x",), ("n",), (), count, "count"), [torch.zeros(1, 2)], [])
        >>> instant(torch.ones(1, 2)).tolist()
        [[1.0, 1.0]]
        >>> instant.keep()
        >>> instant(torch.ones(1, 2)).tolist()
        [[2.0, 2.0]]
    """
    return (_Unit if step.shapes is None else _Row)(step, states, params)


class Online:
    """A step with its state and its parameters: what both grains have.

    Attributes:
        shape: of the input, [B, ...].
    """

    shape: torch.Size

    def __init__(self, step: Step, states: Sequence[Tensor], params: Sequence[Tensor]) -> None:
        self.rows = len(states[0])
        self.plan = plan(plan_key(step, states[0].dtype))
        self.program = self.plan.inference
        self.kernel = cache.load(self.program.source).forward
        self.inputs = [n for n in self.program.arguments if n in step.inputs]
        self.given = [g.copy() for g in self._given(params)]

    def read(self, params: Sequence[Tensor]) -> None:
        """Take other values of the parameters from here on."""
        for room, value in zip(self.given, self._given(params)):
            room[...] = value

    def _given(self, params: Sequence[Tensor]) -> list[np.ndarray]:
        """What the kernel reads of the parameters."""
        raise NotImplementedError

    def __call__(self, x: Tensor) -> Tensor:
        """The output [B, ...] at the next instant, in the type of x, which has the right shape; without grad mode."""
        raise NotImplementedError

    def keep(self) -> None:
        """Go on from the state that the last call made."""
        raise NotImplementedError

    def states(self) -> list[Tensor]:
        """The states that the next call begins with, each [B, ...]; copies."""
        raise NotImplementedError


class _Unit(Online):
    """Independent units: the kernel reads one row of the state and writes the other."""

    def __init__(self, step: Step, states: Sequence[Tensor], params: Sequence[Tensor]) -> None:
        first = states[0]
        self.shape, self.units = first.shape, prod(first.shape[1:])
        super().__init__(step, states, params)
        self.x, self.y = (first.new_empty(self.shape) for _ in range(2))
        self.s = first.new_empty(len(states), self.rows, 2, self.units)
        self.before, self.after = (self.s.numpy()[:, :, row] for row in range(2))
        for row, state in zip(self.before, states):
            row[...] = state.detach().numpy().reshape(self.rows, self.units)
        instant = (self.rows, 1, self.units)
        self.arguments = [  # in the order of `Plan.forward`
            *(self.x.view(instant).numpy() for _ in self.inputs), *self.s.numpy(), *self.given,
            self.plan.constants(self.program), self.y.view(instant).numpy(),
            np.ones(self.rows, np.int64), np.ones(len(states), np.int64),
        ]  # fmt: skip

    def _given(self, params: Sequence[Tensor]) -> list[np.ndarray]:
        rows = [q.detach().expand(self.shape[1:]).reshape(1, -1) for q in params]
        return [array(g) for g in self.plan.given(self.program, rows)]

    def __call__(self, x: Tensor) -> Tensor:
        self.x.copy_(x)
        pool.run(self.kernel, self.arguments, self.rows, 1, self.units)
        return self.y.clone().to(x.dtype)

    def keep(self) -> None:
        self.before[...] = self.after

    def states(self) -> list[Tensor]:
        return [s.reshape(self.shape).clone() for s in self.s[:, :, 0]]


class _Row(Online):
    """Units that mix inside a sample: the kernel writes the next state over the last, so it works on a copy."""

    def __init__(self, step: Step, states: Sequence[Tensor], params: Sequence[Tensor]) -> None:
        super().__init__(step, states, params)
        assert step.shapes is not None
        first, groups, units = states[0], -(-self.rows // LANES), prod(step.shapes[0])
        self.shape = torch.Size((self.rows, *step.shapes[0]))
        self.ends = [s.shape for s in states]
        self.x = first.new_zeros(groups, 1, units, LANES)
        self.y = first.new_empty(groups, 1, prod(self.plan.output_shape), LANES)
        self.before = [pack(s.detach().reshape(self.rows, 1, -1)) for s in states]
        self.after = [s.clone() for s in self.before]
        self.arguments: list[Any] = [  # in the order of `RowPlan.forward`
            *(flat(self.x) for _ in self.inputs), *self.given, self.plan.constants(self.program), flat(self.y),
            *map(flat, self.after), *(flat(s[:0]) for s in self.after),
            group_lengths(None, self.rows, 1), np.zeros(len(states), np.int64), 1,
        ]  # fmt: skip

    def _given(self, params: Sequence[Tensor]) -> list[np.ndarray]:
        rows = [q.detach().reshape(1, -1) for q in params]
        return [flat(g) for g in self.plan.given(self.program, rows)]

    def __call__(self, x: Tensor) -> Tensor:
        for after, before in zip(self.after, self.before):
            after.copy_(before)
        self.x.copy_(pack(x.reshape(self.rows, 1, -1)))
        pool.run_groups(self.kernel, self.arguments, len(self.x), self.y.numel())
        y = unpack(self.y, self.rows)
        return y.reshape(self.rows, *self.plan.output_shape).clone().to(x.dtype)

    def keep(self) -> None:
        for before, after in zip(self.before, self.after):
            before.copy_(after)

    def states(self) -> list[Tensor]:
        return [unpack(s, self.rows).reshape(end).clone() for s, end in zip(self.before, self.ends)]
