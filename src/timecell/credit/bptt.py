"""Backpropagation through time: through all of it, through stretches of it, or not through it at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from timecell import fuse
from timecell.credit.rule import Loss, run_slice
from timecell.data.containers import Batch
from timecell.errors import InputError
from timecell.state import StateTree


@dataclass(frozen=True)
class BPTT:
    """Backpropagation through all of time: the exact gradient. Memory grows with the number of steps (Werbos, 1990).

    Example:
        >>> list(BPTT().slices(100))
        [slice(0, 100, None)]
    """

    def slices(self, steps: int) -> Iterable[slice]:
        """One slice that holds everything."""
        return (slice(0, steps),)

    def backward(
        self,
        net: nn.Module,
        batch: Batch,
        steps: slice,
        state: StateTree,
        loss: Loss,
        autograd: Callable[[Tensor], Any] = torch.autograd.backward,
    ) -> tuple[Tensor, StateTree]:
        """See `Credit.backward`."""
        y, state = run_slice(net, batch, steps, state)
        value = loss(y, batch, steps)
        autograd(value)
        return value.detach(), state


@dataclass(frozen=True)
class TruncatedBPTT(BPTT):
    """Backpropagation through stretches of time; the state goes on, blame stops at their borders.

    Attributes:
        steps: length of a stretch; memory grows with this, not with the sequence.

    Example:
        >>> list(TruncatedBPTT(steps=40).slices(100))
        [slice(0, 40, None), slice(40, 80, None), slice(80, 100, None)]
    """

    steps: int = 50

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(
                f"{type(self).__name__}(steps)", found=self.steps, expected="at least 1", remedy="choose a longer slice"
            )

    def slices(self, steps: int) -> Iterable[slice]:
        """Stretches of equal length; the last one may be shorter."""
        return tuple(slice(t, min(t + self.steps, steps)) for t in range(0, steps, self.steps))


@dataclass(frozen=True)
class SLTT(TruncatedBPTT):
    """Spatial learning through time: blame goes down through the layers and never back in time (Meng et al., 2023).

    Every stretch length gives the same gradient in nets of fused cells, so it trades speed (long stretches are fused)
    for memory. A module that mixes time by itself carries blame within a stretch; with ``steps=1`` nothing does.

    Attributes:
        steps: length of a stretch.
    """

    steps: int = 4

    def backward(
        self,
        net: nn.Module,
        batch: Batch,
        steps: slice,
        state: StateTree,
        loss: Loss,
        autograd: Callable[[Tensor], Any] = torch.autograd.backward,
    ) -> tuple[Tensor, StateTree]:
        """See `Credit.backward`."""
        with fuse.carry("none"):
            return super().backward(net, batch, steps, state, loss, autograd)
