"""Dropout for sequences: one mask for all of time, or a fresh one at each step."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from timecell.cell import Cell, check_sequence
from timecell.combine import silence
from timecell.errors import InputError, unknown_name
from timecell.layers.noise import NoiseState, start, uniform
from timecell.state import StateTree


class Dropout(Cell):
    """In training, silence each unit with probability p and scale the others by 1 / (1 - p); in eval, do nothing.

    A mask is a function of the sample's seed, the unit and, if fresh, the step. The seed is drawn from torch's generator
    when a sequence begins and is state, so slices of a sequence, or its instants one by one, meet the masks of the
    whole.

    Args:
        p: probability in [0, 1).
        over_time: "same", one mask for the whole sequence (Gal & Ghahramani, 2016); "fresh", a new one at each step.

    Shapes: x [B, T, ...] -> y of the same shape; state (seed [B], step [B]) in training, unchanged in eval.

    Example:
        >>> drop = Dropout(0.5)
        >>> whole, state = drop(torch.ones(1, 4, 8))
        >>> bool((whole == whole[:, :1]).all())
        True
        >>> again, _ = drop(torch.ones(1, 3, 8), state)
        >>> torch.equal(again, whole[:, :3])
        True
    """

    exempt = {"gradients": "without a state, training draws a new mask at every call"}

    @classmethod
    def example(cls) -> Dropout:
        """For the checks."""
        return cls(0.3)

    def __init__(self, p: float = 0.5, over_time: Literal["same", "fresh"] = "same") -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise InputError("Dropout(p)", found=p, expected="a probability in [0, 1)", remedy="choose one, e.g. 0.2")
        if over_time not in ("same", "fresh"):
            raise unknown_name("Dropout(over_time)", str(over_time), ("same", "fresh"))
        self.p, self.over_time = p, over_time

    def forward(
        self, x: Float[Tensor, "B T ..."], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T ..."], StateTree]:
        """x with units silenced."""
        check_sequence("Dropout(x)", x, lengths)
        if not self.training:
            return silence(x, lengths), state
        seed, before = start(x.shape[0], x.device) if state is None else state
        if len(seed) != x.shape[0]:
            raise InputError(
                "Dropout(state)", found=f"seeds of {len(seed)} samples", expected=f"those of {x.shape[0]}",
                remedy="pass the state this cell returned for this batch, or None to start anew",
            )  # fmt: skip
        steps = before[:, None] + torch.arange(x.shape[1], device=x.device)
        drawn = uniform(seed, steps if self.over_time == "fresh" else torch.zeros_like(steps[:, :1]), x.shape[2:])
        y = torch.where(drawn >= self.p, x / (1 - self.p), torch.zeros_like(x))
        return silence(y, lengths), NoiseState(seed, before + (x.shape[1] if lengths is None else lengths))

    def extra_repr(self) -> str:
        """Probability, and how long a mask lasts."""
        return f"p={self.p}, over_time={self.over_time!r}"
