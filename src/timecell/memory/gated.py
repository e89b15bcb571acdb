"""Gated recurrent cells under the contract of `Cell`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.cell import Cell, check_sequence
from timecell.combine import silence
from timecell.state import StateTree


class Hidden(NamedTuple):
    """What a gated cell remembers: its hidden units [B, N]."""

    h: Tensor


class GRU(Cell):
    """Gated recurrent unit (Cho et al., 2014), one layer, on torch's own implementation.

    Args:
        inputs: I.
        size: N hidden units.

    Shapes: x [B, T, I] -> h [B, T, N]; state h [B, N].

    Example:
        >>> y, state = GRU(3, 4)(torch.ones(2, 5, 3))
        >>> bool((y[:, -1] == state.h).all())
        True
    """

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(inputs, size, batch_first=True)

    @classmethod
    def example(cls) -> GRU:
        """For the checks."""
        return cls(4, 3)

    def forward(
        self, x: Float[Tensor, "B T I"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T N"], StateTree]:
        """Whole sequences; each sample stops at its own end."""
        check_sequence("GRU(x)", x, lengths)
        before = x.new_zeros(x.shape[0], self.rnn.hidden_size) if state is None else state.h
        y, last = self.rnn(silence(x, lengths), before[None])
        if lengths is None:
            return y, Hidden(last[0])
        ends = torch.cat([before[:, None], y], 1)  # ends[:, L] is the state after L steps
        return silence(y, lengths), Hidden(ends[torch.arange(len(lengths)), lengths])
