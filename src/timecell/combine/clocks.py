"""Other clocks than the data's: Ticks runs a cell several times a step, Every runs it at some steps only.

Neither walks through time itself: they stretch or thin out the sequence and hand it to the cell as a whole.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.cell import check_sequence
from timecell.combine.containers import _Container
from timecell.combine.example import _Leak
from timecell.errors import InputError, unknown_name
from timecell.fuse.loop import silence
from timecell.state import StateTree


class Ticks(_Container):
    """A fast clock: n inner steps of a cell for each step of the data, with the input held meanwhile.

    Args:
        cell: what runs.
        n: inner steps a data step.
        keep: "last", the output of the last tick of each step; "all", the outputs of every tick, on an axis of their own.

    Shapes: x [B, T, ...] -> y [B, T, ...] ("last") or [B, T, n, ...] ("all"); state {"cell": its state}.

    Example:
        >>> from timecell import LeakyIntegrator
        >>> x = torch.ones(1, 2, 1)
        >>> Ticks(LeakyIntegrator(1, tau=1e9), 3)(x)[0].flatten().round().tolist()
        [3.0, 6.0]
        >>> Ticks(LeakyIntegrator(1, tau=1e9), 3, keep="all")(x)[0].squeeze(-1).round().tolist()
        [[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]
    """

    @classmethod
    def example(cls) -> Ticks:
        """For the checks."""
        return cls(_Leak(4), 3)

    def __init__(self, cell: nn.Module, n: int, keep: Literal["last", "all"] = "last") -> None:
        super().__init__()
        if keep not in ("last", "all"):
            raise unknown_name("Ticks(keep)", str(keep), ("last", "all"))
        self.n, self.keep = _at_least_one("Ticks(n)", n), keep
        self._adopt({"cell": cell})

    def _lookahead(self, of_children: list[int]) -> int:
        return -(-of_children[0] // self.n)  # seen from the last tick of a step, rounded up to whole steps

    def forward(
        self, x: Float[Tensor, "B T ..."], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T ..."], StateTree]:
        """The cell on n T steps."""
        check_sequence("Ticks(x)", x, lengths)
        inner = x.repeat_interleave(self.n, 1)
        ends = None if lengths is None else lengths * self.n
        y, after = self.cells()["cell"](inner, self._parts(state)["cell"], lengths=ends)
        y = y.unflatten(1, (x.shape[1], self.n))
        return y if self.keep == "all" else y[:, :, -1], {"cell": after}

    def extra_repr(self) -> str:
        """Ticks a step, and which are kept."""
        return f"n={self.n}, keep={self.keep!r}"


class Every(_Container):
    """A slow clock: the cell runs at every k-th step, the first one included, and its output is held in between.

    Args:
        k: steps from one run to the next.
        cell: what runs; its time constants count its own runs.

    Shapes: x [B, T, ...] -> y [B, T, ...]; state {"cell": its state, "y": the held output [B, ...], "phase": steps
    since its last run [B], 0 where it is due}.

    Example:
        >>> x = torch.arange(7.0).view(1, 7, 1)
        >>> Every(3, nn.Identity())(x)[0].flatten().tolist()
        [0.0, 0.0, 0.0, 3.0, 3.0, 3.0, 6.0]
    """

    keeps = ("y", "phase")

    @classmethod
    def example(cls) -> Every:
        """For the checks."""
        return cls(3, _Leak(4))

    def __init__(self, k: int, cell: nn.Module) -> None:
        super().__init__()
        self.k = _at_least_one("Every(k)", k)
        self._adopt({"cell": cell})

    def _lookahead(self, of_children: list[int]) -> int:
        return of_children[0] * self.k

    def forward(
        self, x: Float[Tensor, "B T ..."], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T ..."], StateTree]:
        """The cell on the steps at which it is due; it sees a shorter sequence."""
        check_sequence("Every(x)", x, lengths)
        parts = self._parts(state)
        B, T = x.shape[:2]
        samples = torch.arange(B, device=x.device)
        phase = torch.zeros_like(samples) if state is None else parts["phase"]
        ends = torch.full_like(samples, T) if lengths is None else lengths
        first = -phase % self.k  # the step of each sample's first run
        runs = (ends - first).add(self.k - 1).div(self.k, rounding_mode="floor").clamp(min=0)
        due = first[:, None] + self.k * torch.arange(-(-T // self.k), device=x.device)
        aligned = state is None and lengths is None  # every sample runs equally often
        y, after = self.cells()["cell"](
            x[samples[:, None], due.clamp(max=T - 1)], parts["cell"], lengths=None if aligned else runs
        )
        held = y.new_zeros(B, *y.shape[2:]) if parts["y"] is None else parts["y"]
        y = torch.cat([held[:, None], y], 1)  # y[:, r] is held after r runs
        so_far = (torch.arange(T, device=x.device) - first[:, None]).div(self.k, rounding_mode="floor") + 1
        after = {"cell": after, "y": y[samples, runs], "phase": (phase + ends) % self.k}
        return silence(y[samples[:, None], so_far], lengths), after

    def extra_repr(self) -> str:
        """Steps from run to run."""
        return f"k={self.k}"


def _at_least_one(place: str, n: int) -> int:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise InputError(place, found=repr(n), expected="a whole number from 1", remedy="choose one")
    return n
