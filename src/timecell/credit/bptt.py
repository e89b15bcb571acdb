"""Backpropagation through time: through all of it, through stretches of it, or not through it at all."""

from __future__ import annotations

from dataclasses import dataclass

from timecell.credit.compose import Named, Rule
from timecell.credit.time_paths import Full, Instantaneous, RandomSteps, Truncated, at_least_one
from timecell.fuse import Memory, checked_memory


@dataclass(frozen=True)
class BPTT(Named):
    """Backpropagation through all of time: the exact gradient (Werbos, 1990).

    Attributes:
        memory: "full", everything is kept, so memory grows with the number of steps; "sqrt" or a number of steps, the
            net's state every so many steps, and the rest is computed again: the same gradient in less memory.

    Example:
        >>> list(BPTT().slices(100))
        [slice(0, 100, None)]
    """

    memory: Memory = "full"

    def __post_init__(self) -> None:
        checked_memory("BPTT(memory)", self.memory)

    @property
    def rule(self) -> Rule:
        """Full in time, exact in space."""
        return Rule(Full(self.memory))


@dataclass(frozen=True)
class TruncatedBPTT(Named):
    """Backpropagation through stretches of time; the state goes on, blame stops at their borders.

    Attributes:
        steps: length of a stretch; memory grows with this, not with the sequence.

    Example:
        >>> list(TruncatedBPTT(steps=40).slices(100))
        [slice(0, 40, None), slice(40, 80, None), slice(80, 100, None)]
    """

    steps: int = 50

    def __post_init__(self) -> None:
        at_least_one(self, "steps")

    @property
    def rule(self) -> Rule:
        """Truncated in time, exact in space."""
        return Rule(Truncated(self.steps))


@dataclass(frozen=True)
class SLTT(Named):
    """Spatial learning through time: blame goes down through the layers and never back in time (Meng et al., 2023).

        dL/dW = sum over t of  dL_t/dy_t  dy_t/dW   with the state before t held constant

    With `k` (SLTT-K) only k steps of a sequence are blamed, drawn anew for each; the others run without a graph. Their
    blame counts T/k times, so that the mean over draws is the gradient without `k` and a learning rate that suits one
    suits the other. (The authors' program leaves this factor out; Adam does not see the difference.)

    Every stretch length gives the same gradient in nets of fused cells, so it trades speed (long stretches are fused)
    for memory. A module that mixes time by itself carries blame within a stretch; with ``steps=1`` nothing does.

    Attributes:
        steps: length of a stretch.
        k: how many steps of a sequence are blamed; None: all of them.

    Example:
        >>> list(SLTT(steps=4).slices(10))
        [slice(0, 4, None), slice(4, 8, None), slice(8, 10, None)]
    """

    steps: int = 4
    k: int | None = None

    def __post_init__(self) -> None:
        at_least_one(self, "steps", "k")

    @property
    def rule(self) -> Rule:
        """No path in time, exact in space."""
        return Rule(Instantaneous(self.steps) if self.k is None else RandomSteps(self.steps, self.k))
